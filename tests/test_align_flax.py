"""The Flax Mixer on Google's names: its points, the witness's values, and timm's and Paddle's logits."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from align.core.inputs import seeded_images
from align.mixer import witness
from align.mixer.points import layers_of
from align.probes import flax_probe, paddle_probe, torch_probe
from align.run import Subject, align
from convert.arrays import Array, StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, get_variant

pytest.importorskip("flax", reason="needs the flax extra")

Trace = dict[str, Array]
Forward = Callable[[Callable[[str, Array], None]], None]


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


def names_of(config: MixerConfig) -> list[str]:
    return [layer.name for layer in layers_of(config, 1)]


def flax_trace(config: MixerConfig, weights: StateDict, images: Array, dtype: str) -> Trace:
    model = flax_probe.build(config, weights)
    flax_probe.cast(model, dtype)
    return traced(partial(flax_probe.forward, model, images.astype(dtype), names_of(config)))


def traced(forward: Forward) -> Trace:
    """Return what a forward shows, and fail if it shows a name twice."""
    trace: Trace = {}

    def tap(name: str, value: Array) -> None:
        assert name not in trace
        trace[name] = value

    forward(tap)
    return trace


def last(forward: Forward) -> Array:
    """Return the logits that a forward shows last, without keeping what comes before."""
    shown = deque[Array](maxlen=1)
    forward(lambda _, value: shown.append(value))
    return shown[0]


def difference(left: Array, right: Array) -> float:
    return float(np.abs(left - right).max())


@pytest.fixture(scope="module")
def tanh_config(config: MixerConfig) -> MixerConfig:
    return dataclasses.replace(config, gelu="tanh")


@pytest.fixture(scope="module")
def images(config: MixerConfig) -> Array:
    return seeded_images(config, 3, 0)


@pytest.fixture(scope="module")
def weights(config: MixerConfig, source: StateDict) -> StateDict:
    return google_named(config, source)


@pytest.fixture(scope="module")
def truth(tanh_config: MixerConfig, source: StateDict, images: Array) -> Trace:
    return dict(witness.forward(tanh_config, source, images))


def test_flax_s_defaults_are_the_tanh_gelu_and_timm_s_epsilon(config: MixerConfig) -> None:
    from flax import linen as nn

    x = np.linspace(-4, 4, 33, dtype=np.float32)
    assert np.array_equal(nn.gelu(x), nn.gelu(x, approximate=True))
    assert not np.array_equal(nn.gelu(x), nn.gelu(x, approximate=False))
    assert nn.LayerNorm().epsilon == config.layer_norm_eps


def test_the_module_s_parameters_are_google_s(tanh_config: MixerConfig, weights: StateDict, images: Array) -> None:
    """Flax ignores parameters that a module does not have, so the names are compared both ways."""
    import jax
    from flax.traverse_util import flatten_dict

    model = flax_probe.build(tanh_config, weights)
    channels_last = images.transpose(0, 2, 3, 1)
    initial = jax.eval_shape(lambda key: model.module.init(key, channels_last, lambda *_: None), jax.random.key(0))
    shapes = {name: leaf.shape for name, leaf in flatten_dict(initial["params"], sep="/").items()}
    assert shapes == {name: array.shape for name, array in weights.items()}
    held = flax_probe.parameters(model)
    assert held.keys() == weights.keys()
    assert all(np.array_equal(held[name], array) for name, array in weights.items())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_points_are_those_of_the_layer_list(
    tanh_config: MixerConfig, weights: StateDict, images: Array, dtype: str
) -> None:
    trace = flax_trace(tanh_config, weights, images, dtype)
    expected = [(layer.name, layer.shape, dtype) for layer in layers_of(tanh_config, len(images))]
    assert [(name, value.shape, value.dtype) for name, value in trace.items()] == expected


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_float64_is_the_witness_s_at_every_point(
    config: MixerConfig, source: StateDict, weights: StateDict, images: Array, gelu: str
) -> None:
    chosen = dataclasses.replace(config, gelu=gelu)
    truth = dict(witness.forward(chosen, source, images))
    trace = flax_trace(chosen, weights, images, "float64")
    assert trace.keys() == truth.keys()
    for name, value in truth.items():
        assert difference(trace[name], value) <= 1e-12 * max(1.0, float(np.abs(value).max())), name


def test_float32_logits(tanh_config: MixerConfig, weights: StateDict, images: Array, truth: Trace) -> None:
    assert difference(flax_trace(tanh_config, weights, images, "float32")["logits"], truth["logits"]) < 1e-5


def test_the_erf_form_is_another_function(
    config: MixerConfig, tanh_config: MixerConfig, weights: StateDict, images: Array
) -> None:
    tanh, erf = (flax_trace(form, weights, images, "float64") for form in (tanh_config, config))
    acts = [name for name in tanh if name.endswith(".act")]
    assert len(acts) == 2 * config.num_blocks
    assert all(difference(tanh[name], erf[name]) > 1e-6 for name in acts)


def test_float32_stays_float32_after_a_float64_run(tanh_config: MixerConfig, weights: StateDict, images: Array) -> None:
    """64-bit JAX is on for the run alone, and float64 images do not make a float32 model anything else."""
    import jax

    setting = jax.config.jax_enable_x64
    model = flax_probe.build(tanh_config, weights)
    first = traced(partial(flax_probe.forward, model, images, names_of(tanh_config)))
    flax_probe.cast(model, "float64")
    traced(partial(flax_probe.forward, model, images.astype(np.float64), names_of(tanh_config)))
    assert jax.config.jax_enable_x64 == setting
    flax_probe.cast(model, "float32")
    again = traced(partial(flax_probe.forward, model, images.astype(np.float64), names_of(tanh_config)))
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.slow
def test_flax_timm_and_paddle_are_one_function_on_b16(
    frameworks: None, record_property: Callable[[str, object], None]
) -> None:
    config = dataclasses.replace(get_variant("b16_in1k").config, gelu="tanh")
    source = init_state_dict(config, 0)
    images = seeded_images(config, 1, 0)
    converted = convert_state_dict(source, config).state_dict
    flax = flax_probe.build(config, google_named(config, source))
    timm, paddle = torch_probe.build(config, None, source), paddle_probe.build(config, converted)
    for dtype, bound in (("float32", 1e-5), ("float64", 1e-12)):
        flax_probe.cast(flax, dtype)
        torch_probe.cast(timm, dtype)
        paddle_probe.cast(paddle, dtype)
        logits = {
            "Flax": last(partial(flax_probe.forward, flax, images.astype(dtype), names_of(config))),
            "timm": last(partial(torch_probe.forward, timm, images.astype(dtype), ["logits"])),
            "Paddle": last(partial(paddle_probe.forward, paddle, images.astype(dtype))),
        }
        for one, other in combinations(logits, 2):
            measured = difference(logits[one], logits[other])
            record_property(f"{one} and {other}, {dtype} logits, max_abs_diff", measured)
            print(f"{one} and {other}, {dtype} logits: max_abs_diff {measured:.3g}")
            assert measured < bound


@pytest.mark.slow
def test_the_gate_compares_paddle_with_google_s_function(mixer_align: Run, tmp_path: Path) -> None:
    """B/16 with tanh against Flax: every gate, at the real size."""
    report = tmp_path / "report.json"
    arguments = ("--src", "google", "--variant", "b16_in1k", "--init", "random", "--batch", "1", "--json", report)
    result = mixer_align(*arguments)
    assert result.exit_code == 0, result.output
    data = json.loads(report.read_text())
    assert data["settings"]["reference"] == "flax"
    assert data["settings"]["config"]["gelu"] == "tanh"
    figures = [diff["max_abs_diff"] for layer in data["layers"] for diff in layer["float64"].values()]
    assert max(figures) < 1e-12


def test_google_s_file_aligns_with_both_references(
    mixer_align: Run, tmp_path: Path, config: MixerConfig, weights: StateDict
) -> None:
    np.savez(tmp_path / "Mixer-X_5.npz", **weights)
    for reference in ("flax", "timm"):
        result = mixer_align("--src", "google", "--reference", reference, "--checkpoint", tmp_path / "Mixer-X_5.npz")
        assert result.exit_code == 0, result.output


def test_the_flax_reference_finds_erf_in_paddle(config: MixerConfig, source: StateDict) -> None:
    tanh = dataclasses.replace(config, gelu="tanh")
    subject = Subject(source=source, config=tanh, name="x", reference="flax")
    assert align(subject).verdict == "aligned"
    result = align(subject, build_candidate=lambda _, weights: paddle_probe.build(config, weights))
    assert result.first_divergence is not None
    assert result.first_divergence.layer == "blocks.0.mlp_tokens.act"
    assert "Paddle left the NumPy witness" in result.first_divergence.sentence
    assert "Flax" in result.first_divergence.sentence
