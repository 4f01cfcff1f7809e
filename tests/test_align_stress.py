"""Each pair of layers alone: what only unusual values show is found and placed, and what is not called is told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from altered import with_candidate, with_reference
from conftest import Run, save_safetensors
from strangers import CONFIG, OTHER_NAMES, STRANGERS, TIMM_NAMES, Stranger, timm_model, timm_weights
from test_align_families import in_paddle, in_torch
from toy_family import LAYOUTS, SMALL, TOY

import align
from align.core.case import Case, Settings
from align.core.result import AlignmentResult
from align.faults.front import layer_of, put_in_front
from align.figures.sections import GIVEN
from align.gates import stress
from align.gates.stress import Trial
from align.mixer.case import Subject, case_of, case_of_models
from align.mixer.specimens import small
from align.pairing.file import read_pairing
from align.pairing.layers import Part, parts_of
from align.probes import paddle_probe, torch_probe
from align.rounding import magnitudes
from align.run import align as run
from convert.arrays import Array, Shape, StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig
from convert.rules import RuleSet

pytestmark = pytest.mark.usefixtures("one_thread")

LEAVES = ("stem.proj", "norm", "head")
IN_BLOCK = ("norm1", "norm2", *(f"mlp_{axis}.{part}" for axis in ("tokens", "channels") for part in ("fc1", "fc2")))


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


@pytest.fixture(scope="module")
def reference(weights: StateDict, one_thread: None) -> Any:
    return timm_model(weights)


@pytest.fixture(scope="module")
def case(config: MixerConfig, source: StateDict) -> Case:
    return case_of(Subject(source=source, config=config, name="small"))


def fails(result: AlignmentResult, layer: str, says: str) -> None:
    """Check that this gate fails, no other but that of other weights, and what it says."""
    failed = {gate.name for gate in result.gates if gate.passed is False}
    assert "stress" in failed <= {"stress", "redrawn"}, result.gates
    assert result.verdict == "diverged"
    assert result.first_divergence is not None
    assert result.first_divergence.layer == layer
    assert says in result.first_divergence.sentence


def capped(_: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    return forward(x).clip(max=6.0)


class TestPairs:
    def pairs(self, reference: Any, stranger: Stranger, weights: StateDict, folder: Path) -> list[Part]:
        layer, path = stranger.build(weights), stranger.pairing(folder)
        case = case_of_models(reference, layer, read_pairing(path) if path else None)
        sides = (torch_probe.layers(reference), paddle_probe.layers(layer))
        return parts_of(case, *(dict(side).keys() for side in sides))

    def test_layers_without_any_below_them(self, reference: Any, weights: StateDict, tmp_path: Path) -> None:
        found = self.pairs(reference, TIMM_NAMES, weights, tmp_path)
        assert all(part.reference == part.candidate for part in found)
        ours = {part.reference for part in found}
        wanted = {*LEAVES, *(f"blocks.{i}.{part}" for i in range(3) for part in IN_BLOCK)}
        assert ours >= wanted | {f"blocks.{i}.mlp_tokens.act" for i in range(3)}
        assert {part.reference: part.place for part in found}["stem.proj"] == "stem"

    def test_the_layer_around_an_activation_that_is_a_function(
        self, reference: Any, weights: StateDict, tmp_path: Path
    ) -> None:
        ours = {part.reference for part in self.pairs(reference, TIMM_NAMES, weights, tmp_path)}
        assert ours >= {f"blocks.{i}.mlp_channels" for i in range(3)}
        assert not ours & {"blocks.0.mlp_tokens", "blocks.0", "blocks.0.mlp_channels.act"}

    def test_other_names(self, reference: Any, weights: StateDict, tmp_path: Path) -> None:
        """Its mixers hold their norms as well: the least that has a counterpart is a whole block."""
        found = {part.reference: part.candidate for part in self.pairs(reference, OTHER_NAMES, weights, tmp_path)}
        assert found["blocks.1.mlp_tokens.fc1"] == "mixer_layers.1.token_mixer.dense_in"
        assert found["blocks.1"] == "mixer_layers.1"
        assert found["head"] == "classifier.fc"
        assert len(found) == 3 + 3 * (len(IN_BLOCK) + 1)

    def test_one_with_two_counterparts_is_left_out(self) -> None:
        case = toy_case()
        layers = (["", "fc1", "act", "fc2"], ["", "net", "net.fc1", "net.act", "net.fc2"])
        assert [part.reference for part in parts_of(case, *layers)] == ["fc1", "fc2"]
        rules = [replace(rule, target="net.act.bias") if rule.source == "fc1.bias" else rule for rule in case.rules]
        assert [part.reference for part in parts_of(replace(case, rules=RuleSet(tuple(rules))), *layers)] == ["fc2"]


def toy_case() -> Case:
    from test_align_families import ALIGNMENT

    weights = TOY.draw(SMALL, 0)
    return ALIGNMENT.case_of_models(in_torch(weights), in_paddle(LAYOUTS["paddle"].apply(weights)), None, None)


def layer_norm(values: Array) -> Array:
    centred = values - values.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-6))


class TestMagnitudes:
    @pytest.mark.parametrize("width", [1, 2, 10, 333])
    def test_every_pattern_is_there_in_every_magnitude(self, width: int) -> None:
        rows = magnitudes.rows(width)
        assert np.isfinite(rows).all()
        assert (rows == 0).all(axis=1).sum() == 1
        constant = {float(row[0]) for row in rows if (row == row[0]).all()}
        for power in (-4, -2, 0, 1, 2, 4):
            assert any(math.isclose(one, 10.0**power) for one in constant)
            assert any(math.isclose(one, -(10.0**power)) for one in constant)
        least, greatest = np.abs(rows[rows.any(axis=1)]).max(axis=1).min(), np.abs(rows).max()
        assert least < 1e-3
        assert math.isclose(greatest, 1e7)
        assert (rows > 0).all(axis=1).sum() >= 12
        assert (rows < 0).all(axis=1).sum() >= 12

    def test_outliers_are_a_thousand_times_their_row(self) -> None:
        largest = np.sort(np.abs(magnitudes.rows(333)), axis=1)
        assert (largest[:, -1] > 100 * largest[:, -2]).sum() == len(magnitudes.MAGNITUDES)

    def test_a_row_goes_through_zero_evenly(self) -> None:
        assert any(np.allclose(row, np.linspace(-8, 8, 333)) for row in magnitudes.rows(333))

    @pytest.mark.parametrize(("shape", "by_row"), [((2, 5, 7), True), ((2, 7), True), ((2, 5, 7), False)])
    def test_the_shape_is_what_the_layer_was_given(self, shape: tuple[int, ...], by_row: bool) -> None:
        found = magnitudes.stress(shape, by_row=by_row)
        assert found.ndim == len(shape)
        assert found.shape[-1] == shape[-1]
        assert by_row or found.shape[1:] == shape[1:]

    @pytest.mark.parametrize(
        ("shape", "part"),
        [
            ((2, 64, 112, 112), (2, 64, 16, 16)),
            ((2, 2048, 7, 7), (2, 2048, 7, 7)),
            ((2, 1024, 9, 40), (2, 1024, 8, 8)),
            ((2, 3, 8, 128, 128), (2, 3, 8, 16, 16)),
            ((2, 3, 224, 224), (2, 3, 64, 64)),
            ((2, 197, 768), (2, 197, 768)),
            ((2, 10**6), (2, 10**6)),
        ],
    )
    def test_of_a_large_image_a_part_is_enough(self, shape: tuple[int, ...], part: tuple[int, ...]) -> None:
        assert magnitudes.smaller(shape) == part

    def test_what_cancels_may_lie_farther_apart(self) -> None:
        """What is left of a constant row's deviations is rounding, and a norm divides by it."""
        values = np.stack([np.full(10, 1e4), np.linspace(-3, 3, 10)])
        allowed = magnitudes.explained(
            values, layer_norm(values), layer_norm(magnitudes.moved(values)), by_row=True
        ).ravel()
        assert allowed[0] > 1e4 / math.sqrt(1e-6) * 2.0**-53  # what one rounding of the mean becomes
        assert allowed[1] < 1e-11

    def test_of_zeros_nothing_is_explained(self) -> None:
        zeros = np.zeros((1, 10))
        assert magnitudes.explained(zeros, zeros, zeros, by_row=True) == 0


