"""A recorded trace passes right ports without torch, names the layer of each planted fault, and is safe to read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from altered import Change, altering, with_candidate
from conftest import Run, save_safetensors

from align.core import inputs
from align.core.case import Case, Settings
from align.core.sketch import PROJECTIONS, distance, sketch, weights_along
from align.mixer import models
from align.mixer.alignment import ALIGNMENT
from align.mixer.case import Subject, case_of
from align.trace import trace_file
from align.trace.gate import case_of_trace, check, record
from align.trace.golden import GoldenTrace
from align.trace.result import TraceResult
from convert.arrays import Array, StateDict, tensor_sha256
from convert.mixer import init
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, MixerKind

pytestmark = pytest.mark.usefixtures("frameworks")

Weights = dict[str, Array]
KINDS: tuple[MixerKind, ...] = ("mixer", "gmixer", "resmlp", "gmlp")


def config_of(kind: MixerKind, square_config: MixerConfig) -> MixerConfig:
    tokens_mlp_dim = square_config.tokens_mlp_dim if kind in ("mixer", "gmixer") else 0
    return dataclasses.replace(square_config, family=kind, tokens_mlp_dim=tokens_mlp_dim)


def recorded(config: MixerConfig, source: StateDict | None = None, *, seed: int = 0, batch: int = 2) -> GoldenTrace:
    """Record a trace of weights, by default the seeded ones."""
    subject = Subject(
        source=init_state_dict(config, seed) if source is None else source,
        config=config,
        name=f"seed {seed}",
        provenance={"kind": "random", "seed": seed} if source is None else {},
    )
    settings = Settings(batch=batch, input_seed=seed)
    return record(case_of(subject, settings), settings)


@pytest.fixture(scope="module")
def traces(frameworks: None, square_config: MixerConfig) -> dict[str, GoldenTrace]:
    """A trace of each kind."""
    return {kind: recorded(config_of(kind, square_config)) for kind in KINDS}


@pytest.fixture(scope="module")
def trace(traces: dict[str, GoldenTrace]) -> GoldenTrace:
    return traces["mixer"]


@pytest.fixture(scope="module")
def weights(square_config: MixerConfig, square_source: StateDict) -> StateDict:
    return convert_state_dict(square_source, square_config).state_dict


@pytest.fixture
def path(tmp_path: Path, trace: GoldenTrace) -> Path:
    return written(tmp_path / "trace.json", trace)


def written(path: Path, trace: GoldenTrace) -> Path:
    with path.open("wb") as stream:
        trace_file.write(stream, trace)
    return path


def case_for(trace: GoldenTrace, candidate: StateDict | None = None) -> Case:
    return case_of_trace(trace, ALIGNMENT, candidate)


def checked(trace: GoldenTrace, candidate: StateDict | None = None) -> TraceResult:
    return check(trace, case_for(trace, candidate))


def with_model(trace: GoldenTrace, fault: Change) -> TraceResult:
    return check(trace, with_candidate(case_for(trace), fault))


def blamed(result: TraceResult) -> str:
    assert result.verdict == "diverged"
    assert result.first_divergence is not None
    return result.first_divergence.layer


class TestRightPort:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_passes(self, traces: dict[str, GoldenTrace], kind: str) -> None:
        result = checked(traces[kind])
        assert result.verdict == "aligned", result.gates
        assert [gate.passed for gate in result.gates] == [True] * 4
        assert not result.failed()

    @pytest.mark.parametrize("kind", KINDS)
    def test_other_seeds_pass_with_room_to_spare(self, square_config: MixerConfig, kind: MixerKind) -> None:
        """The bounds are neither met by a hair nor so far off that they could never fail."""
        config = config_of(kind, square_config)
        for seed in (1, 2):
            result = checked(recorded(config, seed=seed, batch=1))
            assert result.verdict == "aligned", result.gates
            assert max(row.float64.distance / row.float64.bound for row in result.points) < 0.1
            assert 0.01 < max(row.float32.distance / row.float32.bound for row in result.points) < 0.5

    @pytest.mark.parametrize("offset", [30.0, 1000.0])
    def test_a_mean_that_cancels_is_no_fault(self, square_source: StateDict, offset: float, trace: GoldenTrace) -> None:
        """The reference's own rounding sets the bounds, so a hard point is judged by how hard it is."""
        source = dict(square_source) | {"stem.proj.bias": square_source["stem.proj.bias"] + np.float32(offset)}
        result = self.of(trace.config, source)
        assert all(row.float64.passed and row.float32.passed for row in result.points), result.gates

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_weights_pass(self, square_source: StateDict, trace: GoldenTrace, dtype: str) -> None:
        source = {key: array.astype(half(dtype)) for key, array in square_source.items()}
        assert {tensor.dtype for tensor in recorded(trace.config, source).weights} == {dtype}
        result = self.of(trace.config, source)
        assert result.verdict == "aligned", result.gates

    def test_large_logits_are_rounding_and_not_a_fault(self, square_source: StateDict, trace: GoldenTrace) -> None:
        source = dict(square_source) | {"head.weight": square_source["head.weight"] * np.float32(10_000)}
        result = self.of(trace.config, source)
        assert result.verdict == "rounding"
        assert result.failed()
        assert not result.failed(accept_rounding=True)

    def of(self, config: MixerConfig, source: StateDict) -> TraceResult:
        return checked(recorded(config, source), convert_state_dict(source, config).state_dict)


