"""The one seeded batch that every side is given, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from convert.arrays import Array, Shape, tensor_sha256
from convert.mixer.variants import MixerConfig

Kind = Literal["normal", "image-like", "large"]
WAVES = 4
LABELS = 0x1ABE1
"""Sets the labels' generator apart from that of the images."""


def seeded_images(config: MixerConfig, batch: int, seed: int | Sequence[int], kind: Kind = "normal") -> Array:
    """Return images (batch, in_chans, image_size, image_size), float32.

    Args:
        config: The sizes.
        batch: Number of images.
        seed: What NumPy's default generator takes.
        kind: normal: standard normal, which normalised images are in mean and variance. image-like: smooth, in 256
            levels, normalised to [-1, 1]. large: standard normal times 1,000, which stresses rounding.
    """
    shape = (batch, config.in_chans, config.image_size, config.image_size)
    return DRAW[kind](np.random.default_rng(seed), shape)


def _normal(rng: np.random.Generator, shape: Shape) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def _image_like(rng: np.random.Generator, shape: Shape) -> Array:
    """Return a few smooth waves per image in random directions, the same in each channel up to a tint."""
    batch, channels, height, width = shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    direction, phase, tint = (
        rng.uniform(-1, 1, size) for size in ((batch, WAVES, 2), (batch, WAVES), (batch, channels))
    )
    angle = (direction[..., 0, None, None] * y + direction[..., 1, None, None] * x + phase[..., None, None]) * (
        2 * np.pi * WAVES
    )
    brightness = np.sin(angle).mean(axis=1)[:, None] + 0.3 * tint[..., None, None]
    levels = np.clip(np.rint(127.5 + 127.5 * brightness), 0, 255)
    return np.asarray(levels / 127.5 - 1, dtype=np.float32)


def _large(rng: np.random.Generator, shape: Shape) -> Array:
    return _normal(rng, shape) * np.float32(1000)


DRAW: dict[Kind, Callable[[np.random.Generator, Shape], Array]] = {
    "normal": _normal,
    "image-like": _image_like,
    "large": _large,
}


def seeded_labels(config: MixerConfig, batch: int, seed: int | Sequence[int]) -> Array:
    """Return class indices (batch,), int64, drawn apart from the images of the same seed."""
    words = [seed] if isinstance(seed, int) else [*seed]
    return np.random.default_rng([*words, LABELS]).integers(config.num_classes, size=batch, dtype=np.int64)


def images_sha256(images: Array) -> str:
    """Return the canonical SHA-256 of a batch."""
    return tensor_sha256(images)