class TestParts:
    """A layer alone, given a part of an image, or the whole where one of the sides takes no part."""

    @pytest.mark.parametrize(("patch", "side"), [(16, 64), (7, 224)])
    def test_patches(self, monkeypatch: pytest.MonkeyPatch, patch: int, side: int) -> None:
        given = []

        def noted(shape: Shape, *, by_row: bool) -> Array:
            given.append(shape)
            return magnitudes.stress(shape, by_row=by_row)

        monkeypatch.setattr(stress, "stress", noted)
        config = replace(small("mixer"), image_size=224, patch_size=patch, num_blocks=1)
        source = Subject(source=init_state_dict(config, 0), config=config, name="large image")
        result = run(case_of(source, Settings()), Settings())
        assert result.gate("stress").passed
        assert result.verdict == "aligned"
        assert (2, 3, side, side) in given


class TestFarthest:
    part = Part(reference="a", candidate="b", place="a")

    def times(self, truth: float, result: float) -> float:
        trial = Trial(by_row=True, values=np.ones((1, 2)), allowed=np.ones((1, 1)), result=np.array([[result, 0.0]]))
        return trial.farthest(self.part, "Paddle", np.array([[truth, 0.0]]), "torch").times

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_on_one_side_only_is_over(self, value: float) -> None:
        assert self.times(1.0, value) == self.times(value, 1.0) == math.inf
        assert self.times(value, value) == 0

    def test_infinities_have_signs(self) -> None:
        assert self.times(math.inf, -math.inf) == math.inf

    def test_in_units_of_what_is_allowed(self) -> None:
        assert self.times(1.0, 1.5) == 0.5