def half(dtype: str) -> Any:
    import ml_dtypes

    return np.float16 if dtype == "float16" else ml_dtypes.bfloat16


def put(state_dict: Weights, key: str, value: Array) -> None:
    state_dict[key] = np.ascontiguousarray(value, dtype=np.float32)


def swapped(state_dict: Weights, one: str, other: str) -> None:
    for key in [key for key in state_dict if key.startswith(one)]:
        twin = other + key.removeprefix(one)
        state_dict[key], state_dict[twin] = state_dict[twin], state_dict[key]


def shifted(state_dict: Weights) -> None:
    original = dict(state_dict)
    for key in [key for key in state_dict if key.startswith("blocks.")]:
        _, i, rest = key.split(".", 2)
        state_dict[key] = original[f"blocks.{(int(i) + 1) % 4}.{rest}"]


def lowest_bit(key: str) -> Callable[[Weights], None]:
    def flip(state_dict: Weights) -> None:
        state_dict[key] = state_dict[key].copy()
        state_dict[key].view(np.uint32).flat[7] ^= 1

    return flip


def rounded_to(dtype: str, key: str) -> Callable[[Weights], None]:
    return lambda state_dict: put(state_dict, key, state_dict[key].astype(half(dtype)))


def edited(key: str, edit: Callable[[Array], Array]) -> Callable[[Weights], None]:
    return lambda state_dict: put(state_dict, key, edit(state_dict[key]))


