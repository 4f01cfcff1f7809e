"""Images as the model gets them: resized by Pillow and normalised, bit for bit as torchvision and Paddle 3.3.1 do it.

Both call Pillow's resize on an image, divide by 255 in float32, subtract the mean and divide by the std in float32.
Sources: paddlepaddle 3.3.1, paddle/vision/transforms/functional_pil.py; torchvision 0.29.1, transforms/functional.py.
Paddle before 3.3.1 multiplies by the float32 nearest to 1/255 instead, which gives some values the adjacent float32.

When it enlarges bilinearly, Pillow differs from tf.image.resize, with which Google's figures were measured, only by its
rounding to 8 bits: by at most 1 grey level of 255 (benchmarks/resize.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from convert.arrays import Array
from convert.errors import BadInput
from convert.mixer.variants import IMAGENET_MEAN, IMAGENET_STD, Rgb, Variant
from reports.data.making import Make

ASKED = "ImageNet's, as asked"
ASSUMED = "ImageNet's, assumed: no variant is known; --preprocess says"

Interpolation = Literal["bilinear", "bicubic"]
INTERPOLATIONS: dict[str, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """A resize of the whole image to a square of image_size pixels, then a normalisation; reason says whose they are.

    interpolation has no effect on images that already have image_size.
    """

    image_size: int
    interpolation: Interpolation
    mean: Rgb
    std: Rgb
    reason: str

    def same_as(self, other: Preprocessing, from_size: int) -> bool:
        """Return whether both do the same to square images of from_size pixels."""
        interpolation = other.interpolation if from_size != self.image_size else self.interpolation  # else unread
        return replace(self, reason="") == replace(other, reason="", interpolation=interpolation)

    def apply(self, images: Array) -> Array:
        """Return images (n, height, width, 3) uint8 preprocessed, as (n, 3, image_size, image_size) float32."""
        normalised = _resized(images, self.image_size, self.interpolation).astype(np.float32)
        normalised /= np.float32(255)
        normalised -= np.array(self.mean, np.float32)
        normalised /= np.array(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))

    @property
    def said(self) -> str:
        """The preprocessing in words."""
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{self.image_size} px, {self.interpolation}, mean {mean}, std {std} ({self.reason})"


def part_maker(images: Array, *, preprocessing: dict[str, Any]) -> Make:
    """Return a Make that preprocesses a part of the images, whatever the index; preprocessing is plain data."""
    prepared = Preprocessing(**preprocessing)
    return lambda _index, part: prepared.apply(images[part])


def imagenet(image_size: int, reason: str) -> Preprocessing:
    """Return the preprocessing with ImageNet's mean and std, which is the default of timm and of many recipes.

    Source: timm 1.0.31, timm/data/constants.py, IMAGENET_DEFAULT_MEAN and IMAGENET_DEFAULT_STD.
    """
    return Preprocessing(
        image_size=image_size, interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD, reason=reason
    )


def of_variant(variant: Variant, image_size: int) -> Preprocessing:
    """Return a variant's own mean, std and interpolation, without timm's crop."""
    return Preprocessing(
        image_size=image_size,
        interpolation=variant.interpolation,
        mean=variant.mean,
        std=variant.std,
        reason=f"timm's for {variant.name}, without its crop",
    )


def refuse_unresized(name: str, found: int, wanted: int) -> None:
    """Check that images fit a model without a resize.

    Raises:
        BadInput: They do not.
    """
    if found != wanted:
        raise BadInput(f"{name}: it takes {wanted} px, the images have {found}. Leave out --no-resize.")


def _resized(images: Array, size: int, interpolation: Interpolation) -> Array:
    if images.shape[1:3] == (size, size):
        return images
    method = INTERPOLATIONS[interpolation]
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), method)) for image in images])
