"""The size of an operation: how large the numbers are that it rounds, in units of whose last place it errs. Pure.

A computed result lies within a few times size · u of the true one, where u is the unit roundoff. The sizes are those of
running error analysis: the magnitude of every intermediate result, however much of it cancels afterwards. A sum of n
terms rounds n partial sums, whose errors add up like the root of the sum of their squares: sqrt(n / 2) times the terms'
root sum of squares where these have random signs, sqrt(n / 3) times the result where all have the same one. The size
here is the sum of both; for a mean, sqrt(n) or n / 8 times its terms' root mean square, whichever is more, because
Paddle adds them one after another (paddlepaddle 3.3.1). If the terms are so much alike that each rounds its sum in the
same direction, the factor is n / 2.

Sources: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., SIAM 2002, section 3.3 (running error
analysis); Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5), 2019,
https://doi.org/10.1137/18M1226312 (sqrt(n) for n); the same, "Sharper Probabilistic Backward Error Analysis for Basic
Linear Algebra Kernels with Random Data", SIAM J. Sci. Comput. 42(5), 2020, https://doi.org/10.1137/20M1314355 (terms of
both signs).
"""

from __future__ import annotations

import math

import numpy as np

from align.core.bounds import ROUNDOFF
from align.core.compare import largest
from convert.arrays import Array

ALIKE = 64
"""Terms round alike if they differ by less than this many units of roundoff of their sum."""

PARTS = 16
"""How many parts a sum is split into to see its partial sums: terms sorted by sign go far before they come back."""

FAR = 8
"""A bias more than this many times the terms is rounded alike at each of them."""

ROWS = 32
"""How many rows of a product are looked at, if there are more: those greatest in norm."""


def size_of_sum(count: int, terms: float, reached: float) -> float:
    """Return the size of a sum of `count` terms with root sum of squares `terms` and greatest partial sum `reached`."""
    return math.sqrt(count / 2) * terms + math.sqrt(count / 3) * reached


def size_of_affine(x: Array, weight: Array, bias: Array, product: Array) -> float:
    """Return the size of a matrix product and a bias; a kernel may begin with the bias, so that each sum is that large.

    Args:
        x: (…, in).
        weight: (out, in).
        bias: (out,).
        product: x @ weight.T, (…, out).
    """
    rows, columns, count = _greatest_rows(x.reshape(-1, x.shape[-1])), _greatest_rows(weight), x.shape[-1]
    squares = np.square(rows) @ np.square(columns).T
    terms, first = math.sqrt(squares.max()), largest(bias)
    partial_sums = np.cumsum([rows[:, part] @ columns[:, part].T for part in _parts(count)], axis=0)
    rounded = count if first > FAR * terms else math.sqrt(count)
    return size_of_sum(count, terms, max(largest(product), largest(partial_sums))) + rounded * first


def size_of_mean(x: Array, mean: Array, axis: int) -> float:
    """Return the size of a mean along an axis."""
    count = x.shape[axis]
    square = np.square(x).mean(axis=axis)
    spread = np.sqrt(np.maximum(square - np.square(mean), 0))
    drift = np.maximum(_drift(count, mean, spread), count / 8)
    return float((drift * np.sqrt(square)).max())


def size_of_layer_norm(mean: Array, centred: Array, deviation: Array, result: Array, weight: Array) -> float:
    """Return the size of a LayerNorm, from its rows before the mean was subtracted and from the sum of their squares.

    Args:
        mean: (…, 1), of each row.
        centred: (…, channels), the rows minus their mean.
        deviation: (…, 1), what each row is divided by.
        result: (…, channels).
        weight: (channels,).
    """
    count = centred.shape[-1]
    spread = np.sqrt(np.einsum("...i,...i->...", centred, centred) / count)[..., None]
    before = np.abs(centred).max(axis=-1, keepdims=True) + _drift(count, mean, spread) * np.hypot(mean, spread)
    return float((before / deviation).max()) * largest(weight) + math.sqrt(count / 2) * largest(result)


def _parts(count: int) -> list[slice]:
    """Return slices that split `count` terms into parts of equal length, except for the last."""
    length = -(-count // PARTS)
    return [slice(start, start + length) for start in range(0, count, length)]


def _greatest_rows(rows: Array) -> Array:
    """Return the ROWS rows that are greatest in norm, or all if there are no more."""
    if len(rows) <= ROWS:
        return rows
    return np.asarray(rows[np.argpartition(np.einsum("ri,ri->r", rows, rows), -ROWS)[-ROWS:]])


def _drift(count: int, mean: Array, spread: Array) -> Array:
    """Return by how many roundoffs of its terms a mean errs: more if these are alike in float32."""
    alike = spread <= ALIKE * count * ROUNDOFF["float32"] * np.abs(mean)
    return np.where(alike, count / 2, math.sqrt(count))
