"""The inputs of the reproduction stages: seeded images and labels, the same bytes for both sides. Pure."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from convert.arrays import Array, Shape, StateDict

METRIC_RANKS = (0, 1, 4, 5, 0, 1, 4, 5)
"""Rank, by torch's logits, of the class that labels each image of the metric stage: top-1, top-5 only, or a miss."""

NOISE = 0.5
"""Standard deviation of a training image from its class's pattern; the patterns' own is 1."""

Batch = tuple[Array, Array]
"""Images (batch, in_chans, image_size, image_size), float32, and labels (batch,), int64."""


def metric_images(image: Shape, seed: int) -> Array:
    """Return one standard normal image per entry of METRIC_RANKS."""
    return _normal(np.random.default_rng((seed, 2)), len(METRIC_RANKS), image)


def labels_by_rank(logits: Array) -> Array:
    """Return labels that make the reference's accuracy known, and that of a model near it different.

    With random labels both sides' accuracy would be 0, which any two models agree on.

    Args:
        logits: The reference's, (len(METRIC_RANKS), num_classes).
    """
    ranking = np.argsort(-logits, axis=1, kind="stable")
    ranks = np.minimum(METRIC_RANKS, logits.shape[1] - 1)
    return np.take_along_axis(ranking, ranks[:, None], axis=1)[:, 0].astype(np.int64)


class Patterns:
    """A data set that can be learnt: a seeded pattern for each class in use, plus noise.

    Args:
        shape: The shape of a batch of images.
        classes: The number of classes.
        seed: The seed of everything drawn.
    """

    def __init__(self, shape: Shape, classes: int, seed: int) -> None:
        batch, *image = shape
        self._random = np.random.default_rng((seed, 3))
        self._patterns = _normal(self._random, batch, image)
        self._labels = np.resize(self._random.permutation(classes)[:batch], batch)

    def batches(self, steps: int) -> Iterator[Batch]:
        """Yield one batch per step, with one image of each pattern."""
        for _ in range(steps):
            yield self._noisy(self._patterns), self._labels

    def evaluation(self) -> Batch:
        """Return as many new images as METRIC_RANKS has entries, going through the patterns in turn."""
        chosen: Sequence[int] = np.resize(np.arange(len(self._labels)), len(METRIC_RANKS)).tolist()
        return self._noisy(self._patterns[chosen]), self._labels[chosen]

    def _noisy(self, patterns: Array) -> Array:
        noise = self._random.standard_normal(patterns.shape, dtype=np.float32)
        noisy: Array = patterns + np.float32(NOISE) * noise
        return noisy


def projections(gradients: StateDict, seed: int) -> StateDict:
    """Return each gradient's component along a seeded direction, 0-d float64.

    It is about as large as the gradient's root mean square, and any change of the gradient moves it. A record of all
    gradients would be as large as the model, and the losses of a few steps hide faults in most gradients.
    """
    return {key: _component(gradient, (seed, 4, zlib.crc32(key.encode()))) for key, gradient in gradients.items()}


def _component(gradient: Array, seed: tuple[int, ...]) -> Array:
    direction = np.random.default_rng(seed).standard_normal(gradient.size, dtype=np.float32)
    length = math.sqrt(np.dot(direction, direction.astype(np.float64)))
    return np.array(np.dot(gradient.ravel().astype(np.float64), direction) / length)


def _normal(random: np.random.Generator, count: int, image: Sequence[int]) -> Array:
    return random.standard_normal((count, *image), dtype=np.float32)
