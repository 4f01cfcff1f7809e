"""Both sides' optimizers take the same steps; each planted fault is named by optimizer, step and tensor."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, save_safetensors

from align.core.case import Case, Settings
from align.core.result import Check, Section
from align.learning import paddle_steps
from align.learning.drift import At, Drift, Sums
from align.learning.gradients import distance, floor_of
from align.learning.recipes import MU, RECIPES, WEIGHT_DECAY, OptimizerRecipe, Schedule, Stepper, as_paddle_rounds
from align.learning.training import BuildOptimizer, learners, training
from align.mixer.case import Subject, case_of
from align.mixer.points import layer_of_parameter
from align.run import align
from convert.arrays import StateDict
from convert.mixer.variants import MixerConfig

pytestmark = pytest.mark.usefixtures("one_thread")
BY_NAME = {recipe.name: recipe for recipe in RECIPES}
Train = Callable[..., Section]


@pytest.fixture(scope="module")
def case(config: MixerConfig, source: StateDict) -> Case:
    return case_of(Subject(source=source, config=config, name="small"))


@pytest.fixture
def train(case: Case) -> Train:
    def run(recipe: OptimizerRecipe, build: BuildOptimizer = paddle_steps.optimizer, steps: int = 2) -> Section:
        sides = learners(case, build)
        return training(case, sides, steps=steps, seed=0, progress=lambda _: None, recipes=[recipe])

    return run


def with_constants(**constants: Any) -> BuildOptimizer:
    """Paddle's optimizer of another recipe than torch's."""
    return lambda model, recipe, schedule: paddle_steps.optimizer(
        model, dataclasses.replace(recipe, **constants), schedule
    )


def coupled(model: Any, recipe: OptimizerRecipe, _: Schedule) -> Stepper:
    """Adam with L2 regularisation, which is not AdamW."""
    import paddle

    adam = paddle.optimizer.Adam(recipe.lr, parameters=model.parameters(), weight_decay=recipe.weight_decay)
    return paddle_steps.stepper(adam)


def decoupled(model: Any, recipe: OptimizerRecipe, _: Schedule) -> Stepper:
    """AdamW, whose default decay is 0.01, for Adam."""
    import paddle

    return paddle_steps.stepper(paddle.optimizer.AdamW(recipe.lr, parameters=model.parameters()))


def late_schedule(model: Any, recipe: OptimizerRecipe, schedule: Schedule) -> Stepper:
    """A warm-up of one step more."""
    if schedule.name == "cosine":
        schedule = dataclasses.replace(schedule, warmup_steps=schedule.warmup_steps + 1)
    return paddle_steps.optimizer(model, recipe, schedule)


def one_left_out(model: Any, recipe: OptimizerRecipe, _: Schedule) -> Stepper:
    import paddle

    kept = [parameter for name, parameter in model.named_parameters() if name != "blocks.2.norm1.weight"]
    return paddle_steps.stepper(paddle.optimizer.SGD(recipe.lr, kept))


def no_bias_correction(model: Any, recipe: OptimizerRecipe, _: Schedule) -> Stepper:
    """Adam whose powers of beta are 0 from its second step on, as after infinitely many."""
    import paddle

    adam = paddle.optimizer.Adam(recipe.lr, parameters=model.parameters())
    take = paddle_steps.stepper(adam)

    def step() -> float:
        for name, accumulators in adam._accumulators.items():
            for accumulator in accumulators.values() if "_pow_acc" in name else ():
                accumulator.set_value(paddle.zeros_like(accumulator))
        return take()

    return step


FAULTS = [
    pytest.param("adam", with_constants(epsilon=1e-7), "adam/constant/step 1/parameters/float64", id="epsilon"),
    pytest.param("adam", with_constants(betas=(0.9, 0.99)), "adam/constant/step 2/parameters/float64", id="beta2"),
    pytest.param("adamw", coupled, "adamw/constant/step 1/parameters/float64", id="L2 for decoupled decay"),
    pytest.param("adam", decoupled, "adam/constant/step 1/parameters/float64", id="decoupled decay for none"),
    pytest.param("sgd", late_schedule, "sgd/cosine/step 2/learning rate/float64", id="schedule"),
    pytest.param("sgd", one_left_out, "sgd/constant/step 1/parameters/float64", id="a parameter left out"),
    pytest.param("adam", no_bias_correction, "adam/constant/step 2/parameters/float64", id="bias correction"),
    pytest.param(
        "momentum", with_constants(momentum=0.8), "momentum/constant/step 2/parameters/float64", id="momentum"
    ),
]


@pytest.mark.parametrize(("name", "build", "check"), FAULTS)
def test_a_fault_is_named(train: Train, name: Any, build: BuildOptimizer, check: str) -> None:
    section = train(BY_NAME[name], build)
    assert section.gate.passed is False
    assert section.divergence is not None
    assert section.divergence.sentence.startswith(f"{check} ")
    if build is one_left_out:
        assert section.divergence.layer == "blocks.2.norm1"
        assert "blocks.2.norm1.weight at [" in section.divergence.sentence


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_right_optimizers_agree(train: Train, recipe: OptimizerRecipe) -> None:
    section = train(recipe, steps=4)
    assert section.gate.passed is True, section.gate.sentence
    assert len(section.checks) == 2 * 4 * (2 + 2 + 1 + 2)


@pytest.mark.parametrize(
    ("name", "constant"), [("momentum", {"momentum": MU}), ("adamw", {"weight_decay": WEIGHT_DECAY})]
)
def test_paddle_rounds_these_constants(train: Train, name: Any, constant: dict[str, float]) -> None:
    """With the constant itself on both sides, float64 drifts; with the rounded one it does not.

    A large epsilon keeps Adam from magnifying the rounding of gradients that are zero.
    """

    def worst(section: Section) -> float:
        return max(check.figure for check in section.checks if check.name.endswith("parameters/float64"))

    recipe = dataclasses.replace(BY_NAME[name], epsilon=1e-3)
    assert {key: as_paddle_rounds(value) for key, value in constant.items()} == {
        key: getattr(recipe, key) for key in constant
    }
    asked = dataclasses.replace(recipe, **constant)
    assert worst(train(asked, steps=3)) > 100 * worst(train(recipe, steps=3))


def test_the_result_says_what_was_rounded(case: Case) -> None:
    result = align(case, Settings(train_steps=1))
    assert result.verdict == "aligned"
    assert "momentum has 0.89999998 for 0.9" in result.gate("training").sentence
    assert "0.0500000007 for 0.05" in result.gate("training").sentence
    assert [recipe["name"] for recipe in result.settings["recipes"]] == ["sgd", "momentum", "adam", "adamw"]


def test_a_fault_of_the_optimizer_makes_the_verdict(case: Case) -> None:
    result = align(case, Settings(train_steps=1), build_optimizer=with_constants(epsilon=1e-7))
    assert result.gate("float64").passed is True
    assert result.verdict == "diverged"
    assert result.first_divergence is not None
    assert result.first_divergence.sentence.startswith("adam/constant/step 1/parameters/float64")


@pytest.mark.slow
def test_20_steps(mixer_align: Run, tmp_path: Path, square_source: StateDict) -> None:
    checkpoint, report = save_safetensors(tmp_path / "x.safetensors", square_source), tmp_path / "report.json"
    result = mixer_align("--checkpoint", checkpoint, "--train-steps", "20", "--json", report)
    assert result.exit_code == 0, result.output
    assert re.search(r"^training    passed   20 steps: float64 parameters within ", result.stdout, re.MULTILINE)
    assert "adamw" in result.stdout
    *_, section = json.loads(report.read_text())["sections"]
    assert len(section["checks"]) == 4 * 2 * 20 * 7
    wide = [check for check in section["checks"] if check["name"].endswith("/float64")]
    assert max(check["figure"] for check in wide) < 1e-9


class TestChecks:
    AT = At(group=("sgd", "constant", "step 1"), subject="parameters")

    def test_nan_fails(self) -> None:
        drift = Drift(self.AT, layer_of_parameter)
        drift.add("norm.weight", distance(np.ones(2), np.array([1, np.nan]), 1.0))
        drift.add("norm.bias", distance(np.ones(2), np.ones(2), 1.0))
        self.failed(drift.check(), "norm")

    @pytest.mark.parametrize("order", [(1.0, np.nan), (np.nan, 1.0), (np.inf, 1.0)])
    def test_a_gradient_that_is_not_finite_is_the_greatest_wherever_it_comes(self, order: tuple[float, float]) -> None:
        assert not np.isfinite(floor_of(np.full(2, value) for value in order))
        assert floor_of([np.array([-3.0, 2.0]), None]) == pytest.approx(3e-4)

    def test_nothing_compared_fails(self) -> None:
        self.failed(Drift(self.AT, layer_of_parameter).check(), "")

    def test_an_absent_tensor_fails(self) -> None:
        drift = Drift(self.AT, layer_of_parameter)
        drift.add("norm.bias", distance(np.ones(2), np.ones(2), 1.0))
        drift.absent("head.bias")
        self.failed(drift.check(), "logits")

    def test_float32_is_judged_by_the_reference(self) -> None:
        truth = np.ones(4)
        for factor, passed in ((9.0, True), (11.0, False), (np.nan, False)):
            sums = Sums()
            sums.add(truth, truth + 1e-4, truth + factor * 1e-4)
            assert sums.check(self.AT, judged=True).passed is passed
            assert sums.check(self.AT, judged=False).passed is np.isfinite(factor).item()
        assert self.AT.drift(0.0, 79 * 2.0**-23, 1.0, judged=True).passed
        assert not self.AT.drift(0.0, 81 * 2.0**-23, 1.0, judged=True).passed
        assert not self.AT.drift(float("nan"), 0.0, 1.0, judged=True).passed

    def failed(self, check: Check, layer: str) -> None:
        assert not check.passed
        assert check.layer == layer
