"""The gradients of right ports agree, and each planted fault that the forward cannot see is caught and named."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from altered import Change, with_candidate, with_reference
from conftest import Run

import align as package
from align.core.case import Case, Settings
from align.core.inputs import seeded_labels
from align.core.result import AlignmentResult
from align.learning.finite_differences import DIRECTION_BOUND, Loss, direction_check, entry_checks, seeded_direction
from align.learning.gradients import (
    Parameter,
    float32_gradient_check,
    gradient_check,
    in_backward_order,
    loss_check,
    parameters_of,
)
from align.mixer.case import Subject, case_of
from align.mixer.models import build_paddle, build_timm
from align.run import align
from convert.arrays import Array, StateDict
from convert.errors import UsageProblem
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, MixerKind
from convert.rules import KeyRule, Transform

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = Settings(backward=True)


@pytest.fixture(scope="module")
def case(config: MixerConfig, source: StateDict) -> Case:
    return case_of(Subject(source=source, config=config, name="small"))


def with_model(case: Case, fault: Change) -> AlignmentResult:
    return align(with_candidate(case, fault), SETTINGS)


class TestRightPort:
    def test_square_weights(self, square_config: MixerConfig, square_source: StateDict) -> None:
        result = align(case_of(Subject(source=square_source, config=square_config, name="square")), SETTINGS)
        assert result.verdict == "aligned", result.first_divergence
        assert result.gate("backward").passed is True
        gradients = [check for check in result.sections[-1].checks if check.name.endswith("weight/float64")]
        assert len(gradients) == 1 + 6 * 4 + 1 + 1
        assert max(check.figure for check in gradients) < 1e-13

    @pytest.mark.parametrize("kind", ["gmixer", "resmlp", "gmlp"])
    def test_every_kind(self, config: MixerConfig, kind: MixerKind) -> None:
        config = dataclasses.replace(config, family=kind, tokens_mlp_dim=6 if kind == "gmixer" else 0)
        result = align(case_of(Subject(source=init_state_dict(config, 0), config=config, name=kind)), SETTINGS)
        assert result.verdict == "aligned", result.first_divergence

    @pytest.mark.slow
    def test_s32(self, mixer_align: Run, tmp_path: Path) -> None:
        """With weights and images of which docs/selftest.json has nothing."""
        report = tmp_path / "report.json"
        seeds = ("--init", "random", "--seed", 100, "--input-seed", 100)
        result = mixer_align("--variant", "s32", *seeds, "--batch", 1, "--backward", "--json", report)
        assert result.exit_code == 0, result.output
        assert f"backward    passed   {2 + 12 * 8 + 4} gradients: float64 at most " in result.stdout
        data = json.loads(report.read_text())
        assert data["verdict"] == "aligned"
        assert all(layer["float64"]["introduced"]["max_abs_diff"] < 1e-12 for layer in data["layers"])

    def test_models_in_memory(self, config: MixerConfig, source: StateDict) -> None:
        timm_model = build_timm(config, None, source)
        paddle_model = build_paddle(config, convert_state_dict(source, config).state_dict)
        assert package.align(timm_model, paddle_model, backward=True).gate("backward").passed is True
        assert timm_model.head.weight.grad is None
        paddle_model.blocks[2].norm2.bias.stop_gradient = True
        result = package.align(timm_model, paddle_model, backward=True)
        assert result.first_divergence is not None
        assert result.first_divergence.layer == "blocks.2.norm2"


def detached(model: Any) -> None:
    fc1 = model.blocks[1].mlp_tokens.fc1
    forward = fc1.forward
    fc1.forward = lambda x: forward(x.detach())


def frozen(model: Any) -> None:
    model.blocks[2].mlp_channels.fc1.bias.stop_gradient = True


def straight_through(model: Any) -> None:
    act = model.blocks[3].mlp_channels.act
    forward = act.forward
    act.forward = lambda x: x + (forward(x) - x).detach()


def nan_backwards(model: Any) -> None:
    import paddle

    class Nan(paddle.autograd.PyLayer):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient * float("nan")

    norm = model.blocks[1].norm2.forward
    model.blocks[1].norm2.forward = lambda x: Nan.apply(norm(x))


def slightly(model: Any) -> None:
    act = model.blocks[2].mlp_tokens.act
    forward = act.forward
    act.forward = lambda x: (y := forward(x)) * (1 + 1e-8) - (y * 1e-8).detach()


FAULTS = [
    pytest.param(detached, "blocks.1.norm1", "Paddle has no gradient here", id="a detached branch"),
    pytest.param(frozen, "blocks.2.mlp_channels.fc1", "Paddle has no gradient here", id="a frozen parameter"),
    pytest.param(straight_through, "blocks.3.mlp_channels.fc1", "exceeds 1e-10", id="a straight-through activation"),
    pytest.param(nan_backwards, "blocks.1.norm2", "nan exceeds 1e-10", id="NaN"),
    pytest.param(slightly, "blocks.2.mlp_tokens.fc1", "1e-08 exceeds 1e-10", id="one part in 10^8"),
]


@pytest.mark.parametrize(("fault", "layer", "says"), FAULTS)
def test_what_the_forward_cannot_see_is_named(case: Case, fault: Change, layer: str, says: str) -> None:
    """The first in backward order: the one nearest to the fault."""
    result = with_model(case, fault)
    assert result.gate("float64").passed is True
    assert result.gate("backward").passed is False
    assert result.verdict == "diverged"
    assert result.first_divergence is not None
    assert result.first_divergence.layer == layer
    assert says in result.first_divergence.sentence


def test_a_fault_of_both_sides_is_found_by_the_finite_differences(case: Case) -> None:
    result = with_model(with_reference(case, straight_through), straight_through)
    assert result.gate("float64").passed is True
    assert result.first_divergence is not None
    assert result.first_divergence.layer == "blocks.3.mlp_channels.fc1"
    assert "the witness's difference quotient" in result.first_divergence.sentence


def test_low_precision_in_float32_alone_is_caught(case: Case) -> None:
    import paddle

    def half(model: Any) -> None:
        norm = model.norm.forward

        class Half(paddle.autograd.PyLayer):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x.clone()

            @staticmethod
            def backward(ctx: Any, gradient: Any) -> Any:
                low = gradient.astype("float16").astype("float32")
                return low if gradient.dtype == paddle.float32 else gradient.clone()

        model.norm.forward = lambda x: Half.apply(norm(x))

    result = with_model(case, half)
    assert result.gate("float32").passed is True
    assert result.gate("backward").passed is False
    assert result.first_divergence is not None
    assert result.first_divergence.layer == "norm"
    assert "float32" in result.first_divergence.sentence


class TestNotRun:
    def test_after_a_diverged_forward(self, case: Case) -> None:
        faulty = with_candidate(case, lambda model: model.norm.bias.set_value(model.norm.bias + 1))
        result = align(faulty, Settings(backward=True, train_steps=2))
        assert result.gate("backward").passed is None
        assert result.gate("training").passed is None
        assert "not run" in result.gate("training").sentence
        assert result.first_divergence is not None
        assert result.first_divergence.layer == "norm"

    @pytest.mark.parametrize("settings", [SETTINGS, Settings(train_steps=1)])
    def test_flax_is_refused(self, config: MixerConfig, source: StateDict, settings: Settings) -> None:
        subject = Subject(source=source, config=config, name="small", reference="flax")
        for case_settings in (settings, None):
            with pytest.raises(UsageProblem, match="--reference timm"):
                align(case_of(subject, case_settings), settings)


class TestChecks:
    ROW = Parameter(rule=KeyRule(source="head.bias", target="head.bias", transform=Transform.IDENTITY), layer="logits")

    def test_missing_empty_misshapen_and_nan_fail(self) -> None:
        good = np.ones(3)
        for reference, candidate in ((good, None), (None, good), (None, None), (good, np.ones(2)), (np.ones(0),) * 2):
            assert not gradient_check(self.ROW, reference, candidate, 0.0).passed
        nan = np.array([1, np.nan, 1])
        for reference, candidate in ((good, nan), (nan, good), (nan, nan)):
            assert not gradient_check(self.ROW, reference, candidate, 0.0).passed
        assert gradient_check(self.ROW, good, good, 0.0).passed

    def test_the_floor_is_for_gradients_that_are_zero_but_for_rounding(self) -> None:
        noise, other = np.array([1e-18, -2e-18]), np.array([3e-18, 1e-18])
        assert not gradient_check(self.ROW, noise, other, 0.0).passed
        assert gradient_check(self.ROW, noise, other, 1e-5).passed

    def test_float32_is_judged_by_the_float64_gradient(self) -> None:
        truth = np.array([1.0, 0.5])
        near, far = (np.array([1 + ulp * 2.0**-23, 0.5]) for ulp in (255, 257))
        exact = truth
        assert float32_gradient_check(self.ROW, truth, exact, near, 0.0).passed
        assert not float32_gradient_check(self.ROW, truth, exact, far, 0.0).passed
        assert float32_gradient_check(self.ROW, truth, far, far, 0.0).passed
        assert not float32_gradient_check(self.ROW, truth, exact, None, 0.0).passed
        assert not float32_gradient_check(self.ROW, truth, np.array([np.nan, 0]), near, 0.0).passed

    def test_losses(self) -> None:
        for reference, candidate, passed in ((2.0, 2.0, True), (2.0, 2.1, False), (np.nan, np.nan, False)):
            assert loss_check(reference, candidate, 1e-12, kind="float64", layer="logits").passed is passed

    def test_backward_order_is_head_to_stem(self, config: MixerConfig) -> None:
        resmlp = dataclasses.replace(config, family="resmlp", tokens_mlp_dim=0)
        case = case_of(Subject(source=init_state_dict(resmlp, 0), config=resmlp, name="resmlp"))
        names = [row.rule.source for row in in_backward_order(case)]
        assert names[:2] == ["head.weight", "head.bias"]
        assert names[-2:] == ["stem.proj.weight", "stem.proj.bias"]
        assert names.index("blocks.1.ls2") < names.index("blocks.1.mlp_channels.fc2.weight")
        assert (
            sorted(names)
            == sorted(row.rule.source for row in parameters_of(case))
            == sorted(init_state_dict(resmlp, 0))
        )


@pytest.fixture(scope="module")
def loss(case: Case) -> Loss:
    return Loss(case=case, labels=seeded_labels(case.classes, 2, 0))


@pytest.fixture(scope="module")
def gradients(case: Case, loss: Loss) -> dict[str, Array]:
    from align.learning import torch_steps

    model = case.reference.build()
    case.reference.probe.cast(model, "float64")
    torch_steps.backward(model, case.inputs.astype(np.float64), loss.labels)
    read = torch_steps.gradients(model)
    return {name: np.array(read(name)) for name in case.reference.state_dict}


class Rounded(Loss):
    """The loss that another kernel might find: wrong by so many units in the last place, the worst way round."""

    def __init__(self, loss: Loss, units: float) -> None:
        super().__init__(case=loss.case, labels=loss.labels)
        object.__setattr__(self, "errors", itertools.cycle([units, -units, -units, units]))

    def with_size(self, state_dict: StateDict) -> tuple[float, float]:
        exact, size = super().with_size(state_dict)
        return exact + next(self.errors) * size * 2.0**-52, size


class TestFiniteDifferences:
    def test_one_wrong_entry_of_one_parameter_shows_along_a_direction(
        self, loss: Loss, gradients: dict[str, Array]
    ) -> None:
        names = list(gradients)
        assert direction_check(loss, gradients, names, 0, 1e-5).passed
        wrong = dict(gradients) | {"norm.weight": gradients["norm.weight"].copy()}
        wrong["norm.weight"][3] *= 1.01
        assert not direction_check(loss, wrong, names, 0, 1e-5).passed

    def test_every_single_parameter_passes_and_halved_fails(self, loss: Loss, gradients: dict[str, Array]) -> None:
        for name, gradient in gradients.items():
            assert direction_check(loss, gradients, [name], 0, 1e-5).passed, name
            zero = name.endswith("mlp_tokens.fc2.bias")  # no gradient but rounding: the LayerNorms take it away
            assert (np.abs(gradient).max() < 1e-15) == zero, name
            assert direction_check(loss, {**gradients, name: gradient / 2}, [name], 0, 1e-5).passed == zero

    def test_the_losses_rounding_is_allowed_for_and_no_more(self, loss: Loss, gradients: dict[str, Array]) -> None:
        """Of a gradient that is zero, rounding is all that the quotient has, whatever the processor's kernels."""
        name, floor = "blocks.1.mlp_tokens.fc2.bias", 1e-5

        def passed(units: float, gradient: Array) -> bool:
            return direction_check(Rounded(loss, units), {name: gradient}, [name], 0, floor).passed

        assert passed(15, gradients[name])
        assert not passed(18, gradients[name])
        assert not passed(15, gradients[name] + floor / 1000 * np.sign(seeded_direction(loss.weights, 0)(name)))
        assert not passed(15, gradients[name] * np.nan)

    def test_of_all_parameters_together_rounding_is_a_small_part_of_the_bound(
        self, loss: Loss, gradients: dict[str, Array]
    ) -> None:
        bound = direction_check(loss, gradients, list(gradients), 0, 1e-5).bound
        assert bound is not None
        assert DIRECTION_BOUND < bound < 1.05 * DIRECTION_BOUND

    def test_entries(self, loss: Loss, gradients: dict[str, Array]) -> None:
        checks = list(entry_checks(loss, gradients, 0, 1e-5))
        assert len({check.layer for check in checks}) > 1
        assert all(check.passed for check in checks)
        shifted = {name: gradient + np.abs(gradient).max() + 1e-3 for name, gradient in gradients.items()}
        assert not any(check.passed for check in entry_checks(loss, shifted, 0, 1e-5))
