"""Right ports pass, and each planted fault exits 1 and names its layer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from altered import Change, altering, with_candidate, with_reference
from conftest import Run, save_safetensors

from align.core.case import Case, Settings
from align.core.result import AlignmentResult
from align.mixer import models
from align.mixer.case import Subject, case_of
from align.run import align
from convert import files
from convert.arrays import Array, StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, MixerKind, get_variant

pytestmark = pytest.mark.usefixtures("frameworks")

Weights = dict[str, Array]
GATES = [
    *("structure", "weights", "float64", "float32", "determinism", "output", "batch"),
    *("stress", "state", "redrawn"),
]


@pytest.fixture(scope="module")
def subject(square_config: MixerConfig, square_source: StateDict) -> Subject:
    return Subject(source=square_source, config=square_config, name="square")


@pytest.fixture(scope="module")
def case(subject: Subject) -> Case:
    return case_of(subject)


@pytest.fixture(scope="module")
def right(case: Case) -> AlignmentResult:
    return align(case)


@pytest.fixture(scope="module")
def converted(case: Case) -> StateDict:
    return case.expected


def with_weights(subject: Subject, candidate: StateDict) -> AlignmentResult:
    return align(case_of(replace(subject, candidate=candidate)))


def with_source(subject: Subject, name: str, array: Array) -> AlignmentResult:
    """Align a right port of weights of which one is another."""
    return align(case_of(replace(subject, source={**subject.source, name: array})))


def with_model(case: Case, fault: Change) -> AlignmentResult:
    return align(with_candidate(case, fault))


def blamed(result: AlignmentResult) -> str:
    assert result.verdict == "diverged"
    assert result.first_divergence is not None
    return result.first_divergence.layer


class TestRightPort:
    def test_all_gates_pass(self, right: AlignmentResult) -> None:
        assert right.verdict == "aligned"
        assert [(gate.name, gate.passed) for gate in right.gates] == [(name, True) for name in GATES]
        assert right.first_divergence is None
        assert len(right.layers) == 1 + 10 * 4 + 3
        assert max(diff.max_abs_diff for row in right.layers for diff in row.float64.each().values()) < 1e-12

    def test_both_figures_differ_where_they_should(self, right: AlignmentResult) -> None:
        """Errors accumulate on a side's own activations only: from equal terms, the residual sum is exact."""
        last_block = next(row for row in right.layers if row.name == "blocks.3")
        assert last_block.float32.introduced.max_abs_diff == 0
        assert last_block.float32.inherited.max_abs_diff > 0

    def test_the_batch_is_the_same_for_all_sides_and_recorded(self, subject: Subject, right: AlignmentResult) -> None:
        settings = Settings(input_seed=1)
        other = align(case_of(subject, settings), settings)
        assert right.input_sha256 == align(case_of(subject)).input_sha256 != other.input_sha256

    @pytest.mark.parametrize("offset", [30.0, 1000.0])
    def test_a_mean_that_cancels_is_no_fault(self, subject: Subject, offset: float) -> None:
        """A LayerNorm keeps the rounding of what it subtracts; that is no difference between the ports."""
        result = with_source(subject, "stem.proj.bias", subject.source["stem.proj.bias"] + np.float32(offset))
        assert result.verdict in ("aligned", "rounding"), result.first_divergence
        assert all(row.float32.introduced.passed for row in result.layers)

    def test_half_precision_weights_are_compared_in_float32(self, subject: Subject) -> None:
        import ml_dtypes

        for dtype in (np.float16, ml_dtypes.bfloat16):
            source = {key: array.astype(dtype) for key, array in subject.source.items()}
            assert align(case_of(replace(subject, source=source))).verdict == "aligned"

    def test_tanh_gelu_aligns_too(self, subject: Subject) -> None:
        assert align(case_of(replace(subject, config=replace(subject.config, gelu="tanh")))).verdict == "aligned"


