"""The measured accuracy with its interval, against the published line, as geometry. Pure.

Horizontal positions are in per cent of the width, vertical ones in pixels, as in `align.render.chart`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.score.verdict import AuditFinding

MARGIN = 0.25
"""Room on either side, as a share of the values' span."""
LEAST = 0.5
"""Smallest span of the values to plot, in percentage points."""
TICKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalPlot:
    """Positions in per cent of the width. published is None where there is no row to compare with.

    near_end: the published label stands left of its line, because there is no room on the right.
    """

    low: float
    high: float
    measured: float
    published: float | None
    near_end: bool
    ticks: tuple[tuple[float, str], ...]


def interval_plot(finding: AuditFinding) -> IntervalPlot:
    """Return the plot of a finding: measured, its interval, and the published figure if there is one."""
    low, high = finding.interval
    values = [low, high, finding.measured, *([] if finding.published is None else [finding.published])]
    span = max(max(values) - min(values), LEAST)
    centre = (max(values) + min(values)) / 2
    left, right = centre - span * (0.5 + MARGIN), centre + span * (0.5 + MARGIN)

    def at(value: float) -> float:
        return float(round(100 * (value - left) / (right - left), 3))

    published = None if finding.published is None else at(finding.published)
    return IntervalPlot(
        low=at(low),
        high=at(high),
        measured=at(finding.measured),
        published=published,
        near_end=published is not None and published > 50,
        ticks=tuple((at(value), text) for value, text in _ticks(left, right)),
    )


def _ticks(left: float, right: float) -> list[tuple[float, str]]:
    """Return round values within the axis, about TICKS of them."""
    rough = (right - left) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    digits = max(0, -math.floor(math.log10(step)))
    count = range(math.ceil(left / step), math.floor(right / step) + 1)
    return [(index * step, f"{index * step:.{digits}f}") for index in count if 0 <= index * step <= 100]
