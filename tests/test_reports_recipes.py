"""Recipes, learning rates, and which images a step sees in what form: all of it without a framework."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from convert.arrays import Array
from convert.errors import BadInput
from reports.data.preprocess import imagenet
from reports.train.augment import ASPECT, AUGMENTATIONS, PADDING, inception_boxes, rows_of_step, training_batch
from reports.train.curves import running_mean
from reports.train.recipes import NOT_SOURCED, parse, recipe_by_name, recipes

TEXT = files("reports.train").joinpath("recipes.toml").read_text(encoding="utf-8")
PLAIN = imagenet(32, "")


def test_the_three_recipes_and_where_each_value_comes_from() -> None:
    assert [recipe.name for recipe in recipes()] == ["paddle_reproduction", "google", "small"]
    for recipe in recipes():
        given = {name for name, value in recipe.as_data().items() if value is not None} - set(NOT_SOURCED)
        assert recipe.sources.keys() == given
    reproduction, google = recipe_by_name("paddle_reproduction"), recipe_by_name("google")
    assert reproduction.length(50_000) == (6250, 100_000), "its own log counts 3,125 steps an epoch"
    assert google.images_used(50_000) == 49_000
    assert google.length(49_000) == (10_000, 5_120_000)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('optimizer = "adam"\n', "", "lacks optimizer"),
        ("seed = 1024", "seed = 1024\nluck = 7", "has the unknown luck"),
        ("epochs = 2", "epochs = 2\nsteps = 5", "not exactly one of epochs, steps"),
        ("epochs = 2\n", "", "not exactly one of epochs, steps"),
        ('seed = "https', '# seed = "https', "names no source for seed"),
        ('optimizer = "adam"\n', 'optimizer = "lion"\n', "optimizer = 'lion' is not valid"),
        ("learning_rate = 1e-5", "learning_rate = nan", "learning_rate = nan is not valid"),
        ("learning_rate = 1e-5", "learning_rate = 0", "learning_rate = 0 is not valid"),
        ("momentum = 0.0", "momentum = 0.9", "momentum = 0.9 is not valid"),
        ("batch_size = 16", "batch_size = 0", "batch_size = 0 is not valid"),
        ("micro_batch = 16", "micro_batch = 17", "micro_batch = 17 is not valid"),
        ("train_percent = 100", "train_percent = 101", "train_percent = 101 is not valid"),
        ("std = [0.229, 0.224, 0.225]", "std = [0.0, 0.224, 0.225]", "std = [0.0, 0.224, 0.225] is not valid"),
        ('augmentation = "flip"', 'augmentation = "mixup"', "augmentation = 'mixup' is not valid"),
        ('name = "paddle_reproduction"', 'name = "google"', "a name stands twice"),
        ("[[recipe]]", "[[recipe", "it is no TOML"),
    ],
)
def test_a_recipe_that_is_not_valid_is_refused(before: str, after: str, said: str) -> None:
    assert before in TEXT
    with pytest.raises(BadInput) as caught:
        parse(TEXT.replace(before, after, 1))
    assert said in str(caught.value)


def test_no_recipe_at_all_is_refused() -> None:
    with pytest.raises(BadInput, match="has no"):
        parse("")


def test_the_learning_rate_rises_and_falls() -> None:
    google = recipe_by_name("google")
    found = [google.learning_rate_at(step, 10_000) for step in (0, 250, 500, 5250, 10_000)]
    assert found[0] == 0
    assert found[2] == 0.03
    assert found[3] == pytest.approx(0.015), "half of the cosine"
    assert found[4] == pytest.approx(0, abs=1e-12)
    assert found[1] == pytest.approx(0.015), "half of the warm-up; the cosine waits for its end"
    assert {recipe_by_name("paddle_reproduction").learning_rate_at(step, 6250) for step in (0, 6249)} == {1e-5}


def test_every_image_is_seen_once_an_epoch() -> None:
    steps = [rows_of_step(step, 16, 60, 180, seed=3) for step in range(12)]
    assert [len(rows) for rows in steps] == [16] * 11 + [4]
    seen = np.concatenate(steps).reshape(3, 60)
    for epoch in seen:
        assert sorted(epoch) == list(range(60))
    assert (seen[0] != seen[1]).any()
    assert (rows_of_step(0, 16, 60, 180, seed=4) != steps[0]).any()
    assert len(rows_of_step(0, 150, 60, 180, seed=0)) == 150, "a batch may be larger than an epoch"


@pytest.fixture(scope="module")
def pixels() -> Array:
    return np.random.default_rng(0).integers(1, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_shares_of_a_batch_are_the_batch(pixels: Array, augmentation: str) -> None:
    def made(part: slice, seed: int = 0, step: int = 5) -> Array:
        return training_batch(pixels, PLAIN, augmentation, seed, step, part)  # type: ignore[arg-type]

    whole = made(slice(None))
    assert whole.shape == (40, 3, 32, 32)
    np.testing.assert_array_equal(np.concatenate([made(slice(0, 13)), made(slice(13, 40))]), whole)
    changed = [(made(slice(None), seed=1) != whole).any(), (made(slice(None), step=6) != whole).any()]
    assert changed == [augmentation != "none"] * 2


def test_a_flip_mirrors_some_images(pixels: Array) -> None:
    made = training_batch(pixels, PLAIN, "flip", 0, 0, slice(None))
    straight, mirrored = PLAIN.apply(pixels), PLAIN.apply(pixels[:, :, ::-1])
    kinds = [(image == a).all() + 2 * (image == b).all() for image, a, b in zip(made, straight, mirrored, strict=True)]
    assert set(kinds) == {1, 2}


def test_a_crop_is_a_shift_with_black_behind(pixels: Array) -> None:
    made = training_batch(pixels, PLAIN, "crop_and_flip", 0, 0, slice(None))
    padded = np.pad(pixels, ((0, 0), (PADDING,) * 2, (PADDING,) * 2, (0, 0)))
    offsets = set()
    for index, image in enumerate(made):
        places = [(y, x, flip) for y in range(9) for x in range(9) for flip in (1, -1)]
        crops = np.stack([padded[index, y : y + 32, x : x + 32][:, ::flip] for y, x, flip in places])
        match = (PLAIN.apply(crops) == image).all(axis=(1, 2, 3)).nonzero()[0]
        assert len(match) == 1
        offsets.add(places[match[0]][:2])
    assert len(offsets) > 20


def test_inception_crops_keep_their_bounds(pixels: Array) -> None:
    draws = np.random.default_rng(0).random((5000, 4))
    draws[:16] = [
        [a, b, c, d] for a in (0, 1 - 1e-9) for b in (0, 1 - 1e-9) for c in (0, 1 - 1e-9) for d in (0, 1 - 1e-9)
    ]
    left, top, right, bottom = inception_boxes(draws, 32).T
    assert min(left.min(), top.min()) == 0
    assert max(right.max(), bottom.max()) == 32
    width, height = right - left, bottom - top
    area = width * height / 1024
    assert 0.03 < area.min() < 0.07, "5 %, but for the rounding of sides to pixels"
    assert area.max() > 0.9
    aspect = (width / height)[height > 20]
    assert ASPECT[0] - 0.05 <= aspect.min() <= aspect.max() <= ASPECT[1] + 0.05
    plain = np.full((40, 32, 32, 3), 7, np.uint8)
    made = training_batch(plain, PLAIN, "inception_and_flip", 0, 0, slice(None))
    np.testing.assert_array_equal(made, PLAIN.apply(plain), "a crop of one colour is that colour")


def test_the_running_mean() -> None:
    values = np.random.default_rng(0).random(40)
    expected = [values[max(0, i - 6) : i + 1].mean() for i in range(40)]
    np.testing.assert_allclose(running_mean(values, 7), expected, rtol=1e-12)