WEIGHT_FAULTS = [
    ("mixer", edited("blocks.1.mlp_tokens.fc1.weight", np.transpose), "blocks.1.mlp_tokens.fc1"),
    ("resmlp", edited("blocks.2.linear_tokens.weight", np.transpose), "blocks.2.linear_tokens"),
    ("gmlp", edited("blocks.3.mlp_channels.gate.proj.weight", np.transpose), "blocks.3.mlp_channels.gate.proj"),
    ("mixer", lambda s: swapped(s, "blocks.2.", "blocks.3."), "blocks.2.norm1"),
    ("mixer", lambda s: swapped(s, "blocks.2.norm1.", "blocks.2.norm2."), "blocks.2.norm1"),
    ("mixer", lambda s: swapped(s, "blocks.1.norm2.", "norm."), "blocks.1.norm2"),
    ("mixer", shifted, "blocks.0.norm1"),
    ("mixer", edited("head.weight", lambda w: w[::-1]), "logits"),
    ("mixer", edited("head.weight", lambda w: w[:, ::-1]), "logits"),
    ("mixer", edited("blocks.0.mlp_channels.fc1.weight", lambda w: np.roll(w, 1, axis=1)), "blocks.0.mlp_channels.fc1"),
    ("mixer", edited("head.bias", np.zeros_like), "logits"),
    ("resmlp", edited("blocks.3.norm2.beta", np.zeros_like), "blocks.3.norm2"),
    ("mixer", edited("blocks.3.mlp_tokens.fc2.weight", np.negative), "blocks.3.mlp_tokens.fc2"),
    ("mixer", edited("stem.proj.weight", lambda w: w.transpose(0, 1, 3, 2)), "stem"),
    ("mixer", edited("stem.proj.weight", lambda w: w[:, ::-1]), "stem"),
    ("mixer", rounded_to("float16", "blocks.1.mlp_channels.fc2.weight"), "blocks.1.mlp_channels.fc2"),
    ("mixer", rounded_to("bfloat16", "norm.weight"), "norm"),
    ("gmixer", rounded_to("bfloat16", "blocks.0.mlp_tokens.fc2.weight"), "blocks.0.mlp_tokens.fc2"),
    ("mixer", lowest_bit("stem.proj.weight"), "stem"),
    ("mixer", lowest_bit("blocks.0.norm2.weight"), "blocks.0.norm2"),
    ("mixer", lowest_bit("blocks.3.mlp_channels.fc1.weight"), "blocks.3.mlp_channels.fc1"),
    ("resmlp", lowest_bit("blocks.1.ls1"), "blocks.1.token_mixing"),
    ("gmlp", lowest_bit("blocks.2.mlp_channels.gate.norm.bias"), "blocks.2.mlp_channels.gate.norm"),
    ("mixer", lowest_bit("head.weight"), "logits"),
]


@pytest.mark.parametrize(("kind", "fault", "layer"), WEIGHT_FAULTS)
def test_faulty_weights_fail_both_gates_and_the_layer_is_named(
    traces: dict[str, GoldenTrace], kind: str, fault: Callable[[Weights], None], layer: str
) -> None:
    trace = traces[kind]
    state_dict = dict(convert_state_dict(init_state_dict(trace.config, 0), trace.config).state_dict)
    fault(state_dict)
    result = checked(trace, state_dict)
    assert [gate.passed for gate in result.gates[:3]] == [True, False, False]
    assert blamed(result) == layer
    assert "its bits are not the recorded ones" in result.first_divergence.sentence


def epsilon(model: Any) -> None:
    for layer in model.sublayers():
        if hasattr(layer, "_epsilon"):
            layer._epsilon = 1e-5


def tanh(model: Any) -> None:
    import paddle

    model.blocks[2].mlp_channels.act = paddle.nn.GELU(approximate=True)


def rewired(i: int, forward: Callable[[Any, Any], Any]) -> Change:
    def fault(model: Any) -> None:
        block = model.blocks[i]
        block.forward = lambda x: forward(block, x)

    return fault


def across(x: Any) -> Any:
    return x.transpose([0, 2, 1])


def no_residual(block: Any, x: Any) -> Any:
    x = across(block.mlp_tokens(across(block.norm1(x))))
    return x + block.mlp_channels(block.norm2(x))


def residual_from_the_norm(block: Any, x: Any) -> Any:
    x = block.norm1(x)
    x = x + across(block.mlp_tokens(across(x)))
    return x + block.mlp_channels(block.norm2(x))


def norm_after(block: Any, x: Any) -> Any:
    x = block.norm1(x + across(block.mlp_tokens(across(x))))
    return x + block.mlp_channels(block.norm2(x))


def pooled_before_norm(model: Any) -> None:
    norm, tokens = model.norm.forward, 64
    model.norm.forward = lambda x: norm(x.mean(axis=1, keepdim=True)).expand([x.shape[0], tokens, x.shape[2]])


def pooled_first(model: Any) -> None:
    norm = model.norm.forward
    model.norm.forward = lambda x: norm(x.mean(axis=1, keepdim=True))