def test_a_right_port_says_how_near_it_comes(case: Case) -> None:
    section = next(section for section in run(case).sections if section.gate.name == "stress")
    assert section.gate.passed is True
    check, called = section.checks
    assert called.bound is None
    assert section.gate.sentence.startswith(f"{called.figure:.0f} layers alone, {GIVEN}")
    assert f"given values of {magnitudes.SMALLEST:.0e} to {magnitudes.LARGEST * magnitudes.OUTLIER:.0e}" == GIVEN
    assert 0 < check.figure < 0.5
    assert "layers alone, given values of 1e-04 to 1e+07" in section.gate.sentence
    assert "not called alone" not in section.gate.sentence


@pytest.mark.parametrize("mistake", ["gelu-capped", "gelu-cut-off"])
def test_a_function_that_ends_early_is_placed(reference: Any, weights: StateDict, mistake: str) -> None:
    result = align.align(reference, TIMM_NAMES.build(weights, mistake=mistake))
    fails(result, "blocks.1.mlp_channels", "blocks.1.mlp_channels alone, given values up to ")


@pytest.mark.parametrize(("name", "path"), [("timm-names", "norm"), ("other-names", "classifier.norm")])
def test_a_norm_of_a_stranger_s(reference: Any, weights: StateDict, tmp_path: Path, name: str, path: str) -> None:
    stranger = STRANGERS[name]
    layer = stranger.build(weights)
    put_in_front(layer_of(layer, path), lambda _, forward, x: forward(x.clip(-1e3, 1e3)))
    fails(align.align(reference, layer, stranger.pairing(tmp_path)), "norm", f"{path} alone, given values up to ")


def test_a_fault_on_both_sides_is_found_by_the_witness(case: Case) -> None:
    import torch

    class Capped(torch.nn.GELU):
        def forward(self, x: Any) -> Any:
            return super().forward(x).clamp(max=6.0)

    both = with_candidate(
        with_reference(case, lambda model: setattr(model.blocks[2].mlp_tokens, "act", Capped())),
        lambda model: put_in_front(model.blocks[2].mlp_tokens.act, capped),
    )
    fails(run(both), "blocks.2.mlp_tokens.act", "the NumPy witness ")


def test_a_wrong_reference_is_found_too(case: Case) -> None:
    def clipped(model: Any) -> None:
        forward = model.blocks[1].norm2.forward
        model.blocks[1].norm2.forward = lambda x: forward(x.clamp(-1e3, 1e3))

    fails(run(with_reference(case, clipped)), "blocks.1.norm2", "torch ")


def two_tensors(layer: Any) -> None:
    """Let the second block's Linear be given another tensor as well, which it does not need."""
    block, kind = layer.blocks[1].mlp_channels, type(layer.blocks[1].mlp_channels.fc1)
    takes = type("Takes", (kind,), {"forward": lambda self, x, _: kind.forward(self, x)})
    block.fc1.__class__ = takes
    own = type(block)

    def forward(self: Any, x: Any) -> Any:
        from paddle.nn import functional

        return self.fc2(functional.gelu(self.fc1(x, x)))

    block.__class__ = type("Gives", (own,), {"forward": forward})


