"""That the row's images are resized and normalised as Google's pipeline does it, up to Pillow's rounding to 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from convert.arrays import Array
from reports.data.preprocess import Preprocessing
from reports.score.published import published_figures
from reports.train.recipes import recipe_by_name

ROOT = Path(__file__).resolve().parents[1]
SLACK = 2e-3
"""Grey levels: TensorFlow has places up to 32 px in float32, to 2e-6 px, on two axes, and a pixel may be 255 levels."""


@pytest.fixture(scope="module")
def resize() -> Iterator[ModuleType]:
    """The instrument, which is a script beside the package, and holds TensorFlow's formula."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import resize

        yield resize


@pytest.fixture(scope="module")
def pixels(resize: ModuleType) -> Array:
    return np.asarray(resize.noise(20))


def exact(image: Array, size: int) -> Array:
    """Pillow's resize of each channel in float32, without its rounding to 8 bits."""
    channels = [Image.fromarray(image[..., channel].astype(np.float32)) for channel in range(3)]
    return np.stack([np.asarray(one.resize((size, size), Image.Resampling.BILINEAR)) for one in channels], axis=-1)


def test_tensorflow_s_formula_by_hand(resize: ModuleType) -> None:
    """0 and 100 side by side, four times as wide: centres lie at 1/8, 3/8, 5/8 … of a pixel; edges are repeated."""
    image = np.array([[[0, 0, 0], [100, 100, 100]]] * 2, np.uint8)
    row = [0, 0, 12.5, 37.5, 62.5, 87.5, 100, 100]
    np.testing.assert_array_equal(resize.tensorflow(image, 8), np.array(row)[None, :, None].repeat(8, 0).repeat(3, 2))


def test_enlarging_differs_by_rounding_alone(resize: ModuleType, pixels: Array) -> None:
    for those in (pixels, resize.crops(pixels)):
        most, mean = resize.differences(those)
        assert 0.5 < most <= resize.MOST + SLACK, "two roundings of up to a half each"
        assert 0.2 < mean < 0.35
        assert max(np.abs(exact(one, 224) - resize.tensorflow(one, 224)).max() for one in those) < SLACK


def test_shrinking_differs_by_antialiasing(resize: ModuleType, pixels: Array) -> None:
    """Pillow takes the mean over all pixels that fall into one, TensorFlow of the nearest four."""
    most, mean = resize.differences(pixels, 12)
    assert most > 50
    assert mean > 10


def published() -> list[Preprocessing]:
    google = [figure.preprocessing for figure in published_figures() if figure.id.startswith("google")]
    return [*google, recipe_by_name("google").preprocessing(224)]


@pytest.mark.parametrize("preprocessing", published(), ids=lambda one: one.reason)
def test_the_google_rows_and_recipe_do_what_its_pipeline_does(
    resize: ModuleType, pixels: Array, preprocessing: Preprocessing
) -> None:
    """tf.image.resize straight to 224, then (x - 127.5) / 127.5.

    Source: google-research/vision_transformer, vit_jax/input_pipeline.py, _pp.
    """
    expected = np.stack([(resize.tensorflow(image, 224) - 127.5) / 127.5 for image in pixels]).transpose(0, 3, 1, 2)
    found = preprocessing.apply(pixels)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= (resize.MOST + SLACK) / 127.5