def untransposed(state_dict: Weights) -> None:
    state_dict["blocks.1.mlp_tokens.fc1.weight"] = state_dict["blocks.1.mlp_tokens.fc1.weight"].T


def blocks_swapped(state_dict: Weights) -> None:
    for key in [key for key in state_dict if key.startswith("blocks.2.")]:
        other = key.replace("blocks.2.", "blocks.3.")
        state_dict[key], state_dict[other] = state_dict[other], state_dict[key]


def norms_swapped(state_dict: Weights) -> None:
    for name in ("weight", "bias"):
        one, two = f"blocks.2.norm1.{name}", f"blocks.2.norm2.{name}"
        state_dict[one], state_dict[two] = state_dict[two], state_dict[one]


def head_bias_zeroed(state_dict: Weights) -> None:
    state_dict["head.bias"] = np.zeros_like(state_dict["head.bias"])


def lowest_bit(key: str) -> Callable[[Weights], None]:
    def flip(state_dict: Weights) -> None:
        state_dict[key] = state_dict[key].copy()
        state_dict[key].view(np.uint32).flat[7] ^= 1

    return flip


def nan(state_dict: Weights) -> None:
    state_dict["blocks.3.mlp_channels.fc2.weight"] = state_dict["blocks.3.mlp_channels.fc2.weight"].copy()
    state_dict["blocks.3.mlp_channels.fc2.weight"][5, 6] = np.nan


WEIGHT_FAULTS = [
    pytest.param(untransposed, "blocks.1.mlp_tokens.fc1", id="one square weight untransposed"),
    pytest.param(blocks_swapped, "blocks.2.norm1", id="blocks 2 and 3 swapped"),
    pytest.param(norms_swapped, "blocks.2.norm1", id="norm1 and norm2 swapped"),
    pytest.param(head_bias_zeroed, "logits", id="head bias zeroed"),
    pytest.param(nan, "blocks.3.mlp_channels.fc2", id="NaN"),
    *(
        pytest.param(lowest_bit(key), layer, id=f"lowest bit of {key}")
        for key, layer in (
            ("stem.proj.weight", "stem"),
            ("blocks.0.norm2.weight", "blocks.0.norm2"),
            ("blocks.2.mlp_tokens.fc2.bias", "blocks.2.mlp_tokens.fc2"),
            ("blocks.3.mlp_channels.fc1.weight", "blocks.3.mlp_channels.fc1"),
            ("head.weight", "logits"),
        )
    ),
]


@pytest.mark.parametrize(("fault", "layer"), WEIGHT_FAULTS)
def test_a_faulty_file_exits_1_and_names_the_layer(
    mixer_align: Run,
    tmp_path: Path,
    subject: Subject,
    converted: StateDict,
    fault: Callable[[Weights], None],
    layer: str,
) -> None:
    faulty = dict(converted)
    fault(faulty)
    checkpoint = save_safetensors(tmp_path / "timm.safetensors", subject.source)
    candidate = tmp_path / "faulty.pdparams"
    with candidate.open("wb") as stream:
        files.write(candidate, stream, faulty)
    report = tmp_path / "report.json"
    result = mixer_align("--checkpoint", checkpoint, "--candidate", candidate, "--json", report)
    assert result.exit_code == 1, result.output
    last = result.stdout.splitlines()[-1]
    assert last.startswith("diverged: ")
    assert f" {layer}: " in last
    assert "Paddle left the NumPy witness" in last
    data = json.loads(report.read_text())
    assert data["first_divergence"]["layer"] == layer
    gates = {gate["name"]: gate["passed"] for gate in data["gates"]}
    assert gates["weights"] is False
    assert gates["float64"] is False


def epsilon(model: Any) -> None:
    for layer in model.sublayers():
        if hasattr(layer, "_epsilon"):
            layer._epsilon = 1e-5


def tanh_in_block_2(model: Any) -> None:
    import paddle

    model.blocks[2].mlp_channels.act = paddle.nn.GELU(approximate=True)


