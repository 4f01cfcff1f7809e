"""Values that a layer rarely meets, of any magnitude, zero, constant, with an outlier; and what rounding explains.

Pure. What rounding explains is measured on the layer itself: how far its result moves when each value given is moved by
a small part of itself. A stable algorithm errs by about as much, in whatever order it computes.

Source: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., SIAM 2002, sections 1.5 and 1.6
(backward error and conditioning).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from align.core.bounds import FLOAT64, ROUNDOFF
from convert.arrays import Array, Shape

SMALLEST, LARGEST = 1e-4, 1e4
OUTLIER = 1e3
"""Magnitude of an outlier, relative to that of its row."""

NEAR = 8.0
"""Distance from zero within which activations bend; one row covers it evenly."""

MAGNITUDES = (SMALLEST, 1e-2, 1.0, 1e1, 1e2, LARGEST)
FEWER = (SMALLEST, 1e1, LARGEST)
"""Magnitudes for a layer that takes whole examples, each with as many values as one of a batch."""

EXAMPLE = 2**14
"""Values of an image, or of a map of it, above which a part of it suffices: a convolution is given 20 examples."""

IMAGE_AXES = (2, 3)
LEAST_SIDE = 8
"""Least side of such a part: more than a kernel, so that not all is border. All are powers of two, as patches are."""

MOVED = 2.0**-40
"""The part of itself by which a value is moved: far above float64's roundoff, too little for the result to bend."""

SEED = 0x57E55
PERIOD = 8191
"""How many signs are drawn before they repeat; a prime, so that rows differ."""


@functools.lru_cache(maxsize=4)
def rows(width: int, magnitudes: tuple[float, ...] = MAGNITUDES) -> Array:
    """Return rows (…, width) in float64: each pattern in each magnitude, zeros, and one evenly from -NEAR to NEAR."""
    rng, factors = np.random.default_rng([SEED, width]), np.array(magnitudes)[:, None]
    drawn = [pattern(rng.standard_normal((len(magnitudes), width))) * factors for pattern in PATTERNS]
    return np.concatenate([*drawn, np.zeros((1, width)), np.linspace(-NEAR, NEAR, width)[None]])


def smaller(shape: Shape) -> Shape:
    """Return the shape of the part of an image, or of a map of it, that suffices to show what a layer does.

    Example:
        >>> smaller((2, 256, 56, 56)), smaller((2, 3, 32, 32))
        ((2, 256, 8, 8), (2, 3, 32, 32))
    """
    axes = len(shape) - 2
    if axes not in IMAGE_AXES or math.prod(shape[1:]) <= EXAMPLE:
        return shape
    side = max(LEAST_SIDE, 2 ** int(math.log2(EXAMPLE / shape[1]) / axes))
    return (*shape[:2], *(min(side, size) for size in shape[2:]))


def stress(shape: Shape, *, by_row: bool) -> Array:
    """Return a tensor in float64 for a layer that was given one of this shape.

    by_row: Whether all axes but the last count rows: (1, …, rows, width). Otherwise the shape is kept except for the
    batch, which has an example of each pattern in fewer magnitudes.
    """
    if by_row:
        return rows(shape[-1]).reshape(*[1] * (len(shape) - 2), -1, shape[-1])
    return rows(math.prod(shape[1:]), FEWER).reshape(-1, *shape[1:])


def moved(values: Array) -> Array:
    """Return each value moved up or down by MOVED of itself."""
    signs = np.resize(np.random.default_rng(SEED).choice([1 - MOVED, 1 + MOVED], PERIOD), values.shape)
    return np.asarray(values * signs)


def explained(values: Array, result: Array, moved_result: Array, *, by_row: bool) -> Array:
    """Return how far another result may differ from a layer's in float64, per row or example, to be broadcast.

    Args:
        values: What the layer was given.
        result: What it made of them.
        moved_result: What it made of the moved values.
        by_row: Whether it takes rows one by one, rather than examples.
    """
    terms = values.shape[-1] if by_row else math.prod(values.shape[1:])
    largest = np.maximum(*(_greatest(one, by_row=by_row) for one in (values, result)))
    bends = _greatest(moved_result - result, by_row=by_row) / MOVED
    allowed = np.maximum(FLOAT64.rtol * largest, 2 * terms * ROUNDOFF["float64"] * bends)
    return np.asarray(
        allowed.reshape(*result.shape[:-1], 1) if by_row else allowed.reshape(-1, *[1] * (result.ndim - 1))
    )


def _greatest(values: Array, *, by_row: bool) -> Array:
    """Return the greatest finite magnitude in each row or example."""
    flat = values.reshape(-1, values.shape[-1]) if by_row else values.reshape(len(values), -1)
    greatest = np.maximum(flat.max(axis=1), -flat.min(axis=1))
    if np.isfinite(greatest).all():
        return np.asarray(greatest)
    return np.asarray(np.nan_to_num(np.abs(flat), nan=0.0, posinf=0.0).max(axis=1))


def _with_outlier(drawn: Array) -> Array:
    middle = drawn.shape[1] // 2
    drawn[:, middle] = np.copysign(OUTLIER, drawn[:, middle])
    return drawn


PATTERNS: tuple[Callable[[Array], Array], ...] = (
    lambda drawn: drawn,
    np.abs,
    lambda drawn: -np.abs(drawn),
    np.ones_like,
    lambda drawn: -np.ones_like(drawn),
    _with_outlier,
)
"""Of both signs, positive, negative, constant 1 and -1, and with one outlier; each is given standard normal values."""
