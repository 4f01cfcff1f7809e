"""The core of a comparison: two arrays in, figures out. Pure, and every bound is checked as `value <= bound`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from align.core.bounds import FLOAT32_ULP, Tolerance
from convert.arrays import Array, Shape

AT_A_TIME = 2**15
"""Elements compared at a time: their differences, 256 KiB, stay in a core's cache, which saves a third of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDiff:
    """How two sides differ at one layer, in scalars only, so that a result holds no activations.

    scale is the largest magnitude of the reference at the layer.
    """

    name: str
    shape: Shape
    dtype: str
    scale: float
    max_abs_diff: float
    max_ulp_diff: float
    worst_index: tuple[int, ...]
    reference_value: float
    candidate_value: float
    bound: float
    num_over: int
    num_elements: int
    passed: bool


def compare(name: str, reference: Array, candidate: Array, tolerance: Tolerance, scale: float) -> LayerDiff:
    """Return how far the candidate lies from the reference.

    Args:
        name: The layer.
        reference: The reference's values, of any floating dtype.
        candidate: The candidate's values, of the same shape; nothing is broadcast.
        tolerance: How far they may differ.
        scale: The largest magnitude of the reference, from `largest`.

    Differences are taken in float64, which hardly rounds those of float32 values. An empty or mis-shaped comparison
    does not pass, nor does one that meets a NaN or an infinity on either side.
    """
    bound = tolerance.bound(scale)
    if reference.shape != candidate.shape or reference.size == 0:
        return _incomparable(name, reference, candidate, bound)
    greatest, at = _farthest(reference.reshape(-1), candidate.reshape(-1))
    worst = np.unravel_index(at, reference.shape)
    passed = greatest <= bound and math.isfinite(greatest)
    return LayerDiff(
        name=name,
        shape=reference.shape,
        dtype=candidate.dtype.name,
        scale=scale,
        max_abs_diff=greatest,
        max_ulp_diff=in_ulp(greatest, scale),
        worst_index=tuple(int(i) for i in worst),
        reference_value=float(reference[worst]),
        candidate_value=float(candidate[worst]),
        bound=bound,
        num_over=0 if passed else _count_over(reference, candidate, bound),
        num_elements=reference.size,
        passed=passed,
    )


def _farthest(reference: Array, candidate: Array) -> tuple[float, int]:
    """Return the greatest difference of two flat arrays (NaN if any difference is NaN) and its index."""
    greatest, at, scratch = -1.0, 0, np.empty(min(AT_A_TIME, reference.size))
    for start in range(0, reference.size, AT_A_TIME):
        part = reference[start : start + AT_A_TIME]
        difference = scratch[: part.size]
        with np.errstate(invalid="ignore"):
            np.subtract(part, candidate[start : start + AT_A_TIME], out=difference, dtype=np.float64)
        np.abs(difference, out=difference)
        if not (found := float(difference.max())) <= greatest:
            greatest, at = found, start + int(difference.argmax())
        if math.isnan(greatest):
            break
    return greatest, at


def _count_over(reference: Array, candidate: Array, bound: float) -> int:
    with np.errstate(invalid="ignore"):
        difference = np.subtract(reference, candidate, dtype=np.float64)
    return int(np.count_nonzero(~(np.abs(difference) <= bound)))


def largest(array: Array) -> float:
    """Return the largest magnitude in an array; NaN if it holds one, 0 if it is empty."""
    if array.size == 0:
        return 0.0
    return float(max(abs(array.max()), abs(array.min())))


def in_ulp(difference: float, scale: float) -> float:
    """Return a difference in float32 units in the last place of the largest magnitude."""
    if scale == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / (FLOAT32_ULP * scale)


def _incomparable(name: str, reference: Array, candidate: Array, bound: float) -> LayerDiff:
    return LayerDiff(
        name=name,
        shape=candidate.shape,
        dtype=candidate.dtype.name,
        scale=math.nan,
        max_abs_diff=math.nan,
        max_ulp_diff=math.nan,
        worst_index=(),
        reference_value=math.nan,
        candidate_value=math.nan,
        bound=bound,
        num_over=max(candidate.size, 1),
        num_elements=reference.size,
        passed=False,
    )