def no_residual(model: Any) -> None:
    block = model.blocks[1]

    def forward(x: Any) -> Any:
        x = block.mlp_tokens(block.norm1(x).transpose([0, 2, 1])).transpose([0, 2, 1])
        return x + block.mlp_channels(block.norm2(x))

    block.forward = forward


def drifting_head(model: Any) -> None:
    import paddle

    model.head.forward = lambda x: paddle.nn.functional.linear(x, model.head.weight, model.head.bias * (1 + 1e-9))


MODEL_FAULTS = [
    pytest.param(epsilon, "blocks.0.norm1", id="LayerNorm epsilon 1e-5"),
    pytest.param(tanh_in_block_2, "blocks.2.mlp_channels.act", id="tanh GELU in one block"),
    pytest.param(no_residual, "blocks.1.token_mixing", id="missing residual"),
    pytest.param(drifting_head, "logits", id="one part in 10^9 at the head"),
]


@pytest.mark.parametrize(("fault", "layer"), MODEL_FAULTS)
def test_a_faulty_model_exits_1_and_names_the_layer(
    mixer_align: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    subject: Subject,
    fault: Change,
    layer: str,
) -> None:
    monkeypatch.setattr(models, "build_paddle", altering(models.build_paddle, fault))
    checkpoint = save_safetensors(tmp_path / "timm.safetensors", subject.source)
    result = mixer_align("--checkpoint", checkpoint)
    assert result.exit_code == 1, result.output
    last = result.stdout.splitlines()[-1]
    assert re.match(rf"diverged: timm.safetensors: {re.escape(layer)}: introduced float64 difference ", last), last
    assert " exceeds " in last
    assert "Paddle left the NumPy witness" in last


@pytest.mark.parametrize(
    ("name", "parameter", "layer"),
    [
        ("resmlp_12", "blocks.7.linear_tokens.weight", "blocks.7.linear_tokens"),
        ("gmlp_ti16", "blocks.7.mlp_channels.gate.proj.weight", "blocks.7.mlp_channels.gate.proj"),
    ],
)
def test_a_196_by_196_weight_left_untransposed_is_named(
    mixer_align: Run, tmp_path: Path, name: str, parameter: str, layer: str
) -> None:
    config = get_variant(name).config
    converted = dict(convert_state_dict(init_state_dict(config, 0), config).state_dict)
    assert converted[parameter].shape == (196, 196)
    converted[parameter] = converted[parameter].T
    candidate = save_safetensors(tmp_path / "faulty.safetensors", converted)
    result = mixer_align("--variant", name, "--init", "random", "--batch", "1", "--candidate", candidate)
    assert result.exit_code == 1, result.output
    assert f" {layer}: introduced float64 difference" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("stated", [(), ("--init", "random")])
def test_that_random_weights_stand_on_the_other_side_is_said(
    mixer_align: Run, tmp_path: Path, source: StateDict, stated: tuple[str, ...]
) -> None:
    candidate = save_safetensors(tmp_path / "mine.safetensors", source)
    result = mixer_align("--variant", "s32", *stated, "--candidate", candidate)
    assert result.exit_code == 1
    assert ("the reference's weights are random (seed 0); --checkpoint names" in result.stderr) is not bool(stated)


@pytest.mark.parametrize(
    ("kind", "layer"), [("gmixer", "blocks.0.mlp_tokens.act"), ("gmlp", "blocks.0.mlp_channels.gate.norm")]
)
def test_the_wrong_half_as_gate_is_named(
    config: MixerConfig, monkeypatch: pytest.MonkeyPatch, kind: MixerKind, layer: str
) -> None:
    import paddle

    case = case_of_kind(config, kind)
    assert align(case).verdict == "aligned"
    chunk = paddle.chunk
    monkeypatch.setattr(paddle, "chunk", lambda *a, **k: chunk(*a, **k)[::-1])
    assert blamed(align(case)) == layer


