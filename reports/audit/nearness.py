"""Whether two results are of the same comparison, run twice: other processors round otherwise, and no more. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from align.core.bounds import ROUNDOFF, Precision
from align.core.compare import LayerDiff
from align.core.result import AlignmentResult, Check, LayerRow

TIMES = 64.0
"""How many times a figure another run's may be. The greatest of a few differences is a matter of chance: the kernels of
OpenBLAS for Haswell and SkylakeX give figures within a few times of each other."""

SCALE = 1e-4
"""By what part of itself a magnitude may be another one."""

PRECISIONS: tuple[Precision, ...] = ("float64", "float32")


def far_from(found: AlignmentResult, again: AlignmentResult) -> str | None:
    """Return in a sentence the first thing in which two results differ by more than rounding, or None."""
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
        yield f"{row.name}: its size is {row.size:.3e} in the bundle, {other.size:.3e} here"
    for precision in PRECISIONS:
        mine, theirs = getattr(row, precision).each(), getattr(other, precision).each()
        for figure, diff in mine.items():
            if figure in theirs and not _same(diff, theirs[figure], precision):
                one, two = diff.max_abs_diff, theirs[figure].max_abs_diff
                yield f"{row.name}: {precision} {figure.replace('_', ' ')} is {one:.1e} in the bundle, {two:.1e} here"


def _same(diff: LayerDiff, other: LayerDiff, precision: Precision) -> bool:
    if not math.isfinite(other.max_abs_diff):
        return not math.isfinite(diff.max_abs_diff)
    floor = ROUNDOFF[precision] * other.scale
    scales = abs(diff.scale - other.scale) <= SCALE * other.scale
    return scales and _near(diff.max_abs_diff, other.max_abs_diff, floor)


def _alike(check: Check, other: Check) -> bool:
    """Return whether two checks are of the same thing; counts are equal, and what has a bound may come nearer to it."""
    if check.subject != other.subject or (check.bound is None) != (other.bound is None):
        return False
    if not check.bound or not other.bound:
        return check.figure == other.figure or check.bound is None
    bounds = _near(check.bound, other.bound, 0.0)
    return bounds and _near(check.figure, other.figure, other.bound / TIMES)


def _near(value: float, other: float, floor: float) -> bool:
    return value <= TIMES * other + floor and other <= TIMES * value + floor