def dropout(model: Any) -> None:
    import paddle

    paddle.seed(0)
    forward = model.blocks[3].mlp_channels.act.forward
    model.blocks[3].mlp_channels.act.forward = lambda x: paddle.nn.functional.dropout(forward(x), 0.1, training=True)


def columns_first(model: Any) -> None:
    stem = model.stem.forward
    model.stem.forward = lambda images: stem(images.transpose([0, 1, 3, 2]))


def tokens_transposed(model: Any) -> None:
    stem = model.stem.forward
    model.stem.forward = lambda images: stem(images).reshape([0, 8, 8, 24]).transpose([0, 2, 1, 3]).reshape([0, 64, 24])


def wrong_half(model: Any) -> None:
    import paddle

    unit = model.blocks[1].mlp_channels.gate

    def forward(x: Any) -> Any:
        gate, value = paddle.chunk(x, 2, axis=-1)
        return value * across(unit.proj(across(unit.norm(gate))))

    unit.forward = forward


def no_layer_scale(block: Any, x: Any) -> Any:
    x = x + across(block.linear_tokens(across(block.norm1(x))))
    return x + block.ls2 * block.mlp_channels(block.norm2(x))


MODEL_FAULTS = [
    ("mixer", epsilon, "blocks.0.norm1"),
    ("gmlp", epsilon, "blocks.0.norm"),
    ("mixer", tanh, "blocks.2.mlp_channels.act"),
    ("mixer", rewired(1, no_residual), "blocks.1.token_mixing"),
    ("mixer", rewired(1, residual_from_the_norm), "blocks.1.token_mixing"),
    ("mixer", rewired(2, norm_after), "blocks.2.norm1"),
    ("mixer", pooled_before_norm, "norm"),
    ("mixer", dropout, "blocks.3.mlp_channels.act"),
    ("mixer", columns_first, "stem"),
    ("mixer", tokens_transposed, "stem"),
    ("gmlp", wrong_half, "blocks.1.mlp_channels.gate.norm"),
    ("resmlp", rewired(2, no_layer_scale), "blocks.2.token_mixing"),
]


@pytest.mark.parametrize(("kind", "fault", "layer"), MODEL_FAULTS)
def test_a_faulty_model_fails_and_the_layer_is_named(
    traces: dict[str, GoldenTrace], kind: str, fault: Change, layer: str
) -> None:
    result = with_model(traces[kind], fault)
    assert [gate.passed for gate in result.gates[:3]] == [True, True, False]
    assert blamed(result) == layer


