"""The forward in NumPy float64: a third implementation, without a framework, that tells which side is wrong.

It reads timm's layout as it is, so it does not depend on the conversion either.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import erf

from convert.arrays import Array, StateDict
from convert.variants import Gelu, MixerConfig

Tap = Callable[[str, Array], object]
"""Is shown each named intermediate as the forward reaches it."""


def forward(config: MixerConfig, state_dict: StateDict, images: Array, tap: Tap) -> None:
    """Show every comparison point's float64 value to the tap, in forward order.

    Args:
        config: Sizes, epsilon and GELU.
        state_dict: timm's layout: Linear weights [out, in].
        images: (batch, in_chans, image_size, image_size).
        tap: Called with (name, value).

    Source: https://arxiv.org/abs/2105.01601, section 2, equation 1.
    """
    weights = _Weights(state_dict)
    x = _show(tap, "stem", _stem(weights, images.astype(np.float64), config.patch_size))
    for i in range(config.num_blocks):
        x = _block(config, weights, x, f"blocks.{i}", tap)
    x = _show(tap, "norm", _layer_norm(weights, x, "norm", config.layer_norm_eps))
    x = _show(tap, "pooled", x.mean(axis=1))
    _show(tap, "logits", _linear(weights, x, "head"))


class _Weights:
    """The state dict in float64, cast tensor by tensor as they are used, so that no second copy is kept."""

    def __init__(self, state_dict: StateDict) -> None:
        self._state_dict = state_dict

    def __call__(self, name: str) -> Array:
        return self._state_dict[name].astype(np.float64)


def _show(tap: Tap, name: str, value: Array) -> Array:
    tap(name, value)
    return value


def _block(config: MixerConfig, weights: _Weights, x: Array, at: str, tap: Tap) -> Array:
    y = _show(tap, f"{at}.norm1", _layer_norm(weights, x, f"{at}.norm1", config.layer_norm_eps))
    y = _mlp(weights, y.transpose(0, 2, 1), f"{at}.mlp_tokens", config.gelu, tap)
    x = _show(tap, f"{at}.token_mixing", x + y.transpose(0, 2, 1))
    y = _show(tap, f"{at}.norm2", _layer_norm(weights, x, f"{at}.norm2", config.layer_norm_eps))
    y = _mlp(weights, y, f"{at}.mlp_channels", config.gelu, tap)
    return _show(tap, at, x + y)


def _stem(weights: _Weights, images: Array, patch_size: int) -> Array:
    """Return (batch, tokens, hidden_dim): each patch, flattened channel first, times the kernel."""
    batch, channels, height, width = images.shape
    grid = (height // patch_size, width // patch_size)
    patches = images.reshape(batch, channels, grid[0], patch_size, grid[1], patch_size)
    patches = patches.transpose(0, 2, 4, 1, 3, 5).reshape(batch, grid[0] * grid[1], -1)
    kernel = weights("stem.proj.weight")
    return np.asarray(patches @ kernel.reshape(len(kernel), -1).T + weights("stem.proj.bias"))


def _mlp(weights: _Weights, x: Array, at: str, gelu: Gelu, tap: Tap) -> Array:
    x = _show(tap, f"{at}.fc1", _linear(weights, x, f"{at}.fc1"))
    x = _show(tap, f"{at}.act", _gelu(x, gelu))
    return _show(tap, f"{at}.fc2", _linear(weights, x, f"{at}.fc2"))


def _linear(weights: _Weights, x: Array, at: str) -> Array:
    return np.asarray(x @ weights(f"{at}.weight").T + weights(f"{at}.bias"))


def _layer_norm(weights: _Weights, x: Array, at: str, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + epsilon) * weights(f"{at}.weight") + weights(f"{at}.bias"))


def _gelu(x: Array, form: Gelu) -> Array:
    """Return GELU(x), exact or by its tanh approximation.

    Source: Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415, section 2.
    """
    if form == "erf":
        return np.asarray(x * 0.5 * (1 + erf(x / math.sqrt(2))))
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
