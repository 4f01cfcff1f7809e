"""The one seeded batch that every side is given, byte for byte.

For a model with several inputs it is a structured array with a field for each, so that a batch is always one array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from convert.arrays import Array, Shape, fingerprint, tensor_sha256, tensor_sha256s

Kind = Literal["normal", "image-like", "large"]
Seed = int | Sequence[int]
Draw = Callable[[int, Seed], Array]
"""A function from a number of examples and a seed to a batch."""

WAVES = 4
IMAGE_AXES = ("channel", "row", "column")
LABELS = 0x1ABE1
"""A word of the labels' seed that keeps their generator apart from that of the images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a model, described without its first axis, along which the examples of a batch lie.

    name: The keyword that it is passed by; "": it is the only input, passed by position. between: The least value and
    the one above the greatest; None: floating-point numbers as `Kind` says. Whole numbers, such as tokens, need it.
    """

    name: str = ""
    shape: Shape
    dtype: Literal["float32", "int32", "int64", "bool"] = "float32"
    between: tuple[float, float] | None = None

    def draw(self, count: int, seed: Seed, kind: Kind) -> Array:
        """Return this many seeded examples."""
        shape, rng = (count, *self.shape), np.random.default_rng(seed)
        if self.dtype == "float32" and self.between is None:
            is_image = len(self.shape) == len(IMAGE_AXES)
            return seeded_images(shape, seed, kind if is_image or kind != "image-like" else "normal")
        low, high = self.between or (0, 2)
        if self.dtype == "float32":
            return rng.uniform(low, high, shape).astype(np.float32)
        return rng.integers(math.ceil(low), math.ceil(high), shape).astype(self.dtype)


def drawer(inputs: Sequence[Input], kind: Kind) -> Draw:
    """Return a function that draws a batch for a model with these inputs."""
    if len(inputs) == 1 and not inputs[0].name:
        return lambda count, seed: inputs[0].draw(count, seed, kind)

    def draw(count: int, seed: Seed) -> Array:
        words = [seed] if isinstance(seed, int) else [*seed]
        return together({one.name: one.draw(count, [*words, i], kind) for i, one in enumerate(inputs)})

    return draw


def together(arrays: Mapping[str, Array]) -> Array:
    """Return several inputs as one batch, a structured array with a field for each."""
    count = min(map(len, arrays.values()))
    batch = np.empty(count, dtype=[(name, one.dtype, one.shape[1:]) for name, one in arrays.items()])
    for name, one in arrays.items():
        batch[name] = one
    return batch


def apart(batch: Array) -> dict[str, Array]:
    """Return copies of the inputs of a batch, by the keyword that each is passed by; "" means by position."""
    names = batch.dtype.names
    return {"": batch.copy()} if names is None else {name: np.array(batch[name], order="C") for name in names}


def changed(batch: Array, change: Callable[[Array], Array]) -> Array:
    """Return the batch with `change` applied to its floating-point inputs."""
    new = {name: change(one) if one.dtype.kind == "f" else one for name, one in apart(batch).items()}
    return new[""] if "" in new else together(new)


def in_precision(batch: Array, precision: str) -> Array:
    """Return the batch with its floating-point inputs cast to this precision."""
    return changed(batch, lambda one: one.astype(precision))


def seeded_images(shape: Shape, seed: Seed, kind: Kind = "normal") -> Array:
    """Return seeded float32 images of this shape.

    Args:
        shape: (batch, in_chans, height, width).
        seed: Any seed that NumPy's default generator takes.
        kind: normal: standard normal, like normalised images in mean and variance. image-like: smooth, in 256
            levels, normalised to [-1, 1]. large: standard normal times 1,000, which stresses rounding.
    """
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


def seeded_labels(classes: int, batch: int, seed: Seed) -> Array:
    """Return class indices (batch,), int64, drawn independently of the images of the same seed."""
    words = [seed] if isinstance(seed, int) else [*seed]
    return np.random.default_rng([*words, LABELS]).integers(classes, size=batch, dtype=np.int64)


def images_sha256(images: Array) -> str:
    """Return the canonical SHA-256 of a batch; for several inputs, the fingerprint of their SHA-256s."""
    several = apart(images)
    return tensor_sha256(images) if "" in several else fingerprint(tensor_sha256s(several))
