"""The witness against formulas written out by hand for single elements, in plain Python."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from align.core.inputs import images_sha256, seeded_images
from align.mixer.points import layer_of_parameter, points_of
from align.mixer.witness import forward
from convert.arrays import Array, StateDict
from convert.mixer.shapes import timm_shapes
from convert.mixer.variants import MixerConfig


@pytest.fixture(scope="module")
def images(config: MixerConfig) -> Array:
    return seeded_images((2, config.in_chans, config.image_size, config.image_size), 0)


@pytest.fixture(scope="module")
def trace(config: MixerConfig, source: StateDict, images: Array) -> dict[str, Array]:
    return dict(forward(config, source, images))


def dot(x: Array, weight: Array, bias: float) -> float:
    return math.fsum(float(a) * float(b) for a, b in zip(x.ravel(), weight.ravel(), strict=True)) + float(bias)


def test_points_are_those_of_the_list(config: MixerConfig, trace: dict[str, Array]) -> None:
    assert [(name, value.shape) for name, value in trace.items()] == [(x.name, x.shape) for x in points_of(config, 2)]
    assert {value.dtype for value in trace.values()} == {np.dtype(np.float64)}


def test_stem(config: MixerConfig, source: StateDict, images: Array, trace: dict[str, Array]) -> None:
    patch, token, channel = config.patch_size, 6, 3
    row, column = divmod(token, 4)
    window = images[1, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
    expected = dot(window, source["stem.proj.weight"][channel], source["stem.proj.bias"][channel])
    assert trace["stem"][1, token, channel] == pytest.approx(expected, rel=1e-13)


def test_layer_norm(source: StateDict, trace: dict[str, Array]) -> None:
    x = [float(value) for value in trace["stem"][1, 6]]
    mean = math.fsum(x) / len(x)
    variance = math.fsum((value - mean) ** 2 for value in x) / len(x)
    weight, bias = float(source["blocks.0.norm1.weight"][3]), float(source["blocks.0.norm1.bias"][3])
    expected = (x[3] - mean) / math.sqrt(variance + 1e-6) * weight + bias
    assert trace["blocks.0.norm1"][1, 6, 3] == pytest.approx(expected, rel=1e-13)


def test_token_mixing(source: StateDict, trace: dict[str, Array]) -> None:
    at = "blocks.0.mlp_tokens"
    across = trace["blocks.0.norm1"][1, :, 3]
    expected = dot(across, source[f"{at}.fc1.weight"][2], source[f"{at}.fc1.bias"][2])
    assert trace[f"{at}.fc1"][1, 3, 2] == pytest.approx(expected, rel=1e-12)
    x = float(trace[f"{at}.fc1"][1, 3, 2])
    assert trace[f"{at}.act"][1, 3, 2] == pytest.approx(0.5 * x * (1 + math.erf(x / math.sqrt(2))), rel=1e-13)
    expected = dot(trace[f"{at}.act"][1, 3], source[f"{at}.fc2.weight"][6], source[f"{at}.fc2.bias"][6])
    assert trace[f"{at}.fc2"][1, 3, 6] == pytest.approx(expected, rel=1e-12)
    assert trace["blocks.0.token_mixing"][1, 6, 3] == trace["stem"][1, 6, 3] + trace[f"{at}.fc2"][1, 3, 6]


def test_channel_mixing_and_head(source: StateDict, trace: dict[str, Array]) -> None:
    at = "blocks.3.mlp_channels"
    expected = dot(trace["blocks.3.norm2"][0, 5], source[f"{at}.fc1.weight"][9], source[f"{at}.fc1.bias"][9])
    assert trace[f"{at}.fc1"][0, 5, 9] == pytest.approx(expected, rel=1e-12)
    residual = trace["blocks.3.token_mixing"][0, 5, 1] + trace[f"{at}.fc2"][0, 5, 1]
    assert trace["blocks.3"][0, 5, 1] == residual
    assert trace["pooled"][0, 1] == pytest.approx(math.fsum(trace["norm"][0, :, 1]) / 16, rel=1e-12)
    expected = dot(trace["pooled"][0], source["head.weight"][4], source["head.bias"][4])
    assert trace["logits"][0, 4] == pytest.approx(expected, rel=1e-12)


def test_tanh_gelu_is_the_approximation(config: MixerConfig, source: StateDict, images: Array) -> None:
    trace = dict(forward(dataclasses.replace(config, gelu="tanh"), source, images))
    x = float(trace["blocks.0.mlp_tokens.fc1"][0, 0, 0])
    expected = 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    assert trace["blocks.0.mlp_tokens.act"][0, 0, 0] == pytest.approx(expected, rel=1e-13)


def test_every_parameter_acts_at_a_point(config: MixerConfig) -> None:
    names = {point.name for point in points_of(config, 2)}
    assert {layer_of_parameter(name) for name in timm_shapes(config)} <= names


def test_the_batch_is_seeded() -> None:
    first, again, other = (seeded_images((2, 3, 4, 4), seed) for seed in (5, 5, 6))
    assert first.dtype == np.float32
    assert images_sha256(first) == images_sha256(again) != images_sha256(other)


def test_a_value_shown_stays_as_it_was(config: MixerConfig, source: StateDict, images: Array) -> None:
    """Whoever keeps the values for later counts on it."""
    copies = {name: (value, value.copy()) for name, value in forward(config, source, images)}
    assert all(np.array_equal(value, copy) for value, copy in copies.values())
