"""The Flax Mixer on Google's names: its points, the witness's values, and timm's and Paddle's logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run

from align.core.bounds import Precision
from align.core.case import Case, Settings
from align.core.inputs import seeded_images
from align.core.probe import Probe
from align.mixer import witness
from align.mixer.case import Subject, case_of
from align.mixer.models import build_flax, build_paddle, build_timm
from align.probes import flax_probe, paddle_probe, torch_probe
from align.run import align
from convert.arrays import Array, StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import Gelu, MixerConfig, get_variant

pytest.importorskip("flax", reason="needs the flax extra")

Trace = dict[str, Array]


def google_named(config: MixerConfig, timm: StateDict) -> dict[str, Array]:
    """Return the same weights as Google's files hold them; the mapping is stated here a second time, key by key."""
    google = {
        "stem/kernel": timm["stem.proj.weight"].transpose(2, 3, 1, 0),
        "stem/bias": timm["stem.proj.bias"],
        "pre_head_layer_norm/scale": timm["norm.weight"],
        "pre_head_layer_norm/bias": timm["norm.bias"],
        "head/kernel": timm["head.weight"].T,
        "head/bias": timm["head.bias"],
    }
    for i in range(config.num_blocks):
        for there, here in (("LayerNorm_0", "norm1"), ("LayerNorm_1", "norm2")):
            google[f"MixerBlock_{i}/{there}/scale"] = timm[f"blocks.{i}.{here}.weight"]
            google[f"MixerBlock_{i}/{there}/bias"] = timm[f"blocks.{i}.{here}.bias"]
        for there, here in (
            ("token_mixing/Dense_0", "mlp_tokens.fc1"),
            ("token_mixing/Dense_1", "mlp_tokens.fc2"),
            ("channel_mixing/Dense_0", "mlp_channels.fc1"),
            ("channel_mixing/Dense_1", "mlp_channels.fc2"),
        ):
            google[f"MixerBlock_{i}/{there}/kernel"] = timm[f"blocks.{i}.{here}.weight"].T
            google[f"MixerBlock_{i}/{there}/bias"] = timm[f"blocks.{i}.{here}.bias"]
    return google


def flax_case(config: MixerConfig, source: StateDict) -> Case:
    return case_of(Subject(source=source, config=config, name="x", reference="flax"), Settings(batch=3))


def traced(case: Case, precision: Precision) -> Trace:
    model = case.reference.build()
    flax_probe.cast(model, precision)
    return shown(case, model, case.inputs.astype(precision))


def shown(case: Case, model: Any, images: Array) -> Trace:
    """Return what a forward shows, and fail if it shows a name twice."""
    trace: Trace = {}

    def tap(name: str, value: Array) -> None:
        assert name not in trace
        trace[name] = value

    with flax_probe.tapped(model, {point.name: point.reference for point in case.points}) as run:
        run(images, tap)
    return trace


def difference(left: Array, right: Array) -> float:
    return float(np.abs(left - right).max())


@pytest.fixture(scope="module")
def tanh_config(config: MixerConfig) -> MixerConfig:
    return replace(config, gelu="tanh")


@pytest.fixture(scope="module")
def weights(config: MixerConfig, source: StateDict) -> StateDict:
    return google_named(config, source)


@pytest.fixture(scope="module")
def case(tanh_config: MixerConfig, source: StateDict) -> Case:
    return flax_case(tanh_config, source)


def test_flax_s_defaults_are_the_tanh_gelu_and_timm_s_epsilon(config: MixerConfig) -> None:
    from flax import linen as nn

    x = np.linspace(-4, 4, 33, dtype=np.float32)
    assert np.array_equal(nn.gelu(x), nn.gelu(x, approximate=True))
    assert not np.array_equal(nn.gelu(x), nn.gelu(x, approximate=False))
    assert nn.LayerNorm().epsilon == config.layer_norm_eps


def test_the_module_s_parameters_are_google_s(case: Case, weights: StateDict) -> None:
    """Flax ignores parameters that a module does not have, so the names are compared both ways."""
    import jax
    from flax.traverse_util import flatten_dict

    model = case.reference.build()
    initial = jax.eval_shape(model.module.init, jax.random.key(0), case.inputs.transpose(0, 2, 3, 1))
    shapes = {name: leaf.shape for name, leaf in flatten_dict(initial["params"], sep="/").items()}
    assert shapes == {name: array.shape for name, array in weights.items()}
    held = flax_probe.parameters(model)
    assert held.keys() == weights.keys()
    assert all(np.array_equal(held[name], array) for name, array in weights.items())


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_points_are_those_of_the_case_in_its_order(case: Case, precision: Precision) -> None:
    found = [(name, value.shape, value.dtype) for name, value in traced(case, precision).items()]
    assert found == [(point.name, point.shape, precision) for point in case.points]


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_float64_is_the_witness_s_at_every_point(config: MixerConfig, source: StateDict, gelu: Gelu) -> None:
    chosen = replace(config, gelu=gelu)
    case = flax_case(chosen, source)
    truth, trace = dict(witness.forward(chosen, source, case.inputs)), traced(case, "float64")
    assert trace.keys() == truth.keys()
    for name, value in truth.items():
        assert difference(trace[name], value) <= 1e-12 * max(1.0, float(np.abs(value).max())), name


