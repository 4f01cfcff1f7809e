"""The one seeded batch that every side is given, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convert.arrays import Array
from convert.fingerprint import tensor_sha256
from convert.variants import MixerConfig

LABELS = 0x1ABE1
"""Sets the labels' generator apart from that of the images."""


def seeded_images(config: MixerConfig, batch: int, seed: int | Sequence[int]) -> Array:
    """Return standard normal images (batch, in_chans, image_size, image_size), float32.

    Normalised images have about zero mean and unit variance, so their activations are of the size that real ones have.
    """
    shape = (batch, config.in_chans, config.image_size, config.image_size)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def seeded_labels(config: MixerConfig, batch: int, seed: int | Sequence[int]) -> Array:
    """Return class indices (batch,), int64, drawn apart from the images of the same seed."""
    words = [seed] if isinstance(seed, int) else [*seed]
    return np.random.default_rng([*words, LABELS]).integers(config.num_classes, size=batch, dtype=np.int64)


def images_sha256(images: Array) -> str:
    """Return the canonical SHA-256 of a batch."""
    return tensor_sha256(images)