def refuses_others(layer: Any) -> None:
    """Let a Linear take what it gets in the model and nothing else."""
    fc1 = layer.blocks[1].mlp_channels.fc1

    def forward(_: Any, right: Callable[[Any], Any], x: Any) -> Any:
        if x.shape[0] not in (1, 2, 3, 67) or x.shape[1] != 16:
            raise ValueError("not mine")
        return right(x)

    put_in_front(fc1, forward)


@pytest.mark.parametrize(
    ("change", "why"), [(two_tensors, "not given one tensor"), (refuses_others, "they do not take them alone")]
)
def test_what_cannot_be_called_alone_is_told_and_no_fault(
    reference: Any, weights: StateDict, change: Callable[[Any], None], why: str
) -> None:
    layer = TIMM_NAMES.build(weights)
    change(layer)
    result = align.align(reference, layer)
    assert result.verdict == "aligned", result.gates
    said = f"not called alone ({why}): blocks.1.mlp_channels.fc1"
    assert said in result.gate("stress").sentence


@pytest.fixture(scope="module")
def flax_case(config: MixerConfig, source: StateDict) -> Case:
    pytest.importorskip("flax")
    return case_of(Subject(source=source, config=config, name="small", reference="flax"))


class TestWithFlax:
    def test_a_right_port_passes(self, flax_case: Case) -> None:
        result = run(flax_case)
        assert result.verdict == "aligned", result.gates
        assert result.gate("stress").sentence.startswith(f"{3 + 4 * (len(IN_BLOCK) + 2)} layers alone")
        assert "not called alone" not in result.gate("stress").sentence

    @pytest.mark.parametrize("path", ["blocks.1.mlp_tokens.act", "head"])
    def test_the_witness_is_what_it_is_compared_with(self, flax_case: Case, path: str) -> None:
        altered = with_candidate(flax_case, lambda model: put_in_front(layer_of(model, path), capped))
        fails(run(altered), "logits" if path == "head" else path, "the NumPy witness ")


def test_without_a_witness_it_is_the_reference(toy: Path) -> None:
    weights = TOY.draw(SMALL, 0)
    layer = in_paddle(LAYOUTS["paddle"].apply(weights))
    put_in_front(layer_of(layer, "net.fc1"), lambda _, forward, x: forward(x.clip(-1e3, 1e3)))
    result = align.align(in_torch(weights), layer)
    fails(result, "fc1", "net.fc1 alone, given values up to ")
    assert "torch " in result.gate("stress").sentence


def test_left_out_on_request(mixer_align: Run, weights: StateDict, tmp_path: Path) -> None:
    checkpoint = save_safetensors(tmp_path / "timm.safetensors", weights)
    arguments = json.dumps({"mistake": "gelu-cut-off"})
    options = ("--checkpoint", checkpoint, "--candidate-model", f"{TIMM_NAMES.file}:build")
    found = mixer_align(*options, "--candidate-args", arguments)
    assert found.exit_code == 1, found.output
    assert "no stress gate" not in found.output
    passed = mixer_align(*options, "--candidate-args", arguments, "--no-stress", "--json", tmp_path / "x.json")
    assert passed.exit_code == 0, passed.output
    assert "no stress gate" in passed.stdout.splitlines()[-1]
    data = json.loads((tmp_path / "x.json").read_text())
    assert data["settings"]["stress"] is False
    assert {gate["name"]: gate["passed"] for gate in data["gates"]}["stress"] is None


@pytest.mark.parametrize("mistake", [None, "gelu-capped", "raises"])
def test_layers_are_left_as_they_were(weights: StateDict, mistake: str | None) -> None:
    """They are called and not changed, whatever was found."""
    reference, layer = timm_model(weights), TIMM_NAMES.build(weights, mistake=mistake)
    align.align(reference, layer)
    assert not any(one._forward_pre_hooks or one._forward_post_hooks for one in layer.sublayers(include_self=True))
    assert not any(one._forward_pre_hooks or one._forward_hooks for one in reference.modules())


def test_the_sizes_are_those_of_the_strangers() -> None:
    """Sixteen tokens, which `refuses_others` knows."""
    assert (CONFIG.image_size // CONFIG.patch_size) ** 2 == 16
