"""How close a result came to each of its bounds: how much room the bounds leave for right ports."""

from __future__ import annotations

import math
from collections.abc import Iterator

from align.core.judgement import nan_last
from align.core.result import AlignmentResult, LayerRow


def closeness(result: AlignmentResult) -> dict[str, float]:
    """Return the greatest ratio of figure to bound, by what is judged: above 1 is over, 0 is no difference at all.

    The keys are precision and figure (`float64 introduced`), separately the headline with its own bound (`float32
    logits`), and the names of the gates not judged by layers. A bound of 0 asks for equal bits, so such checks are out.
    """
    greatest: dict[str, float] = {}
    for name, figure, bound in (*_of_layers(result), *_of_sections(result)):
        greatest[name] = max(greatest.get(name, 0.0), _over(figure, bound))
    return greatest


def _of_layers(result: AlignmentResult) -> Iterator[tuple[str, float, float]]:
    """Yield what is judged at each point, not what is only shown, whose bound is infinite."""
    headline = result.sides.headline
    for row in result.layers:
        for name, figure, bound in _of_layer(row):
            if not math.isinf(bound):
                is_headline = (row.name, name) == (headline, "float32 inherited")
                yield f"float32 {headline}" if is_headline else name, figure, bound


def _of_layer(row: LayerRow) -> Iterator[tuple[str, float, float]]:
    for precision, differences in (("float64", row.float64), ("float32", row.float32)):
        for figure, diff in differences.each().items():
            yield f"{precision} {figure}", diff.max_abs_diff, diff.bound


def _of_sections(result: AlignmentResult) -> Iterator[tuple[str, float, float]]:
    for section in result.sections:
        for check in section.checks:
            if check.bound:
                yield section.gate.name, check.figure, check.bound


def _over(figure: float, bound: float) -> float:
    """Return the ratio; it is 0 for two values that agree in every bit, even with a bound of 0."""
    if figure == 0 and bound >= 0:
        return 0.0
    return nan_last(figure / bound) if bound > 0 else math.inf