def test_layer_scale_forgotten_is_named(config: MixerConfig) -> None:
    case = case_of_kind(config, "resmlp")
    assert align(case).verdict == "aligned"

    def forget(model: Any) -> None:
        import paddle

        model.blocks[2].ls1.set_value(paddle.ones_like(model.blocks[2].ls1))

    assert blamed(with_model(case, forget)) == "blocks.2.token_mixing"


def case_of_kind(config: MixerConfig, kind: MixerKind) -> Case:
    config = replace(config, family=kind, tokens_mlp_dim=6 if kind == "gmixer" else 0)
    return case_of(Subject(source=init_state_dict(config, 0), config=config, name=kind))


def test_the_headline_bound_alone_would_pass_a_wrong_epsilon(case: Case) -> None:
    """Why 1e-5 on the logits is not enough."""
    result = with_model(case, epsilon)
    assert result.layers[-1].float32.inherited.max_abs_diff < 1e-5
    assert result.verdict == "diverged"


class TestWhoLeft:
    def test_a_wrong_torch_side_is_named(self, case: Case) -> None:
        result = align(with_reference(case, tanh_in_torch(1, "mlp_tokens")))
        assert blamed(result) == "blocks.1.mlp_tokens.act"
        assert "torch left the NumPy witness" in result.first_divergence.sentence

    def test_a_fault_on_both_sides_is_found_by_the_witness(self, case: Case) -> None:
        result = with_model(with_reference(case, tanh_in_torch(2, "mlp_channels")), tanh_in_block_2)
        assert blamed(result) == "blocks.2.mlp_channels.act"
        assert "both left the NumPy witness" in result.first_divergence.sentence


def tanh_in_torch(block: int, mlp: str) -> Change:
    import torch

    return lambda model: setattr(getattr(model.blocks[block], mlp), "act", torch.nn.GELU(approximate="tanh"))


class TestStructure:
    @pytest.fixture
    def broken(self, converted: StateDict) -> Weights:
        return dict(converted)

    @pytest.mark.parametrize(
        ("breakage", "layer", "says"),
        [
            (lambda s: s.pop("blocks.2.norm2.bias"), "blocks.2.norm2", "blocks.2.norm2.bias: is missing"),
            (lambda s: s.update(extra=np.zeros(1)), "", "extra: is in the candidate only"),
            (
                lambda s: s.update({"blocks.0.mlp_channels.fc1.weight": s["blocks.0.mlp_channels.fc1.weight"].T}),
                "blocks.0.mlp_channels.fc1",
                "float32 (96, 24), expected float32 (24, 96)",
            ),
            (
                lambda s: s.update({"norm.bias": s["norm.bias"].astype(np.float16)}),
                "norm",
                "float16 (24,), expected float32 (24,)",
            ),
        ],
    )
    def test_wrong_keys_shapes_and_dtypes_fail(
        self, subject: Subject, broken: Weights, breakage: Callable[[Weights], None], layer: str, says: str
    ) -> None:
        breakage(broken)
        result = with_weights(subject, broken)
        assert [gate.passed for gate in result.gates] == [False, *[None] * 9]
        assert blamed(result) == layer
        assert says in result.first_divergence.sentence

    def test_a_point_that_is_never_shown_fails(self, case: Case) -> None:
        def silent(model: Any) -> None:
            mlp = model.blocks[1].mlp_tokens
            mlp.forward = lambda x: mlp.fc2(mlp.act(mlp.fc1.forward(x)))

        result = with_model(case, silent)
        assert [gate.passed for gate in result.gates] == [False, True, *[None] * 8]
        assert blamed(result) == "blocks.1.mlp_tokens.fc1"
        assert "Paddle never shows blocks.1.mlp_tokens.fc1" in result.first_divergence.sentence

    def test_a_point_of_another_shape_fails(self, case: Case) -> None:
        def pooled_first(model: Any) -> None:
            norm = model.norm.forward
            model.norm.forward = lambda x: norm(x.mean(axis=1, keepdim=True))

        result = with_model(case, pooled_first)
        assert result.gate("structure").passed is False
        assert blamed(result) == "norm"

    @pytest.mark.parametrize(("alter", "side"), [(with_reference, "torch"), (with_candidate, "Paddle")])
    def test_a_forward_that_fails_is_a_finding(
        self, case: Case, alter: Callable[[Case, Change], Case], side: str
    ) -> None:
        def fails(model: Any) -> None:
            def forward(_: Any) -> Any:
                raise RuntimeError("out of\nluck")

            model.blocks[2].norm2.forward = forward

        result = align(alter(case, fails))
        assert [gate.passed for gate in result.gates] == [False, True, *[None] * 8]
        assert blamed(result) == "blocks.2.norm2"
        assert f"{side}: its forward fails with RuntimeError: out of luck" in result.first_divergence.sentence

    def test_a_model_that_ignores_the_weights_fails(self, case: Case) -> None:
        result = with_model(case, lambda model: model.norm.bias.set_value(np.zeros(24, np.float32)))
        assert result.gate("weights").passed is False
        assert "does not hold the value that was loaded" in result.gate("weights").sentence


