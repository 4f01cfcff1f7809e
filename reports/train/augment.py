"""The training images of a step and their random augmentation: a function of seed and step alone. Pure.

No random generator lives on from step to step, so a run that was killed resumes exactly where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from convert.arrays import Array
from reports.data.making import Make
from reports.data.preprocess import INTERPOLATIONS, Preprocessing

Augmentation = Literal["none", "flip", "crop_and_flip", "inception_and_flip"]
AUGMENTATIONS: tuple[Augmentation, ...] = ("none", "flip", "crop_and_flip", "inception_and_flip")

ORDER, CHANCE = 0, 1
"""Names of two independent streams of random numbers under one seed."""
PADDING = 4
"""Black pixels added on each side of an image before a crop of its original size.

Source: https://arxiv.org/abs/1512.03385, section 4.2.
"""
AREA, ASPECT = (0.05, 1.0), (0.75, 1.33)
"""Ranges of an inception crop: its share of the image's area, and its ratio of width to height.

Sources: google-research/vision_transformer, vit_jax/input_pipeline.py; tf.image.sample_distorted_bounding_box.
"""


def rows_of_step(step: int, batch_size: int, images: int, total: int, seed: int) -> Array:
    """Return the indices (n,) of a step's images; n is the batch size, or what is left of total for the last step.

    The steps walk through one permutation of the images after another, so that every image is seen once an epoch.

    Args:
        step: The step, from 0.
        batch_size: Images per step.
        images: How many there are to choose from.
        total: How many the whole run sees, repetitions counted.
        seed: The run's seed.
    """
    start, stop = step * batch_size, min((step + 1) * batch_size, total)
    epochs = range(start // images, (stop - 1) // images + 1)
    orders = [
        np.random.default_rng([seed, ORDER, epoch]).permutation(images)[
            max(start - epoch * images, 0) : stop - epoch * images
        ]
        for epoch in epochs
    ]
    return np.concatenate(orders)


def step_maker(
    images: Array, *, preprocessing: dict[str, Any], augmentation: Augmentation, seed: int, sizes: Sequence[int]
) -> Make:
    """Return a Make that makes a part of the batch of a step.

    Args:
        images: The images to train on, perhaps followed by others, (n, height, width, 3) uint8.
        preprocessing: A Preprocessing's fields, as plain data.
        augmentation: Which augmentation to apply.
        seed: The run's seed.
        sizes: How many images make a batch, are trained on, and are seen by the run, as in `rows_of_step`.
    """
    batch_size, count, total = sizes
    prepared = Preprocessing(**preprocessing)

    def make(step: int, part: slice) -> Array:
        rows = rows_of_step(step, batch_size, count, total, seed)
        return training_batch(images[rows], prepared, augmentation, seed, step, part)

    return make


def training_batch(
    images: Array, preprocessing: Preprocessing, augmentation: Augmentation, seed: int, step: int, part: slice
) -> Array:
    """Return a part of a step's batch, augmented and preprocessed, (n, 3, image_size, image_size) float32.

    Args:
        images: The step's whole batch, (all, height, width, 3) uint8, square: the augmentation of an image must not
            depend on how many processes share the work.
        preprocessing: Resize and normalisation.
        augmentation: Which augmentation to apply.
        seed: The run's seed.
        step: The step, from 0.
        part: Which images of the batch are wanted.
    """
    chance = np.random.default_rng([seed, CHANCE, step])
    flipped = chance.random(len(images))[part] < 0.5
    chosen = images[part]
    if augmentation == "none":
        return preprocessing.apply(chosen)
    if augmentation == "crop_and_flip":
        chosen = _shifted(chosen, chance.integers(0, 2 * PADDING + 1, (len(images), 2))[part])
    if augmentation == "inception_and_flip":
        boxes = inception_boxes(chance.random((len(images), 4)), images.shape[1])
        chosen = _cropped(chosen, boxes[part], preprocessing)
    return preprocessing.apply(np.where(flipped[:, None, None, None], chosen[:, :, ::-1], chosen))


def inception_boxes(draws: Array, size: int) -> Array:
    """Return crops of square images, (n, 4) int64: left, top, right, bottom in pixels.

    An aspect ratio is drawn, then a height among those that keep the area within bounds, then a position, as
    tf.image.sample_distorted_bounding_box does it. On a square image every draw gives a crop.

    Args:
        draws: (n, 4), uniform in [0, 1).
        size: Width and height of the images, in pixels.
    """
    aspect = ASPECT[0] + (ASPECT[1] - ASPECT[0]) * draws[:, 0]
    least, most = (np.rint(np.sqrt(share * size * size / aspect)) for share in AREA)
    most = np.minimum(np.minimum(most, size), np.floor((size + 0.5 - 1e-7) / aspect))
    height = least + np.floor(draws[:, 1] * (most - least + 1))
    width = np.minimum(np.rint(height * aspect), size)
    left, top = (np.floor(draws[:, i] * (size - side + 1)) for i, side in ((2, width), (3, height)))
    return np.stack([left, top, left + width, top + height], axis=1).astype(np.int64)


def _shifted(images: Array, offsets: Array) -> Array:
    """Return crops of the images' own size, at offsets (n, 2) into the padded images."""
    size = images.shape[1]
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    rows, columns = (offsets[:, axis, None] + np.arange(size) for axis in (0, 1))
    return np.asarray(padded[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]])


def _cropped(images: Array, boxes: Array, preprocessing: Preprocessing) -> Array:
    """Return the boxes' contents, resized by Pillow to what the model takes, (n, image_size, image_size, 3) uint8."""
    shape = (preprocessing.image_size, preprocessing.image_size)
    if not len(images):
        return np.zeros((0, *shape, 3), np.uint8)
    method = INTERPOLATIONS[preprocessing.interpolation]
    return np.stack(
        [
            np.asarray(Image.fromarray(image).crop(box.tolist()).resize(shape, method))
            for image, box in zip(images, boxes, strict=True)
        ]
    )
