"""Whether two results can come from one comparison run twice, on processors that round differently. Pure.

A reference and a candidate that sum in the same order do not differ; in another order they differ by what rounding
explains. So their difference says little, and only has to keep its bound in both runs. How far float32 lies from the
truth is never zero, and of the same order of magnitude wherever it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from align.core.bounds import ROUNDOFF
from align.core.compare import LayerDiff
from align.core.result import AlignmentResult, Check, LayerRow

TIMES = 64.0
"""How many times farther from the truth another run may be: the maximum of a few differences depends on chance."""

SCALE = 1e-4
"""Relative difference allowed between the magnitudes of a point in two runs."""


def far_from(found: AlignmentResult, again: AlignmentResult) -> str | None:
    """Return a sentence on the first difference between two results that rounding does not explain, or None."""
    return next(_far(found, again), None)


def _far(found: AlignmentResult, again: AlignmentResult) -> Iterator[str]:
    if found.verdict != again.verdict:
        yield f"the verdict is {found.verdict} in the bundle, {again.verdict} here"
    for gate, other in zip(found.gates, again.gates, strict=False):
        if (gate.name, gate.passed) != (other.name, other.passed):
            yield f"gate {gate.name} is not what it is here"
    for row, other_row in zip(found.layers, again.layers, strict=False):
        yield from _rows(row, other_row)
    for section, other_section in zip(found.sections, again.sections, strict=False):
        for check, other_check in zip(section.checks, other_section.checks, strict=False):
            if not _alike(check, other_check):
                said = f"{check.figure:.1e} in the bundle, {other_check.figure:.1e} here"
                yield f"gate {section.gate.name}: {check.subject}: {said}"


def _rows(row: LayerRow, other: LayerRow) -> Iterator[str]:
    if not math.isclose(row.size or 0.0, other.size or 0.0, rel_tol=SCALE):
        yield f"{row.name}: its size is {row.size or 0:.3e} in the bundle, {other.size or 0:.3e} here"
    for precision in ("float64", "float32"):
        again = getattr(other, precision).each()
        for figure, diff in getattr(row, precision).each().items():
            true = precision == "float32" and "witness" in figure
            if figure in again and not _same(diff, again[figure], true=true):
                said = f"{diff.max_abs_diff:.1e} in the bundle, {again[figure].max_abs_diff:.1e} here"
                yield f"{row.name}: {precision} {figure.replace('_', ' ')} is {said}"


def _same(diff: LayerDiff, other: LayerDiff, *, true: bool) -> bool:
    """Return whether both runs agree on a point; true: the figure is the distance of float32 from the truth."""
    if not math.isfinite(other.max_abs_diff):
        return not math.isfinite(diff.max_abs_diff)
    if diff.passed is not other.passed or not abs(diff.scale - other.scale) <= SCALE * other.scale:
        return False
    floor = ROUNDOFF["float32"] * other.scale
    return not true or _near(diff.max_abs_diff, other.max_abs_diff, floor)


def _alike(check: Check, other: Check) -> bool:
    """Return whether two checks have the same subject and, if they are judged, the same outcome and similar bounds."""
    if check.subject != other.subject or (check.bound is None) != (other.bound is None):
        return False
    if check.bound is None or other.bound is None:
        return True
    return check.passed is other.passed and _near(check.bound, other.bound, 0.0)


def _near(value: float, other: float, floor: float) -> bool:
    return value <= TIMES * other + floor and other <= TIMES * value + floor
