"""The recipes of fine-tuning from recipes.toml, each value with its source, and their learning rates. Pure."""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from convert.errors import BadInput, IOProblem, UsageProblem
from convert.mixer.variants import Rgb
from reports.data.preprocess import INTERPOLATIONS, Interpolation, Preprocessing
from reports.train.augment import AUGMENTATIONS, Augmentation

Optimizer = Literal["adam", "adamw", "sgd"]
WHOLE = ("warmup_steps", "batch_size", "micro_batch", "train_percent", "seed")
NOT_SOURCED = ("name", "remark", "sources")
LONG = ("steps", "epochs")
MOST = 2**31
"""Largest whole number that a recipe may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to fine-tune; the fields are those of recipes.toml, where they are explained."""

    name: str
    optimizer: Optimizer
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    warmup_steps: int
    batch_size: int
    micro_batch: int
    clip_norm: float
    label_smoothing: float
    train_percent: int
    augmentation: Augmentation
    interpolation: Interpolation
    mean: Rgb
    std: Rgb
    head: Literal["zeros", "seeded"]
    seed: int
    remark: str
    sources: dict[str, str]
    steps: int | None = None
    epochs: int | None = None

    def preprocessing(self, image_size: int) -> Preprocessing:
        """Return the preprocessing of the images, in training after the augmentation, and in the evaluation."""
        return Preprocessing(
            image_size=image_size,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            reason=f"the recipe {self.name}'s",
        )

    def images_used(self, available: int) -> int:
        """Return how many of the training images are used."""
        return available * self.train_percent // 100

    def length(self, images: int) -> tuple[int, int]:
        """Return how many steps there are, and how many images they see, repetitions counted.

        Args:
            images: How many training images are used.
        """
        if self.steps is not None:
            return self.steps, self.steps * self.batch_size
        seen = images * (self.epochs or 0)
        return math.ceil(seen / self.batch_size), seen

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0; with a warm-up that of step 0 is 0.

        Source: google-research/vision_transformer, vit_jax/utils.py, create_learning_rate_schedule.
        """
        rate = self.learning_rate
        if self.schedule == "cosine":
            progress = (step - self.warmup_steps) / max(steps - self.warmup_steps, 1)
            rate *= 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
        return rate * min(1.0, step / self.warmup_steps) if self.warmup_steps else rate

    def as_data(self) -> dict[str, Any]:
        """Return the values as plain data, without their sources."""
        return {name: value for name, value in asdict(self).items() if name != "sources"}


@functools.cache
def recipes() -> tuple[Recipe, ...]:
    """Return the recipes in the file's order."""
    return parse(files("reports.train").joinpath("recipes.toml").read_text(encoding="utf-8"))


def recipe_by_name(name: str) -> Recipe:
    """Return the recipe with a name.

    Raises:
        UsageProblem: There is none with this name.
    """
    known = {recipe.name: recipe for recipe in recipes()}
    if name not in known:
        raise UsageProblem(f"--recipe {name}: no such recipe. Known: {', '.join(known)}.")
    return known[name]


def choose_recipe(name: str, *, seed: int | None = None, micro_batch: int | None = None) -> Recipe:
    """Return the recipe with a name, or the one in a .toml file, with another seed or micro-batch if given.

    Raises:
        UsageProblem: There is none with this name, or the micro-batch is larger than the batch.
        IOProblem: There is no such file.
        BadInput: The file is not one valid recipe.
    """
    recipe = _from_file(Path(name)) if name.endswith(".toml") else recipe_by_name(name)
    if seed is not None:
        recipe = replace(recipe, seed=seed, sources={**recipe.sources, "seed": "--seed"})
    if micro_batch is not None:
        if micro_batch > recipe.batch_size:
            raise UsageProblem(f"--micro-batch {micro_batch}: the batch has {recipe.batch_size} images. Ask for less.")
        recipe = replace(recipe, micro_batch=micro_batch, sources={**recipe.sources, "micro_batch": "--micro-batch"})
    return recipe


def _from_file(path: Path) -> Recipe:
    if not path.is_file():
        raise IOProblem(f"{path}: there is no such file. Known recipes: {', '.join(r.name for r in recipes())}.")
    found = parse(path.read_text(encoding="utf-8", errors="replace"), path.name)
    if len(found) != 1:
        raise BadInput(f"{path}: it has {len(found)} recipes. Leave one.")
    return found[0]