class TestVerdicts:
    def test_large_logits_are_rounding_and_not_a_fault(self, subject: Subject) -> None:
        """At logits of about a thousand float32 cannot hold 1e-5; the float64 gate shows that nothing is wrong."""
        result = with_source(subject, "head.weight", subject.source["head.weight"] * np.float32(10_000))
        assert result.verdict == "rounding"
        assert result.gate("float32").passed is False
        assert result.gate("float64").passed is True
        assert result.failed()
        assert not result.failed(accept_rounding=True)

    def test_rounding_exits_1_unless_accepted(self, mixer_align: Run, tmp_path: Path, subject: Subject) -> None:
        checkpoint = save_safetensors(tmp_path / "x.safetensors", subject.source)
        refused = mixer_align("--checkpoint", checkpoint, "--atol", "1e-9")
        assert refused.exit_code == 1
        assert refused.stdout.splitlines()[-1].startswith("rounding: ")
        assert mixer_align("--checkpoint", checkpoint, "--atol", "1e-9", "--accept-rounding").exit_code == 0

    def test_accept_rounding_accepts_nothing_else(self, subject: Subject, converted: StateDict) -> None:
        faulty = dict(converted)
        lowest_bit("norm.weight")(faulty)
        assert with_weights(subject, faulty).failed(accept_rounding=True)

    def test_low_precision_in_float32_alone_is_caught(self, case: Case) -> None:
        """A side that computes in half precision only when asked for float32, as TF32 does."""

        import paddle

        def half(model: Any) -> None:
            act = model.blocks[2].mlp_tokens.act
            forward = act.forward

            def rounded(x: Any) -> Any:
                return forward(x.astype("float16").astype("float32")) if x.dtype == paddle.float32 else forward(x)

            act.forward = rounded

        result = with_model(case, half)
        assert result.gate("float64").passed is True
        assert blamed(result) == "blocks.2.mlp_tokens.act"
        assert "introduced float32 difference" in result.first_divergence.sentence


