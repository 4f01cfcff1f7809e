"""A few numbers that stand for an array: seeded projections, extrema and norm. Pure.

A difference Δ between two arrays of n elements moves each projection by about its root mean square, |Δ| / sqrt(n):
permuted rows or channels, a flipped sign and a single changed element all show, which norms and extrema may miss.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from convert.arrays import Array, Shape

PROJECTIONS = 16
"""How many projections a sketch has. A difference that happens to cancel in one of them still moves the others."""

LABEL = "mixer-align/trace/1"
"""The label that the weights are derived from; another one would give another set of projections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What is kept of one point: scalars only, in float64.

    projections: PROJECTIONS weighted sums of all elements, each over the square root of their number. rms: the root
    mean square of the elements.
    """

    name: str
    shape: Shape
    minimum: float
    maximum: float
    rms: float
    projections: tuple[float, ...]

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(abs(self.minimum), abs(self.maximum))

    @property
    def finite(self) -> bool:
        """Whether every element was finite: a NaN or an infinity shows in the extrema."""
        return math.isfinite(self.minimum) and math.isfinite(self.maximum)


def sketch(name: str, array: Array) -> Sketch:
    """Return the sketch of a non-empty array (…, channels) of any floating dtype.

    Projection k is the sum over rows r and channels c of rows_k[r] · x[r, c] · channels_k[c], over sqrt(x.size), where
    all leading axes count as rows. The weights have mean 0 and variance 1, so that the mean square of a projection of
    a difference is, over all such weights, the mean square of the difference itself.
    """
    values = array.reshape(-1, array.shape[-1]).astype(np.float64)
    rows, channels = values.shape
    with np.errstate(invalid="ignore", over="ignore"):
        by_channel = weights_along("rows", rows) @ values
        projections = (by_channel * weights_along("channels", channels)).sum(axis=1) / math.sqrt(values.size)
        rms = math.sqrt(float(np.square(values).mean()))
    return Sketch(
        name=name,
        shape=array.shape,
        minimum=float(values.min()),
        maximum=float(values.max()),
        rms=rms,
        projections=tuple(projections.tolist()),
    )


@functools.cache
def weights_along(axis: Literal["rows", "channels"], length: int) -> Array:
    """Return the weights (PROJECTIONS, length) of an axis: uniform, mean 0, variance 1.

    They come from SHAKE-256 and not from a random generator, whose stream a later release may change.
    """
    digest = hashlib.shake_256(f"{LABEL} {axis} {length}".encode()).digest(4 * PROJECTIONS * length)
    integers = np.frombuffer(digest, dtype="<u4").reshape(PROJECTIONS, length)
    return np.asarray((integers / 2.0**31 - 1.0) * math.sqrt(3))


def distance(one: Sketch, other: Sketch) -> float:
    """Return the root mean square of the projections' differences: an estimate of that of the arrays' elements.

    NaN or infinite if either array held such an element.
    """
    differences = [a - b for a, b in zip(one.projections, other.projections, strict=True)]
    return math.hypot(*differences) / math.sqrt(len(differences))


def summary_distance(one: Sketch, other: Sketch) -> float:
    """Return the greatest difference of minimum, maximum and rms, none of which can exceed that of the elements."""
    pairs = ((one.minimum, other.minimum), (one.maximum, other.maximum), (one.rms, other.rms))
    return float(np.max([abs(a - b) for a, b in pairs]))
