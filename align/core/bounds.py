"""How far two values may lie apart: every tolerance, and the one policy that says which of them a point has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from align.core.point import Point
from convert.arrays import Array

Precision = Literal["float32", "float64"]


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

LEAST_EPSILON = 1e-6
"""The least epsilon that a LayerNorm of the models we know has; no row is taken to leave less than its root."""

MARGIN = 16.0
"""How many times the reference's own rounding the candidate's may be, where that is all that is known of a point.

Right ports measure up to 3.4 times the reference's, by the sketches of a recorded trace.
"""

LEAST_ROUNDING: dict[Precision, Tolerance] = {
    "float64": Tolerance(atol=1e-14, rtol=1e-14),
    "float32": Tolerance(atol=0.0, rtol=FLOAT32_ULP),
}
"""The least rounding that is granted to the reference, which may by chance have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointBounds:
    """What passes at one point in one precision: between the sides, of the layer's own making, against the witness."""

    inherited: Tolerance
    introduced: Tolerance
    witness: Tolerance


def bounds_of(
    point: Point, precision: Precision, *, headline: Tolerance, cancellation: float, rounding: float
) -> PointBounds:
    """Return the bounds of a point. In float32 only the headline and what each layer introduces are judged.

    Args:
        point: Where; what is known of its arithmetic.
        precision: Of the run.
        headline: On the float32 difference that is inherited there: UNBOUNDED but for the headline's point.
        cancellation: How many times larger its input is than what a LayerNorm leaves of it.
        rounding: How far the reference in float32 lies from the truth there.
    """
    if precision == "float64":
        return PointBounds(inherited=FLOAT64, introduced=FLOAT64, witness=FLOAT64)
    known = point.terms is not None
    introduced = float32_introduced(point.terms, cancellation) if known else explained_by(rounding, precision)
    return PointBounds(inherited=headline, introduced=introduced, witness=UNBOUNDED)


def float32_introduced(terms: int | None, cancellation: float = 1.0) -> Tolerance:
    """Return what a layer may add in float32 when each of its elements is a sum of this many terms.

    The rounding error of a sum grows with the square root of its length: a right port reaches 12 ulp at the 768 terms
    of a 16-pixel stem and 29 at the 3,072 of a 32-pixel one.

    A LayerNorm subtracts the mean, which leaves the rounding of what cancels: `cancellation` says how many times larger
    its input was than what is left.

    Source: Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5),
    2019, https://doi.org/10.1137/18M1226312.
    """
    longer = math.sqrt(max(1.0, (terms or 1) / TERMS_OF_INTRODUCED_ULP))
    return Tolerance(atol=0.0, rtol=INTRODUCED_ULP * FLOAT32_ULP * longer * cancellation)


def explained_by(rounding: float, precision: Precision) -> Tolerance:
    """Return what passes where the reference itself rounds by so much: MARGIN times that, or the least granted."""
    least = LEAST_ROUNDING[precision]
    return Tolerance(atol=MARGIN * max(rounding, least.atol), rtol=MARGIN * least.rtol)


def cancellation_of(rows: Array, epsilon: float) -> float:
    """Return the greatest ratio, over all rows (…, channels), of a row's magnitude before and after it is centred."""
    centred = np.abs(rows - rows.mean(axis=-1, keepdims=True)).max(axis=-1)
    return max(1.0, float((np.abs(rows).max(axis=-1) / np.maximum(centred, math.sqrt(epsilon))).max()))
