"""The heart: two arrays in, figures out. Pure, and every bound is written `value <= bound`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convert.arrays import Array, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two values may lie apart, given the largest magnitude of the reference."""

    atol: float
    rtol: float

    def bound(self, scale: float) -> float:
        """Return the greatest allowed absolute difference for a layer whose largest magnitude is `scale`."""
        return max(self.atol, self.rtol * scale)


UNBOUNDED = Tolerance(atol=math.inf, rtol=0.0)
"""For figures that are shown and not judged; a NaN still does not pass."""

FLOAT64 = Tolerance(atol=1e-12, rtol=1e-12)
"""A right port measures about 1e-14 in float64, one flipped lowest bit of a weight 3e-10: the bound lies between."""

FLOAT32_ULP = 2.0**-23
"""One float32 unit in the last place, relative to the magnitude; np.spacing would halve just below a power of 2."""

INTRODUCED_ULP = 32
"""What one layer may add in float32, in ulp of its largest magnitude."""

TERMS_OF_INTRODUCED_ULP = 768
"""The length of sum up to which INTRODUCED_ULP holds: that of B/16's stem, on which it was measured."""

LOGITS_ATOL = 1e-5
"""The headline bound on float32 logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDiff:
    """How two sides differ at one layer. Scalars only, so that a result holds no activations.

    scale is the largest magnitude of the reference there.
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


def float32_introduced(terms: int, cancellation: float = 1.0) -> Tolerance:
    """Return what a layer may add in float32 when each of its elements is a sum of this many terms.

    The rounding error of a sum grows with the square root of its length: a right port reaches 12 ulp at the 768 terms
    of a 16-pixel stem and 29 at the 3,072 of a 32-pixel one.

    A LayerNorm subtracts the mean, which leaves the rounding of what cancels: `cancellation` says how many times larger
    its input was than what is left.

    Source: Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5),
    2019, https://doi.org/10.1137/18M1226312.
    """
    longer = math.sqrt(max(1.0, terms / TERMS_OF_INTRODUCED_ULP))
    return Tolerance(atol=0.0, rtol=INTRODUCED_ULP * FLOAT32_ULP * longer * cancellation)


def compare(name: str, reference: Array, candidate: Array, tolerance: Tolerance, scale: float) -> LayerDiff:
    """Return how far the candidate lies from the reference.

    Args:
        name: The layer.
        reference: Any floating dtype.
        candidate: Of the same shape; nothing is broadcast.
        tolerance: What passes.
        scale: The largest magnitude of the reference, from `largest`.

    Differences are taken in float64, where those of float32 values are exact. An empty or mis-shaped comparison does
    not pass, nor does one that meets a NaN or an infinity on either side.
    """
    bound = tolerance.bound(scale)
    if reference.shape != candidate.shape or reference.size == 0:
        return _incomparable(name, reference, candidate, bound)
    with np.errstate(invalid="ignore"):
        difference = np.subtract(reference, candidate, dtype=np.float64)
    np.abs(difference, out=difference)
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    greatest = float(difference[worst])
    passed = greatest <= bound and math.isfinite(greatest)
    return LayerDiff(
        name=name,
        shape=reference.shape,
        dtype=candidate.dtype.name,
        scale=scale,
        max_abs_diff=greatest,
        max_ulp_diff=_in_ulp(greatest, scale),
        worst_index=tuple(int(i) for i in worst),
        reference_value=float(reference[worst]),
        candidate_value=float(candidate[worst]),
        bound=bound,
        num_over=0 if passed else int(np.count_nonzero(~(difference <= bound))),
        num_elements=difference.size,
        passed=passed,
    )


def cancellation_of(rows: Array, epsilon: float) -> float:
    """Return the greatest ratio, over all rows (…, channels), of a row's magnitude before and after it is centred."""
    centred = np.abs(rows - rows.mean(axis=-1, keepdims=True)).max(axis=-1)
    return max(1.0, float((np.abs(rows).max(axis=-1) / np.maximum(centred, math.sqrt(epsilon))).max()))


def largest(array: Array) -> float:
    """Return the largest magnitude in an array; NaN if it holds one, 0 if it is empty."""
    if array.size == 0:
        return 0.0
    return float(max(abs(array.max()), abs(array.min())))


def _in_ulp(difference: float, scale: float) -> float:
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
