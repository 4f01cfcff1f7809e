"""How a tensor is drawn, so that whoever knows that alone can draw it again, without the model. Pure."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from convert.arrays import Array, Shape

Law = Literal["uniform", "either sign", "normal", "fan-in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What the elements of a tensor are drawn from.

    law: uniform and either sign: the numbers are the ends of a range, of the magnitude for the latter. normal: its
    standard deviation. fan-in: normal, where the variance is 1 over the number of inputs, whose axis is the number.
    """

    law: Law
    numbers: tuple[float, ...]

    def draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        """Return so many elements."""
        return LAWS[self.law](rng, shape, *self.numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTensor:
    """One tensor from a generator of its own, which its name seeds.

    padding: The row that is zero. exponent: Of the power of two that it is multiplied by in the end.
    """

    name: str
    seed: int
    shape: Shape
    distribution: Distribution
    padding: int | None = None
    exponent: int = 0

    def draw(self) -> Array:
        """Return the tensor in float32, the same each time.

        Powers of two leave every digit as it is, so no rounding of the machine's comes into it.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(self.name.encode())])
        drawn = np.asarray(self.distribution.draw(rng, self.shape), dtype=np.float32)
        if self.padding is not None:
            drawn[self.padding] = 0  # as training keeps it; Paddle gives zeros there whatever it holds
        return drawn * np.float32(2.0**self.exponent) if self.exponent else drawn

    def times(self, exponent: int) -> DrawnTensor:
        """Return it multiplied by a power of two."""
        return replace(self, exponent=exponent)


def _uniform(rng: np.random.Generator, shape: Shape, low: float, high: float) -> Array:
    return np.asarray(rng.uniform(low, high, shape))


def _either_sign(rng: np.random.Generator, shape: Shape, low: float, high: float) -> Array:
    return np.asarray(rng.uniform(low, high, shape) * rng.choice((-1, 1), shape))


def _normal(rng: np.random.Generator, shape: Shape, std: float) -> Array:
    return np.asarray(np.float32(std) * rng.standard_normal(shape, dtype=np.float32))


def _by_fan_in(rng: np.random.Generator, shape: Shape, axis: float) -> Array:
    """Draw a weight whose axis 0 or 1 is the one of the inputs, and whose further ones are a kernel's."""
    fan_in = math.prod((*shape[int(axis) : int(axis) + 1], *shape[2:]))
    return _normal(rng, shape, 1 / math.sqrt(max(1, fan_in)))


LAWS: dict[Law, Callable[..., Array]] = {
    "uniform": _uniform,
    "either sign": _either_sign,
    "normal": _normal,
    "fan-in": _by_fan_in,
}
HOW_MANY: dict[Law, int] = {"uniform": 2, "either sign": 2, "normal": 1, "fan-in": 1}
"""Numbers that a law has."""
