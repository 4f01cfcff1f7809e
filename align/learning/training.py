"""The training gate: both sides take the same optimizer steps on the same batches, in float64 and in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from align.core.bounds import Precision
from align.core.case import Case, Model
from align.core.compare import largest
from align.core.inputs import seeded_images, seeded_labels
from align.core.result import Check, Divergence, Gate, Section
from align.core.weights import in_float32
from align.learning import paddle_steps, torch_steps
from align.learning.drift import BOUND, At, Drift, Sums
from align.learning.gradients import distance, first_failed, floor_of, loss_check
from align.learning.recipes import RECIPES, OptimizerRecipe, Schedule, Stepper, schedules
from convert.arrays import Array, StateDict

Progress = Callable[[str], None]
BuildOptimizer = Callable[[Any, OptimizerRecipe, Schedule], Stepper]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learner:
    """One model in one precision, the values it starts each run from, and how its optimizer is built."""

    model: Any
    start: StateDict
    steps: ModuleType
    build_optimizer: BuildOptimizer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learners:
    """Four learners that train side by side, so that each step is compared without keeping trajectories."""

    reference64: Learner
    candidate64: Learner
    reference32: Learner
    candidate32: Learner

    def each(self) -> tuple[Learner, Learner, Learner, Learner]:
        """Return all four."""
        return self.reference64, self.candidate64, self.reference32, self.candidate32


def learners(case: Case, build_optimizer: BuildOptimizer) -> Learners:
    """Return the four learners of a case, each with a model of its own.

    Args:
        case: The case; every run starts from its weights in float32.
        build_optimizer: Builds the Paddle model's optimizer.
    """
    source, converted = in_float32(case.reference.state_dict), in_float32(case.candidate.state_dict)

    def learner(side: Model, precision: Precision) -> Learner:
        model, ours = side.build(), side is case.candidate
        side.probe.cast(model, precision)
        return Learner(
            model=model,
            start=converted if ours else source,
            steps=paddle_steps if ours else torch_steps,
            build_optimizer=build_optimizer if ours else torch_steps.optimizer,
        )

    return Learners(
        reference64=learner(case.reference, "float64"),
        candidate64=learner(case.candidate, "float64"),
        reference32=learner(case.reference, "float32"),
        candidate32=learner(case.candidate, "float32"),
    )


def training(
    case: Case,
    sides: Learners,
    *,
    steps: int,
    seed: int,
    progress: Progress,
    recipes: Sequence[OptimizerRecipe] = RECIPES,
) -> Section:
    """Return the gate of the optimizers: every recipe with every schedule, each from the same weights.

    Args:
        case: The case; each step's batch has the shape of its inputs.
        sides: The four learners.
        steps: How many steps, each on a batch of its own.
        seed: Seed of the images and labels, together with the step's number.
        progress: Called with what is about to run.
        recipes: The optimizers.
    """
    checks: list[Check] = []
    for recipe in recipes:
        for schedule in schedules(steps):
            progress(f"training: {recipe.name}, {schedule.name} learning rate")
            for learner in sides.each():
                learner.steps.reset(learner.model, learner.start)
            optimizers = [one.build_optimizer(one.model, recipe, schedule) for one in sides.each()]
            for step in range(1, steps + 1):
                group = (recipe.name, schedule.name, f"step {step}")
                checks += _step(case, sides, optimizers, group, [seed, step])
            for learner in sides.each():
                learner.steps.forget(learner.model)
    return section(checks, steps)


def section(checks: Sequence[Check], steps: int) -> Section:
    """Return the gate, which passes if every check does; the first failed one names optimizer, step and tensor."""
    failed = first_failed(checks)
    rounded = "; ".join(recipe.rounded for recipe in RECIPES if recipe.rounded)
    told = f"constants as Paddle rounds them to float32: {rounded}"
    if failed is None:
        worst = max((c for c in checks if (c.subject, c.kind) == ("parameters", "float64")), key=lambda c: c.figure)
        sentence = f"{steps} steps: float64 parameters within {worst.figure:.1e} ≤ {BOUND:.0e}; {told}"
        return Section(gate=Gate(name="training", passed=True, sentence=sentence), checks=tuple(checks))
    over = sum(not check.passed for check in checks)
    over_it = "is not finite" if failed.bound is None else f"exceeds {failed.bound:.2g}"
    found = f"{failed.name} {failed.figure:.2g} {over_it}, {failed.detail}"
    gate = Gate(name="training", passed=False, sentence=f"{over} of {len(checks)} checks over; {found}; {told}")
    return Section(gate=gate, checks=tuple(checks), divergence=Divergence(layer=failed.layer, sentence=found))


def _step(
    case: Case, sides: Learners, optimizers: Sequence[Stepper], group: tuple[str, ...], seed: list[int]
) -> Iterator[Check]:
    """Take one step with each of the four learners; yield its checks."""
    images = seeded_images(case.inputs.shape, seed)
    yield from _losses(case, sides, group, images, seeded_labels(case.classes, len(images), seed))
    yield from _tensors(case, At(group=group, subject="gradients"), sides)
    yield _rates(At(group=group, subject="learning rate"), [take() for take in optimizers])
    yield from _tensors(case, At(group=group, subject="parameters"), sides)


def _losses(case: Case, sides: Learners, group: tuple[str, ...], images: Array, labels: Array) -> Iterator[Check]:
    wide = images.astype(np.float64)
    reference, candidate, reference32, candidate32 = (
        learner.steps.backward(
            learner.model, wide if learner in (sides.reference64, sides.candidate64) else images, labels
        )
        for learner in sides.each()
    )
    yield loss_check(reference, candidate, BOUND, kind="float64", layer=case.headline, group=group)
    yield At(group=group, subject="loss").drift(
        abs(reference32 - reference), abs(candidate32 - reference), abs(reference), judged=False
    )


def _rates(at: At, rates: Sequence[float]) -> Check:
    reference, candidate, _, candidate32 = rates
    figure = max(abs(reference - candidate), abs(reference - candidate32)) / (reference or 1.0)
    return at.check("float64", figure, BOUND, f"torch {reference:.9g}, Paddle {candidate:.9g}")


def _tensors(case: Case, at: At, sides: Learners) -> Iterator[Check]:
    """Yield the float64 check of the worst tensor and the float32 check of all tensors together."""
    gradients = at.subject == "gradients"
    reads = [
        (learner.steps.gradients if gradients else learner.steps.values)(learner.model) for learner in sides.each()
    ]
    floor = floor_of(reads[0](rule.source) for rule in case.rules) if gradients else 1.0
    drift, sums = Drift(at, case.reference_point), Sums()
    for rule in case.rules:
        reference, candidate, reference32, candidate32 = (
            read(name) for read, name in zip(reads, (rule.source, rule.target) * 2, strict=True)
        )
        if reference is None or candidate is None or reference32 is None or candidate32 is None:
            drift.absent(rule.source)
            continue
        turned = rule.transform.apply(reference)
        drift.add(rule.source, distance(turned, candidate, max(largest(reference), floor)))
        sums.add(turned, rule.transform.apply(reference32), candidate32)
    yield drift.check()
    yield sums.check(at, judged=not gradients)
    if not math.isfinite(floor):
        yield at.check("float64", math.nan, BOUND, "torch's gradients are not finite")