def parse(text: str, file: str = "recipes.toml") -> tuple[Recipe, ...]:
    """Return the recipes of a TOML text; file is its name in errors.

    Raises:
        BadInput: It is not TOML, or a recipe lacks a value or its source, has one too many, or an invalid one.
    """
    try:
        rows = tomllib.loads(text).get("recipe", [])
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{file}: it is no TOML ({error}). Mend it.") from error
    found = tuple(from_data(f"{file}: recipe {number}", row) for number, row in enumerate(rows, 1))
    if not found or len({recipe.name for recipe in found}) != len(found):
        raise BadInput(f"{file}: {'a name stands twice' if found else 'it has no [[recipe]]'}. Mend it.")
    return found


def from_data(where: str, row: dict[str, Any]) -> Recipe:
    """Return the recipe that plain data describes.

    Args:
        where: What errors call it.
        row: The fields of a recipe, its sources among them.

    Raises:
        BadInput: It lacks a value or its source, has one too many, or an invalid one.
    """
    where += f" ({row.get('name', 'no name')})"
    names = {field.name for field in fields(Recipe)}
    wrong = {
        "lacks": names - row.keys() - set(LONG),
        "has the unknown": row.keys() - names,
        "has not exactly one of": set() if len(row.keys() & set(LONG)) == 1 else set(LONG),
        "names no source for": row.keys() - set(NOT_SOURCED) - _sourced(row),
        "names a source for the unknown": _sourced(row) - row.keys(),
    }
    for label, which in wrong.items():
        if which:
            raise BadInput(f"{where}: it {label} {', '.join(sorted(which))}. Mend it.")
    for name, valid in _checks(row).items():
        if not valid:
            raise BadInput(f"{where}: {name} = {row[name]!r} is not valid. Mend it.")
    return Recipe(**{**row, "mean": tuple(row["mean"]), "std": tuple(row["std"])})


def _sourced(row: dict[str, Any]) -> set[str]:
    sources = row.get("sources")
    if not isinstance(sources, dict):
        return set()
    return {name for name, source in sources.items() if isinstance(source, str) and source.strip()}


def _checks(row: dict[str, Any]) -> dict[str, bool]:
    """Return, for each value, whether it is valid."""
    whole = {name: type(row[name]) is int and 0 <= row[name] <= MOST for name in WHOLE}
    return {
        **whole,
        "name": isinstance(row["name"], str) and row["name"].isidentifier(),
        "remark": isinstance(row["remark"], str),
        "optimizer": row["optimizer"] in ("adam", "adamw", "sgd"),
        "schedule": row["schedule"] in ("constant", "cosine"),
        "augmentation": row["augmentation"] in AUGMENTATIONS,
        "interpolation": row["interpolation"] in tuple(INTERPOLATIONS),
        "head": row["head"] in ("zeros", "seeded"),
        "learning_rate": _between(row["learning_rate"], 1e-9, 10),
        "momentum": _between(row["momentum"], 0, 0.999) and (row["optimizer"] == "sgd" or row["momentum"] == 0),
        "weight_decay": _between(row["weight_decay"], 0, 1)
        and (row["optimizer"] == "adamw" or row["weight_decay"] == 0),
        "clip_norm": _between(row["clip_norm"], 0, 1e6),
        "label_smoothing": _between(row["label_smoothing"], 0, 0.5),
        "train_percent": whole["train_percent"] and 1 <= row["train_percent"] <= 100,
        "batch_size": whole["batch_size"] and 1 <= row["batch_size"] <= 2**20,
        "micro_batch": whole["micro_batch"] and whole["batch_size"] and 1 <= row["micro_batch"] <= row["batch_size"],
        "mean": _rgb(row["mean"], least=0.0),
        "std": _rgb(row["std"], least=1e-3),
        **{name: type(row[name]) is int and 1 <= row[name] <= MOST for name in LONG if name in row},
    }


def _rgb(values: Any, least: float) -> bool:
    return isinstance(values, list) and len(values) == 3 and all(_between(value, least, 1) for value in values)


def _between(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most