def test_float32_logits(case: Case, source: StateDict) -> None:
    truth = dict(witness.forward(case.config, source, case.inputs))
    assert difference(traced(case, "float32")["logits"], truth["logits"]) < 1e-5


def test_the_erf_form_is_another_function(config: MixerConfig, case: Case, source: StateDict) -> None:
    tanh, erf = (traced(form, "float64") for form in (case, flax_case(config, source)))
    acts = [name for name in tanh if name.endswith(".act")]
    assert len(acts) == 2 * config.num_blocks
    assert all(difference(tanh[name], erf[name]) > 1e-6 for name in acts)


def test_float32_stays_float32_after_a_float64_run(case: Case) -> None:
    """64-bit JAX is on for the run alone, and float64 images do not make a float32 model anything else."""
    import jax

    setting = jax.config.jax_enable_x64
    model = case.reference.build()
    first = shown(case, model, case.inputs)
    flax_probe.cast(model, "float64")
    shown(case, model, case.inputs.astype(np.float64))
    assert jax.config.jax_enable_x64 == setting
    flax_probe.cast(model, "float32")
    again = shown(case, model, case.inputs.astype(np.float64))
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.slow
def test_flax_timm_and_paddle_are_one_function_on_three_blocks_of_b16(
    frameworks: None, record_property: Callable[[str, object], None]
) -> None:
    config = replace(get_variant("b16_in1k").config, gelu="tanh", num_blocks=3)
    source = init_state_dict(config, 0)
    images = seeded_images((1, 3, 224, 224), 0)
    sides: dict[str, tuple[Probe, Any]] = {
        "Flax": (flax_probe, build_flax(config, source)),
        "timm": (torch_probe, build_timm(config, None, source)),
        "Paddle": (paddle_probe, build_paddle(config, convert_state_dict(source, config).state_dict)),
    }
    bounds: dict[Precision, float] = {"float32": 1e-5, "float64": 1e-12}
    for precision, bound in bounds.items():
        logits = {}
        for name, (probe, model) in sides.items():
            probe.cast(model, precision)
            logits[name] = probe.forward(model, images.astype(precision))
            assert logits[name].dtype == precision
        for one, other in combinations(logits, 2):
            measured = difference(logits[one], logits[other])
            record_property(f"{one} and {other}, {precision} logits, max_abs_diff", measured)
            print(f"{one} and {other}, {precision} logits: max_abs_diff {measured:.3g}")
            assert measured < bound


@pytest.mark.slow
def test_the_gate_compares_paddle_with_google_s_function(mixer_align: Run, tmp_path: Path) -> None:
    """B/32 with tanh against Flax: every gate, at a real size."""
    report = tmp_path / "report.json"
    arguments = ("--src", "google", "--variant", "b32", "--init", "random", "--batch", "1", "--json", report)
    result = mixer_align(*arguments)
    assert result.exit_code == 0, result.output
    data = json.loads(report.read_text())
    assert data["settings"]["reference"] == "flax"
    assert data["settings"]["config"]["gelu"] == "tanh"
    figures = [diff["max_abs_diff"] for layer in data["layers"] for diff in layer["float64"].values()]
    assert len(figures) == 4 * (1 + 10 * 12 + 3)
    assert max(figures) < 1e-12


def test_google_s_file_aligns_with_both_references(
    mixer_align: Run, tmp_path: Path, config: MixerConfig, weights: StateDict
) -> None:
    np.savez(tmp_path / "Mixer-X_5.npz", **weights)
    for reference in ("flax", "timm"):
        result = mixer_align("--src", "google", "--reference", reference, "--checkpoint", tmp_path / "Mixer-X_5.npz")
        assert result.exit_code == 0, result.output


def test_the_flax_reference_finds_erf_in_paddle(config: MixerConfig, case: Case) -> None:
    assert align(case).verdict == "aligned"
    erf = replace(case.candidate, build=lambda: build_paddle(config, case.expected))
    result = align(replace(case, candidate=erf))
    assert result.first_divergence is not None
    assert result.first_divergence.layer == "blocks.0.mlp_tokens.act"
    assert "Paddle left the NumPy witness" in result.first_divergence.sentence
    assert "Flax" in result.first_divergence.sentence
