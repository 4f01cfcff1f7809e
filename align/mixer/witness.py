"""The forward in NumPy float64: a third implementation, without a framework, that tells which side is wrong.

It reads timm's layout as it is, so it does not depend on the conversion either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import numpy as np
from scipy.special import erf, expit

from convert.arrays import Array, StateDict
from convert.mixer.variants import GATE_NORM_EPS, Gelu, MixerConfig, MixerKind

Part = Generator[tuple[str, Array], object, Array]
"""A part of the forward: yields each named intermediate as it reaches it, and returns the last."""


def forward(config: MixerConfig, state_dict: StateDict, images: Array) -> Part:
    """Yield every comparison point's name and float64 value, in forward order, computing each when it is asked for.

    Args:
        config: Sizes, epsilon and GELU.
        state_dict: timm's layout: Linear weights [out, in].
        images: (batch, in_chans, image_size, image_size).

    Source: MLP-Mixer, https://arxiv.org/abs/2105.01601, equation 1; ResMLP, https://arxiv.org/abs/2105.03404, equations
    2 and 3; gMLP, https://arxiv.org/abs/2105.08050, section 2; gMixer is timm's own (timm 1.0.31, GluMlp).
    """
    weights = _Weights(state_dict)
    x = yield from _show("stem", _stem(weights, images.astype(np.float64), config.patch_size))
    block = BLOCKS[config.family]
    for i in range(config.num_blocks):
        x = yield from block(config, weights, x, f"blocks.{i}")
    x = yield from _show("norm", _norm(config, weights, x, "norm"))
    x = yield from _show("pooled", x.mean(axis=1))
    return (yield from _show("logits", _linear(weights, x, "head")))


class _Weights:
    """The state dict in float64, cast tensor by tensor as they are used, so that no second copy is kept."""

    def __init__(self, state_dict: StateDict) -> None:
        self._state_dict = state_dict

    def __call__(self, name: str) -> Array:
        return self._state_dict[name].astype(np.float64)


def _show(name: str, value: Array) -> Part:
    yield name, value
    return value


def _mixer_block(config: MixerConfig, weights: _Weights, x: Array, at: str) -> Part:
    y = yield from _show(f"{at}.norm1", _norm(config, weights, x, f"{at}.norm1"))
    y = yield from _mlp(config, weights, y.transpose(0, 2, 1), f"{at}.mlp_tokens")
    x = yield from _show(f"{at}.token_mixing", x + y.transpose(0, 2, 1))
    y = yield from _show(f"{at}.norm2", _norm(config, weights, x, f"{at}.norm2"))
    y = yield from _mlp(config, weights, y, f"{at}.mlp_channels")
    return (yield from _show(at, x + y))


def _resmlp_block(config: MixerConfig, weights: _Weights, x: Array, at: str) -> Part:
    y = yield from _show(f"{at}.norm1", _norm(config, weights, x, f"{at}.norm1"))
    y = yield from _show(f"{at}.linear_tokens", _linear(weights, y.transpose(0, 2, 1), f"{at}.linear_tokens"))
    x = yield from _show(f"{at}.token_mixing", x + weights(f"{at}.ls1") * y.transpose(0, 2, 1))
    y = yield from _show(f"{at}.norm2", _norm(config, weights, x, f"{at}.norm2"))
    y = yield from _mlp(config, weights, y, f"{at}.mlp_channels")
    return (yield from _show(at, x + weights(f"{at}.ls2") * y))


def _gmlp_block(config: MixerConfig, weights: _Weights, x: Array, at: str) -> Part:
    y = yield from _show(f"{at}.norm", _norm(config, weights, x, f"{at}.norm"))
    mlp = f"{at}.mlp_channels"
    y = yield from _show(f"{mlp}.fc1", _linear(weights, y, f"{mlp}.fc1"))
    y = yield from _show(f"{mlp}.act", _gelu(y, config.gelu))
    u, v = np.split(y, 2, axis=-1)
    v = yield from _show(f"{mlp}.gate.norm", _layer_norm(weights, v, f"{mlp}.gate.norm", GATE_NORM_EPS))
    v = yield from _show(f"{mlp}.gate.proj", _linear(weights, v.transpose(0, 2, 1), f"{mlp}.gate.proj"))
    y = yield from _show(f"{mlp}.gate", u * v.transpose(0, 2, 1))
    y = yield from _show(f"{mlp}.fc2", _linear(weights, y, f"{mlp}.fc2"))
    return (yield from _show(at, x + y))


BLOCKS: dict[MixerKind, Callable[[MixerConfig, _Weights, Array, str], Part]] = {
    "mixer": _mixer_block,
    "gmixer": _mixer_block,
    "resmlp": _resmlp_block,
    "gmlp": _gmlp_block,
}


def _stem(weights: _Weights, images: Array, patch_size: int) -> Array:
    """Return (batch, tokens, hidden_dim): each patch, flattened channel first, times the kernel."""
    batch, channels, height, width = images.shape
    grid = (height // patch_size, width // patch_size)
    patches = images.reshape(batch, channels, grid[0], patch_size, grid[1], patch_size)
    patches = patches.transpose(0, 2, 4, 1, 3, 5).reshape(batch, grid[0] * grid[1], -1)
    kernel = weights("stem.proj.weight")
    return np.asarray(patches @ kernel.reshape(len(kernel), -1).T + weights("stem.proj.bias"))


def _mlp(config: MixerConfig, weights: _Weights, x: Array, at: str) -> Part:
    x = yield from _show(f"{at}.fc1", _linear(weights, x, f"{at}.fc1"))
    if config.family == "gmixer":
        x, gate = np.split(x, 2, axis=-1)
        gate = yield from _show(f"{at}.act", gate * expit(gate))
        x = yield from _show(f"{at}.gated", x * gate)
    else:
        x = yield from _show(f"{at}.act", _gelu(x, config.gelu))
    return (yield from _show(f"{at}.fc2", _linear(weights, x, f"{at}.fc2")))


def _linear(weights: _Weights, x: Array, at: str) -> Array:
    return np.asarray(x @ weights(f"{at}.weight").T + weights(f"{at}.bias"))


def _norm(config: MixerConfig, weights: _Weights, x: Array, at: str) -> Array:
    """Return the family's norm: ResMLP's is an affine map without statistics."""
    if config.family == "resmlp":
        return np.asarray(x * weights(f"{at}.alpha") + weights(f"{at}.beta"))
    return _layer_norm(weights, x, at, config.layer_norm_eps)


def _layer_norm(weights: _Weights, x: Array, at: str, epsilon: float) -> Array:
    """Return the LayerNorm with the epsilon that float32 models really use: the float32 nearest to it.

    Paddle rounds it even when it computes in float64 (paddlepaddle 3.3.1), which at 1e-5 moves the result by 2e-11.
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    normalised = centred / np.sqrt(variance + float(np.float32(epsilon)))
    return np.asarray(normalised * weights(f"{at}.weight") + weights(f"{at}.bias"))


def _gelu(x: Array, form: Gelu) -> Array:
    """Return GELU(x), exact or by its tanh approximation.

    Source: Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415, section 2.
    """
    if form == "erf":
        return np.asarray(x * 0.5 * (1 + erf(x / math.sqrt(2))))
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
