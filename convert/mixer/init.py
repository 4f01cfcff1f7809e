"""Seeded NumPy weights in timm's layout. No parameter is trivial, the head included, so any mix-up shows."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection

import numpy as np

from convert.arrays import Array, Shape, StateDict
from convert.mixer.shapes import timm_shapes
from convert.mixer.variants import MixerConfig

BIAS_STD = 0.05
NORM_SCALE_STD = 0.1
HEAD_STD = 0.02
LAYER_SCALE = 0.25
GATED_GAIN = 0.25
"""Factor on gMixer's fc2: its gates multiply activations, and 24 random blocks at full gain amplify every rounding."""


def init_state_dict(config: MixerConfig, seed: int, names: Collection[str] | None = None) -> StateDict:
    """Return float32 weights, each tensor drawn from a generator of its own, seeded by (seed, name).

    Linear and stem weights are normal with standard deviation 1/sqrt(fan in); norm scales scatter around 1, layer
    scales around LAYER_SCALE, biases around 0. timm's own initialisation is no use for comparisons: it leaves the head
    and every bias at 0.

    Args:
        config: The sizes.
        seed: Any non-negative integer.
        names: Only these parameters; all by default.
    """
    gain = GATED_GAIN if config.family == "gmixer" else 1.0
    shapes = timm_shapes(config)
    return {name: _draw(name, shapes[name], seed, gain) for name in (shapes if names is None else names)}


def _draw(name: str, shape: Shape, seed: int, gain: float) -> Array:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(shape, dtype=np.float32)
    mean, std = _moments(name, shape)
    if name.endswith("fc2.weight"):
        std *= gain
    values *= np.float32(std)
    values += np.float32(mean)
    return values


def _moments(name: str, shape: Shape) -> tuple[float, float]:
    module, _, kind = name.rpartition(".")
    if kind in ("bias", "beta"):
        return 0, BIAS_STD
    if kind in ("ls1", "ls2"):
        return LAYER_SCALE, LAYER_SCALE / 4
    if module.rpartition(".")[2].startswith("norm"):
        return 1, NORM_SCALE_STD
    return 0, HEAD_STD if name == "head.weight" else 1 / math.sqrt(math.prod(shape[1:]))