class TestOtherGates:
    def test_a_point_of_another_shape_fails_the_structure(self, trace: GoldenTrace) -> None:
        result = with_model(trace, pooled_first)
        assert [gate.passed for gate in result.gates] == [False, True, None, None]
        assert blamed(result) == "norm"

    def test_a_forward_that_fails_is_a_finding(self, trace: GoldenTrace) -> None:
        def fails(model: Any) -> None:
            model.blocks[2].norm2.forward = lambda x: x.reshape([5, 7])

        result = with_model(trace, fails)
        assert [gate.passed for gate in result.gates] == [False, True, None, None]
        assert blamed(result) == "blocks.2.norm2"
        assert "Paddle: its forward fails with ValueError: " in result.first_divergence.sentence

    def test_half_precision_in_float32_only_fails_that_gate(self, trace: GoldenTrace) -> None:
        def half(model: Any) -> None:
            import paddle

            act = model.blocks[2].mlp_tokens.act
            forward = act.forward
            act.forward = lambda x: (
                forward(x.astype("float16").astype("float32")) if x.dtype == paddle.float32 else forward(x)
            )

        result = with_model(trace, half)
        assert [gate.passed for gate in result.gates] == [True, True, True, False]
        assert blamed(result) == "blocks.2.mlp_tokens.act"

    def test_a_model_that_ignores_the_weights_fails(self, trace: GoldenTrace) -> None:
        result = with_model(trace, lambda model: model.norm.bias.set_value(np.zeros(24, np.float32)))
        assert "does not hold the value that was loaded" in result.gates[1].sentence
        assert blamed(result) == "norm"

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_not_finite_fails(self, trace: GoldenTrace, weights: StateDict, value: float) -> None:
        broken = dict(weights)
        broken["blocks.3.mlp_channels.fc2.bias"] = np.full(24, value, np.float32)
        result = checked(trace, broken)
        assert [gate.passed for gate in result.gates] == [False, False, False, False]
        assert blamed(result) == "blocks.3.mlp_channels.fc2"

    @pytest.mark.parametrize(
        ("breakage", "says"),
        [
            (lambda s: s.pop("norm.bias"), "norm.bias: is missing from the candidate"),
            (lambda s: s.update(extra=np.zeros(1)), "extra: is in the candidate only"),
            (lambda s: s.update({"head.weight": s["head.weight"].T}), "the candidate has float32 (10, 24), expected"),
            (lambda s: s.update({"norm.bias": s["norm.bias"].astype(np.float16)}), "the candidate has float16 (24,)"),
        ],
    )
    def test_keys_shapes_and_dtypes(
        self, trace: GoldenTrace, weights: StateDict, breakage: Callable[[Weights], object], says: str
    ) -> None:
        broken = dict(weights)
        breakage(broken)
        result = checked(trace, broken)
        assert [gate.passed for gate in result.gates] == [False, None, None, None]
        assert says in result.gates[0].sentence

    def test_what_a_tensor_holds_instead_is_said(self, trace: GoldenTrace, weights: StateDict) -> None:
        wrong = dict(weights)
        swapped(wrong, "blocks.2.norm1.", "blocks.2.norm2.")
        put(wrong, "blocks.1.mlp_tokens.fc1.weight", weights["blocks.1.mlp_tokens.fc1.weight"].T)
        sentences = checked(trace, wrong).gates[1].sentence
        assert "they are those of blocks.1.mlp_tokens.fc1.weight transposed (and 4 more)" in sentences


class TestRecord:
    def test_a_reference_that_leaves_the_witness_is_refused(
        self, mixer_align: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, square_source: StateDict
    ) -> None:
        import torch

        def faulty(model: Any) -> None:
            model.blocks[1].mlp_tokens.act = torch.nn.GELU(approximate="tanh")

        monkeypatch.setattr(models, "build_timm", altering(models.build_timm, faulty))
        checkpoint, out = save_safetensors(tmp_path / "x.safetensors", square_source), tmp_path / "trace.json"
        result = mixer_align("record", "--checkpoint", checkpoint, "--out", out)
        assert result.exit_code == 1
        assert "blocks.1.mlp_tokens.act: torch is" in result.stderr
        assert not out.exists()

    def test_the_bytes_are_the_same_twice(self, trace: GoldenTrace, tmp_path: Path) -> None:
        again = recorded(trace.config)
        assert again == trace
        first, second = written(tmp_path / "1.json", trace), written(tmp_path / "2.json", again)
        assert second.read_bytes() == first.read_bytes()
        assert trace_file.read(second) == again

    def test_the_points_are_the_references_and_not_paddles(self, trace: GoldenTrace) -> None:
        """Recomputed from timm's own logits, by the definition of a projection."""
        case = case_for(trace)
        model = case.reference.build()
        case.reference.probe.cast(model, "float64")
        logits = case.reference.probe.forward(model, case.inputs.astype(np.float64))
        rows, channels = weights_along("rows", 2)[3], weights_along("channels", 10)[3]
        expected = sum(rows[r] * logits[r, c] * channels[c] for r in range(2) for c in range(10)) / 20**0.5
        assert trace.points[-1].sketch.projections[3] == pytest.approx(expected, abs=1e-15)
        assert trace.logits == pytest.approx(logits.reshape(-1), abs=1e-15)
        assert trace.weights[0].sha256 == tensor_sha256(init_state_dict(trace.config, 0)["stem.proj.weight"])

    @pytest.mark.slow
    def test_b16_stays_below_200_kb_and_passes(self, mixer_align: Run, tmp_path: Path) -> None:
        out = tmp_path / "b16.json"
        result = mixer_align("record", "--variant", "b16_in21k", "--batch", "1", "--out", out)
        assert result.exit_code == 0, result.output
        assert out.stat().st_size < 200_000
        result = mixer_align("check", "--trace", out)
        assert result.exit_code == 0, result.output


