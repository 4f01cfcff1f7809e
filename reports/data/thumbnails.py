"""Small images as PNG in base64, for a page that loads nothing from the network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from convert.arrays import Array


def thumbnails(images: Array, indices: Sequence[int]) -> list[str]:
    """Return the images (n, height, width, 3) uint8 at some indices, each as a PNG in base64."""
    return [_png(images[index]) for index in indices]


def pixels(png: str) -> Array:
    """Return the pixels (height, width, 3) uint8 of a PNG in base64.

    Raises:
        ValueError, OSError: It is not one, or is larger than 256 by 256 pixels.
    """
    with Image.open(io.BytesIO(base64.b64decode(png, validate=True)), formats=["PNG"]) as image:
        if image.width > 256 or image.height > 256:
            raise ValueError(f"{image.width} by {image.height} pixels are no thumbnail")
        return np.asarray(image.convert("RGB"))


def _png(image: Array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
