"""Seeded NumPy weights in timm's layout. No parameter is trivial, the head included, so any mix-up shows."""

from __future__ import annotations

import math
import zlib

import numpy as np

from convert.arrays import Array, Shape, StateDict
from convert.shapes import timm_shapes
from convert.variants import MixerConfig

BIAS_STD = 0.05
NORM_SCALE_STD = 0.1
HEAD_STD = 0.02


def init_state_dict(config: MixerConfig, seed: int) -> StateDict:
    """Return float32 weights drawn from a generator of its own per tensor, seeded by (seed, name).

    Linear and stem weights are normal with standard deviation 1/sqrt(fan in), LayerNorm scales scatter around 1, biases
    around 0. timm's own initialisation is no use for comparisons: it leaves the head and every bias at 0.

    Args:
        config: The sizes.
        seed: Any non-negative integer.
    """
    return {name: _draw(name, shape, seed) for name, shape in timm_shapes(config).items()}


def _draw(name: str, shape: Shape, seed: int) -> Array:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= np.float32(_std(name, shape))
    if "norm" in name and name.endswith("weight"):
        values += np.float32(1)
    return values


def _std(name: str, shape: Shape) -> float:
    if name.endswith("bias"):
        return BIAS_STD
    if "norm" in name:
        return NORM_SCALE_STD
    return HEAD_STD if name == "head.weight" else 1 / math.sqrt(math.prod(shape[1:]))