class TestCommand:
    def test_text_and_json(self, mixer_align: Run, tmp_path: Path, subject: Subject) -> None:
        checkpoint = save_safetensors(tmp_path / "x.safetensors", subject.source)
        result = mixer_align("--checkpoint", checkpoint, "--json", "-")
        assert result.exit_code == 0, result.output
        data = json.loads(result.stdout)
        assert data["schema"] == "mixer-align/result/3"
        assert data["verdict"] == "aligned"
        assert [gate["name"] for gate in data["gates"]] == GATES
        assert data["settings"]["weights"]["file"] == "x.safetensors"
        assert data["environment"]["versions"]["timm"]
        assert [layer["name"] for layer in data["layers"]][-3:] == ["norm", "pooled", "logits"]
        assert set(data["layers"][0]["float64"]) == {
            *("inherited", "introduced", "reference_vs_witness", "candidate_vs_witness")
        }
        assert result.stderr.splitlines()[-1].startswith("aligned: x.safetensors: ")

    def test_nan_is_valid_json(self, mixer_align: Run, tmp_path: Path, subject: Subject, converted: StateDict) -> None:
        faulty = dict(converted)
        nan(faulty)
        checkpoint = save_safetensors(tmp_path / "x.safetensors", subject.source)
        candidate = save_safetensors(tmp_path / "y.safetensors", faulty)
        result = mixer_align("--checkpoint", checkpoint, "--candidate", candidate, "--json", "-")
        data = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert data["gates"][0]["passed"] is False
        assert "Paddle is not finite" in data["gates"][0]["sentence"]

    def test_nan_in_the_source_is_bad_input(self, mixer_align: Run, tmp_path: Path, subject: Subject) -> None:
        source = dict(subject.source) | {"norm.bias": np.full(24, np.nan, np.float32)}
        result = mixer_align("--checkpoint", save_safetensors(tmp_path / "x.safetensors", source))
        assert result.exit_code == 3
        assert "norm.bias" in result.stderr

    @pytest.mark.parametrize("atol", ["nan", "inf"])
    def test_a_bound_that_is_no_number_is_refused(self, mixer_align: Run, atol: str) -> None:
        result = mixer_align("--variant", "s32", "--atol", atol)
        assert result.exit_code == 2
        assert "finite" in result.stderr

    def test_the_verdict_is_shown_even_when_the_json_cannot_be_written(
        self, mixer_align: Run, tmp_path: Path, subject: Subject
    ) -> None:
        checkpoint = save_safetensors(tmp_path / "x.safetensors", subject.source)
        link = tmp_path / "link"
        link.symlink_to("/proc/version")  # a file in a folder where nobody can make one, which only writing tells
        result = mixer_align("--checkpoint", checkpoint, "--json", link)
        assert result.exit_code == 4
        assert result.stdout.splitlines()[-1].startswith("aligned: ")

    def test_there_is_no_flax_reference_for_other_families(self, mixer_align: Run) -> None:
        result = mixer_align("--variant", "gmixer_12", "--reference", "flax")
        assert result.exit_code == 2
        assert "there is none for gmixer" in result.stderr

    def test_a_missing_candidate_exits_4(self, mixer_align: Run, tmp_path: Path, subject: Subject) -> None:
        checkpoint = save_safetensors(tmp_path / "x.safetensors", subject.source)
        result = mixer_align("--checkpoint", checkpoint, "--candidate", tmp_path / "none.pdparams")
        assert result.exit_code == 4
        assert "none.pdparams" in result.stderr


# b16 is what the README aligns first; s32 is in test_align_backward.py, b32 in test_align_flax.py, L/32 in _memory.py
@pytest.mark.slow
@pytest.mark.parametrize("name", ["s16", "gmixer_12", "resmlp_12", "gmlp_ti16"])
def test_every_family_aligns_at_full_size(mixer_align: Run, tmp_path: Path, name: str) -> None:
    report = tmp_path / "report.json"
    result = mixer_align("--variant", name, "--init", "random", "--seed", 2, "--batch", 1, "--json", report)
    assert result.exit_code == 0, result.output
    data = json.loads(report.read_text())
    assert data["verdict"] == "aligned"
    assert all(layer["float64"]["introduced"]["max_abs_diff"] < 1e-12 for layer in data["layers"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["l16_in21k", "gmixer_24", "resmlp_24", "resmlp_36", "resmlp_big_24", "gmlp_s16", "gmlp_b16"]
)
def test_two_blocks_of_every_architecture_align(name: str) -> None:
    """At full width; that every key of all blocks arrives is in test_convert_layouts.py."""
    config = replace(get_variant(name).config, num_blocks=2)
    settings = Settings(batch=1)
    result = align(case_of(Subject(source=init_state_dict(config, 0), config=config, name=name), settings), settings)
    assert result.verdict == "aligned", result.gates
    assert all(row.float64.introduced.max_abs_diff < 1e-12 for row in result.layers)