class TestCommand:
    def test_record_then_check(self, mixer_align: Run, tmp_path: Path, square_source: StateDict) -> None:
        checkpoint, out = save_safetensors(tmp_path / "x.safetensors", square_source), tmp_path / "trace.json"
        result = mixer_align("record", "--checkpoint", checkpoint, "--out", out, "--json", "-")
        assert result.exit_code == 0, result.output
        data = json.loads(result.stdout)
        assert data["schema"] == "mixer-align/record/1"
        assert data["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
        assert mixer_align("record", "--checkpoint", checkpoint, "--out", out).exit_code == 2
        assert mixer_align("record", "--checkpoint", checkpoint, "--out", out, "--force").exit_code == 0
        assert mixer_align("record", "--checkpoint", checkpoint, "--out", checkpoint, "--force").exit_code == 2
        result = mixer_align("check", "--trace", out)
        assert result.exit_code == 2
        assert "recorded with x.safetensors" in result.stderr

    def test_text_and_json(self, mixer_align: Run, path: Path) -> None:
        result = mixer_align("check", "--trace", path, "--json", "-")
        assert result.exit_code == 0, result.output
        data = json.loads(result.stdout)
        assert data["schema"] == "mixer-align/check/1"
        assert [gate["name"] for gate in data["gates"]] == ["structure", "weights", "float64", "float32"]
        assert len(data["points"]) == 44
        assert result.stderr.splitlines()[-1].startswith("aligned: seed 0: the logits lie ")

    def test_a_faulty_candidate_exits_1(self, mixer_align: Run, path: Path, tmp_path: Path, weights: StateDict) -> None:
        faulty = dict(weights)
        lowest_bit("blocks.3.mlp_channels.fc1.weight")(faulty)
        candidate = save_safetensors(tmp_path / "y.safetensors", faulty)
        result = mixer_align("check", "--trace", path, "--candidate", candidate)
        assert result.exit_code == 1, result.output
        last = result.stdout.splitlines()[-1]
        assert last.startswith("diverged: seed 0: blocks.3.mlp_channels.fc1: float64 projections ")
        assert "blocks.3.mlp_channels.fc1.weight: its bits are not the recorded ones" in last

    def test_nan_is_valid_json(self, mixer_align: Run, path: Path, tmp_path: Path, weights: StateDict) -> None:
        faulty = dict(weights) | {"norm.bias": np.full(24, np.nan, np.float32)}
        candidate = save_safetensors(tmp_path / "y.safetensors", faulty)
        result = mixer_align("check", "--trace", path, "--candidate", candidate, "--json", "-")
        assert result.exit_code == 1
        json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    def test_another_variants_candidate_exits_1(self, mixer_align: Run, path: Path, tmp_path: Path) -> None:
        other = MixerConfig(
            image_size=20,
            patch_size=5,
            num_blocks=2,
            hidden_dim=10,
            tokens_mlp_dim=6,
            channels_mlp_dim=14,
            num_classes=7,
        )
        state_dict = convert_state_dict(init_state_dict(other, 0), other).state_dict
        candidate = save_safetensors(tmp_path / "y.safetensors", dict(state_dict))
        result = mixer_align("check", "--trace", path, "--candidate", candidate)
        assert result.exit_code == 1
        assert "expected float32 (24, 3, 4, 4)" in result.stdout.splitlines()[-1]

    def test_rounding_exits_1_unless_accepted(self, mixer_align: Run, path: Path) -> None:
        refused = mixer_align("check", "--trace", path, "--atol", "1e-9")
        assert refused.exit_code == 1
        assert refused.stdout.splitlines()[-1].startswith("rounding: ")
        assert mixer_align("check", "--trace", path, "--atol", "1e-9", "--accept-rounding").exit_code == 0
        assert mixer_align("check", "--trace", path, "--atol", "nan").exit_code == 2


def rewrite(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a trace and give it a hash that matches."""
    data = json.loads(path.read_text())
    edit(data)
    content = {key: value for key, value in data.items() if key not in ("schema", "sha256")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps(data | {"sha256": hashlib.sha256(text.encode()).hexdigest()}))


class TestFile:
    def test_a_changed_number_exits_5(self, mixer_align: Run, path: Path, trace: GoldenTrace) -> None:
        old = repr(trace.points[5].sketch.projections[2])
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, repr(trace.points[5].sketch.projections[2] * 1.5)))
        result = mixer_align("check", "--trace", path)
        assert result.exit_code == 5
        assert "does not match its hash" in result.stderr

    def test_a_changed_number_with_a_new_hash_diverges(self, mixer_align: Run, path: Path) -> None:
        rewrite(path, lambda data: data["points"][5]["projections"].__setitem__(2, 0.5))
        assert mixer_align("check", "--trace", path).exit_code == 1

    def test_a_trace_of_the_former_schema_is_read(self, mixer_align: Run, path: Path, trace: GoldenTrace) -> None:
        """It does not name a family: there was one."""
        rewrite(path, lambda data: (data.pop("family"), data.update(schema="mixer-align/trace/1")))
        assert trace_file.read(path) == trace
        assert mixer_align("check", "--trace", path).exit_code == 0

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"{}", b"1" * 5000, b" " * (5 << 20)),
            b'{"schema": "mixer-align/trace/2"}',
            b'{"schema": "mixer-align/trace/1"}',
            b'{"schema": "mixer-align/trace/3"}',
            b'{"schema": "mixer-align/trace/2", "a": NaN}',
            b'{"schema": "mixer-align/trace/2", "a": 1e999}',
        ],
        ids=range(13),
    )
    def test_what_is_no_trace_exits_3_or_5(self, mixer_align: Run, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        result = mixer_align("check", "--trace", path)
        assert result.exit_code == (5 if content.endswith((b'trace/1"}', b'trace/2"}')) else 3), result.output
        assert result.stderr.startswith(f"Error: {path}: ")

    @pytest.mark.parametrize(
        ("edit", "says"),
        [
            (lambda d: d.pop("points"), "has no points"),
            (lambda d: d["points"].pop(), "is [{'name': 'stem'"),
            (lambda d: d["points"][3].update(name="stem"), "name is stem, not blocks.0.mlp_tokens.act"),
            (lambda d: d["points"][3].update(shape=[1]), "shape is [1], not [2, 24, 64]"),
            (lambda d: d["points"][3]["projections"].pop(), f"not a list of {PROJECTIONS}"),
            (lambda d: d["points"][3].update(rms=True), "rms is True, not finite"),
            (lambda d: d["points"][3].update(rms="1"), "rms is 1, not finite"),
            (lambda d: d["points"][3].update(rms=10**400), "not finite"),
            (lambda d: d["weights"][0].update(sha256="0" * 63), "not 64 hexadecimal digits"),
            (lambda d: d["weights"][0].update(dtype="object"), "not float32 or float16 or bfloat16"),
            (lambda d: d["config"].update(hidden_dim=10**9), "not a whole number from 1 to 65536"),
            (lambda d: d["config"].update(hidden_dim=60_000, channels_mlp_dim=60_000), "more memory"),
            (lambda d: d["config"].update(patch_size=5), "none that a vision MLP has"),
            (lambda d: d["config"].update(family="vit"), "family is vit"),
            (lambda d: d.update(family="vit"), "its family vit is not installed here"),
            (lambda d: d.pop("family"), "has no family"),
            (lambda d: d["config"].update(extra=1), "has the fields"),
            (lambda d: d["inputs"].update(batch=0), "batch is 0"),
            (lambda d: d["inputs"].update(seed=-1), "is -1, not a whole number"),
            (lambda d: d.update(name="a\x1b[2J"), "printable"),
            (lambda d: d.update(source=[]), "not an object"),
        ],
    )
    def test_a_field_that_cannot_be_exits_3(self, mixer_align: Run, path: Path, edit: Any, says: str) -> None:
        rewrite(path, edit)
        result = mixer_align("check", "--trace", path)
        assert result.exit_code == 3, result.output
        assert says in result.stderr

    def test_missing_and_odd_paths(self, mixer_align: Run, tmp_path: Path) -> None:
        assert mixer_align("check", "--trace", tmp_path / "none.json").exit_code == 4
        assert mixer_align("check", "--trace", tmp_path).exit_code == 3

    def test_images_that_are_drawn_otherwise_exit_5(
        self, mixer_align: Run, monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        draw = inputs.DRAW["normal"]
        monkeypatch.setitem(inputs.DRAW, "normal", lambda *arguments: draw(*arguments) * np.float32(2))
        result = mixer_align("check", "--trace", path)
        assert result.exit_code == 5
        assert "the images drawn are not those that were recorded" in result.stderr

    def test_weights_that_are_drawn_otherwise_exit_5(
        self, mixer_align: Run, monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        monkeypatch.setattr(init, "BIAS_STD", 0.06)
        result = mixer_align("check", "--trace", path)
        assert result.exit_code == 5
        assert "the weights drawn are not those that were recorded" in result.stderr


class TestSketch:
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_permutations_show(self, axis: int) -> None:
        array = np.random.default_rng(0).standard_normal((2, 30, 50))
        assert distance(sketch("x", array), sketch("x", np.roll(array, 1, axis))) > 0.5

    def test_the_distance_estimates_the_root_mean_square(self) -> None:
        rng = np.random.default_rng(0)
        one, other = sketch("x", rng.standard_normal((300, 50))), sketch("x", rng.standard_normal((300, 50)))
        assert distance(one, other) == pytest.approx(2**0.5, rel=0.5)

    def test_one_element_shows(self) -> None:
        array = np.random.default_rng(0).standard_normal((392, 3072))
        changed = array.copy()
        changed[17, 5] += 1e-9
        found = distance(sketch("x", array), sketch("x", changed))
        assert found == pytest.approx(1e-9 / array.size**0.5, rel=0.7)

    def test_the_weights_have_mean_0_and_variance_1(self) -> None:
        drawn = weights_along("channels", 10_000)
        assert abs(drawn.mean()) < 0.01
        assert drawn.std() == pytest.approx(1, abs=0.01)
        assert abs(np.corrcoef(drawn) - np.eye(PROJECTIONS)).max() < 0.05
        assert not np.array_equal(drawn, weights_along("rows", 10_000))


BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocker())
from align.commands.cli import main
main([{arguments}])
"""


def blocked(arguments: list[str], *names: str) -> subprocess.CompletedProcess[str]:
    code = BLOCKER.format(blocked=names, arguments=", ".join(map(repr, arguments)))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_check_needs_neither_torch_nor_timm(path: Path) -> None:
    run = blocked(["check", "--trace", str(path)], "torch", "timm", "torchvision")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith("aligned: ")


def test_the_blocker_blocks(path: Path) -> None:
    """The proof's own proof: with Paddle blocked, the same command cannot run."""
    run = blocked(["check", "--trace", str(path)], "paddle")
    assert run.returncode == 70
    assert "paddle is blocked" in run.stderr


@pytest.mark.slow
def test_record_needs_no_paddle(tmp_path: Path, square_source: StateDict) -> None:
    checkpoint = save_safetensors(tmp_path / "x.safetensors", square_source)
    run = blocked(["record", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "t.json")], "paddle")
    assert run.returncode == 0, run.stderr
