"""How a tensor is drawn, so that it can be drawn again from that alone, without the model. Pure."""

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
    """The distribution that the elements of a tensor are drawn from.

    law: What the numbers are. uniform: the ends of the range. either sign: the ends of the range of the magnitude.
    normal: the standard deviation. fan-in: the axis of the inputs; normal, with a variance of 1 over their number.
    """

    law: Law
    numbers: tuple[float, ...]

    def draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        """Return an array of this shape."""
        return LAWS[self.law](rng, shape, *self.numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTensor:
    """One tensor, drawn from a generator of its own, which is seeded with the tensor's seed and name.

    padding: The row that is set to zero, if any. exponent: The tensor is multiplied by 2 to this power at the end.
    """

    name: str
    seed: int
    shape: Shape
    distribution: Distribution
    padding: int | None = None
    exponent: int = 0

    def draw(self) -> Array:
        """Return the tensor in float32, the same each time.

        Multiplying by a power of two changes no digit, so how the machine rounds plays no part.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(self.name.encode())])
        drawn = np.asarray(self.distribution.draw(rng, self.shape), dtype=np.float32)
        if self.padding is not None:
            drawn[self.padding] = 0  # as training leaves it; Paddle returns zeros for it whatever it holds
        return drawn * np.float32(2.0**self.exponent) if self.exponent else drawn

    def times(self, exponent: int) -> DrawnTensor:
        """Return this tensor with another exponent."""
        return replace(self, exponent=exponent)


def _uniform(rng: np.random.Generator, shape: Shape, low: float, high: float) -> Array:
    return np.asarray(rng.uniform(low, high, shape))


def _either_sign(rng: np.random.Generator, shape: Shape, low: float, high: float) -> Array:
    return np.asarray(rng.uniform(low, high, shape) * rng.choice((-1, 1), shape))


def _normal(rng: np.random.Generator, shape: Shape, std: float) -> Array:
    return np.asarray(np.float32(std) * rng.standard_normal(shape, dtype=np.float32))


def _by_fan_in(rng: np.random.Generator, shape: Shape, axis: float) -> Array:
    """Return a weight whose inputs lie along `axis`, 0 or 1, and whose axes from 2 on are a kernel's."""
    fan_in = math.prod((*shape[int(axis) : int(axis) + 1], *shape[2:]))
    return _normal(rng, shape, 1 / math.sqrt(max(1, fan_in)))


LAWS: dict[Law, Callable[..., Array]] = {
    "uniform": _uniform,
    "either sign": _either_sign,
    "normal": _normal,
    "fan-in": _by_fan_in,
}
HOW_MANY: dict[Law, int] = {"uniform": 2, "either sign": 2, "normal": 1, "fan-in": 1}
"""How many numbers each law takes."""
