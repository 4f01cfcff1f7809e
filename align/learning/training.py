"""The training gate: both sides take the same optimizer steps on the same batches, in float64 and in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from align.core.compare import largest
from align.core.inputs import seeded_images, seeded_labels
from align.core.result import Check, Divergence, Gate, Section
from align.learning import paddle_steps, torch_steps
from align.learning.drift import BOUND, Drift, Sums, drift_check, step_check
from align.learning.gradients import FLOOR, distance, first_failed, loss_check, pairs
from align.learning.recipes import RECIPES, Recipe, Schedule, Stepper, schedules
from convert.arrays import Array, StateDict
from convert.mixer.variants import MixerConfig
from convert.rules import KeyRule

Progress = Callable[[str], None]
BuildOptimizer = Callable[[Any, Recipe, Schedule], Stepper]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learner:
    """One model in one precision, the values it starts each run from, and how it gets its optimizer."""

    model: Any
    start: StateDict
    steps: ModuleType
    build_optimizer: BuildOptimizer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learners:
    """The four that train side by side: no trajectory has to be kept to compare them at every step."""

    reference64: Learner
    candidate64: Learner
    reference32: Learner
    candidate32: Learner

    def each(self) -> tuple[Learner, Learner, Learner, Learner]:
        """Return all four."""
        return self.reference64, self.candidate64, self.reference32, self.candidate32


def learners(
    reference: Callable[[str], Any],
    candidate: Callable[[str], Any],
    source: StateDict,
    converted: StateDict,
    build_optimizer: BuildOptimizer,
) -> Learners:
    """Return the four learners.

    Args:
        reference: Builds timm's model in a precision.
        candidate: Builds the Paddle model in a precision.
        source: float32 weights in timm's layout, which every run of timm's model starts from.
        converted: The same for Paddle.
        build_optimizer: Gives the Paddle model its optimizer.
    """

    def ours(precision: str) -> Learner:
        return Learner(model=candidate(precision), start=converted, steps=paddle_steps, build_optimizer=build_optimizer)

    def theirs(precision: str) -> Learner:
        return Learner(
            model=reference(precision), start=source, steps=torch_steps, build_optimizer=torch_steps.optimizer
        )

    return Learners(
        reference64=theirs("float64"),
        candidate64=ours("float64"),
        reference32=theirs("float32"),
        candidate32=ours("float32"),
    )


def training(
    config: MixerConfig,
    sides: Learners,
    *,
    steps: int,
    batch: int,
    seed: int,
    progress: Progress,
    recipes: Sequence[Recipe] = RECIPES,
) -> Section:
    """Return the gate of the optimizers: every recipe with every schedule, each from the same weights.

    Args:
        config: The sizes.
        sides: What trains.
        steps: How many steps, each on a batch of its own.
        batch: Images per step.
        seed: Of the images and labels, together with the step.
        progress: Is told what is about to run.
        recipes: The optimizers.
    """
    checks: list[Check] = []
    for recipe in recipes:
        for schedule in schedules(steps):
            progress(f"training: {recipe.name}, {schedule.name} learning rate")
            checks += _run(config, sides, recipe, schedule, steps, batch, seed)
    return section(checks, steps)


def section(checks: Sequence[Check], steps: int) -> Section:
    """Return the gate over the checks: the first failed one names the optimizer, the step and the tensor."""
    failed = first_failed(checks)
    rounded = "; ".join(recipe.rounded for recipe in RECIPES if recipe.rounded)
    told = f"constants as Paddle rounds them to float32: {rounded}"
    if failed is None:
        worst = max((c for c in checks if c.name.endswith("parameters/float64")), key=lambda c: c.figure)
        sentence = f"{steps} steps: float64 parameters within {worst.figure:.1e} ≤ {BOUND:.0e}; {told}"
        return Section(gate=Gate(name="training", passed=True, sentence=sentence), checks=tuple(checks))
    over = sum(not check.passed for check in checks)
    over_it = "is not finite" if failed.bound is None else f"exceeds {failed.bound:.2g}"
    found = f"{failed.name} {failed.figure:.2g} {over_it}, {failed.detail}"
    gate = Gate(name="training", passed=False, sentence=f"{over} of {len(checks)} checks over; {found}; {told}")
    return Section(gate=gate, checks=tuple(checks), divergence=Divergence(layer=failed.layer, sentence=found))


def _run(
    config: MixerConfig, sides: Learners, recipe: Recipe, schedule: Schedule, steps: int, batch: int, seed: int
) -> Iterator[Check]:
    rows, optimizers = pairs(config), []
    for learner in sides.each():
        learner.steps.reset(learner.model, learner.start)
        optimizers.append(learner.build_optimizer(learner.model, recipe, schedule))
    for step in range(1, steps + 1):
        at = f"{recipe.name}/{schedule.name}/step {step}"
        images = seeded_images(config, batch, [seed, step])
        labels = seeded_labels(config, batch, [seed, step])
        yield from _losses(at, sides, images, labels)
        yield from _tensors(f"{at}/gradients", rows, sides, "gradients")
        rates = [take() for take in optimizers]
        yield _rates(at, rates)
        yield from _tensors(f"{at}/parameters", rows, sides, "values")
    for learner in sides.each():
        learner.steps.forget(learner.model)


def _losses(at: str, sides: Learners, images: Array, labels: Array) -> Iterator[Check]:
    wide = images.astype(np.float64)
    reference, candidate, reference32, candidate32 = (
        learner.steps.backward(
            learner.model, wide if learner in (sides.reference64, sides.candidate64) else images, labels
        )
        for learner in sides.each()
    )
    yield loss_check(f"{at}/loss/float64", reference, candidate, BOUND)
    yield drift_check(
        f"{at}/loss/float32", abs(reference32 - reference), abs(candidate32 - reference), abs(reference), judged=False
    )


def _rates(at: str, rates: Sequence[float]) -> Check:
    reference, candidate, _, candidate32 = rates
    figure = max(abs(reference - candidate), abs(reference - candidate32)) / (reference or 1.0)
    detail = f"torch {reference:.9g}, Paddle {candidate:.9g}"
    return step_check(f"{at}/learning rate/float64", "", figure, BOUND, detail)


def _tensors(at: str, rows: Sequence[KeyRule], sides: Learners, what: str) -> Iterator[Check]:
    """Yield the float64 check of the worst tensor and the float32 check of all tensors together."""
    reads = [getattr(learner.steps, what)(learner.model) for learner in sides.each()]
    floor = 1.0
    if what == "gradients":
        floor = FLOOR * max((largest(g) for row in rows if (g := reads[0](row.source)) is not None), default=0.0)
    drift, sums = Drift(at), Sums()
    for row in rows:
        reference, candidate, reference32, candidate32 = (
            read(name) for read, name in zip(reads, (row.source, row.target) * 2, strict=True)
        )
        if reference is None or candidate is None or reference32 is None or candidate32 is None:
            drift.absent(row.source)
            continue
        turned = row.transform.apply(reference)
        drift.add(row.source, distance(turned, candidate, max(largest(reference), floor)))
        sums.add(turned, row.transform.apply(reference32), candidate32)
    yield drift.check()
    yield sums.check(at, judged=what == "values")
    if not math.isfinite(floor):
        yield step_check(f"{at}/float64", "", math.nan, BOUND, "torch's gradients are not finite")
