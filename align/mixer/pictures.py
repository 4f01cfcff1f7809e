"""Picture files, read and preprocessed as a variant needs them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from convert.arrays import Array
from convert.errors import Unreadable
from convert.mixer.variants import Variant


def reader(variant: Variant) -> Callable[[Path], Array]:
    """Return a function that turns a picture file into an image by timm's own evaluation transform for the variant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from PIL import Image as Pillow
        from timm.data.transforms_factory import create_transform
    config = variant.config
    transform = create_transform(
        input_size=(config.in_chans, config.image_size, config.image_size),
        interpolation=variant.interpolation,
        mean=variant.mean,
        std=variant.std,
        crop_pct=variant.crop_pct,
    )

    def read(path: Path) -> Array:
        with path.open("rb") as stream:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", Pillow.DecompressionBombWarning)
                    picture = Pillow.open(stream).convert("RGB")
            except Exception as error:  # a damaged picture can raise anything in Pillow
                raise Unreadable(path, f"it is no picture that can be read ({error})") from error
        return np.asarray(transform(picture).numpy())

    return read
