"""The MLP-Mixer in Flax, with the parameter names and layouts of Google's .npz checkpoints and a choice of GELU.

Only `align.probes.flax_probe` imports it, and inside its functions: the classes need Flax's base class.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from flax import linen as nn

from convert.mixer.variants import Gelu, MixerConfig

Tap = Callable[[str, jax.Array], object]
"""Is shown each named intermediate as the forward reaches it."""


class MlpBlock(nn.Module):
    """Two Dense layers with a GELU between, over the last axis."""

    hidden_features: int
    gelu: Gelu

    @nn.compact
    def __call__(self, x: jax.Array, tap: Tap, at: str) -> jax.Array:
        """Return an array of x's shape (…, features); the hidden layer is (…, hidden_features)."""
        y = _show(tap, f"{at}.fc1", nn.Dense(self.hidden_features, name="Dense_0")(x))
        y = _show(tap, f"{at}.act", nn.gelu(y, approximate=self.gelu == "tanh"))
        return _show(tap, f"{at}.fc2", nn.Dense(x.shape[-1], name="Dense_1")(y))


class MixerBlock(nn.Module):
    """Token mixing, then channel mixing, each behind a LayerNorm and with a residual connection.

    Source: https://arxiv.org/abs/2105.01601, equation 1.
    """

    config: MixerConfig

    @nn.compact
    def __call__(self, x: jax.Array, tap: Tap, at: str) -> jax.Array:
        """Return an array of x's shape, (batch, tokens, hidden_dim)."""
        config = self.config
        token_mixing = MlpBlock(config.tokens_mlp_dim, config.gelu, name="token_mixing")
        channel_mixing = MlpBlock(config.channels_mlp_dim, config.gelu, name="channel_mixing")
        y = _show(tap, f"{at}.norm1", _layer_norm(config, "LayerNorm_0")(x)).swapaxes(1, 2)
        y = token_mixing(y, tap, f"{at}.mlp_tokens").swapaxes(1, 2)
        x = _show(tap, f"{at}.token_mixing", x + y)
        y = _show(tap, f"{at}.norm2", _layer_norm(config, "LayerNorm_1")(x))
        y = channel_mixing(y, tap, f"{at}.mlp_channels")
        return _show(tap, at, x + y)


class MlpMixer(nn.Module):
    """The MLP-Mixer of a config.

    Source: the wiring, https://arxiv.org/abs/2105.01601, section 2; the parameter names, the keys of Google's
    checkpoints, such as gs://mixer_models/imagenet21k/Mixer-B_16.npz.
    """

    config: MixerConfig

    @nn.compact
    def __call__(self, images: jax.Array, tap: Tap) -> jax.Array:
        """Return logits (batch, num_classes).

        Args:
            images: (batch, image_size, image_size, in_chans), of the parameters' dtype.
            tap: Called with every named intermediate, in forward order.
        """
        config = self.config
        patch = (config.patch_size, config.patch_size)
        x = nn.Conv(config.hidden_dim, patch, strides=patch, padding="VALID", name="stem")(images)
        x = _show(tap, "stem", x.reshape(len(x), -1, config.hidden_dim))
        for i in range(config.num_blocks):
            x = MixerBlock(config, name=f"MixerBlock_{i}")(x, tap, f"blocks.{i}")
        x = _show(tap, "norm", _layer_norm(config, "pre_head_layer_norm")(x))
        x = _show(tap, "pooled", x.mean(axis=1))
        return _show(tap, "logits", nn.Dense(config.num_classes, name="head")(x))


def _layer_norm(config: MixerConfig, name: str) -> nn.LayerNorm:
    """Return a LayerNorm whose epsilon is the same number in float64 as in float32, which rounds it."""
    return nn.LayerNorm(epsilon=float(np.float32(config.layer_norm_eps)), name=name)


def _show(tap: Tap, name: str, value: jax.Array) -> jax.Array:
    tap(name, value)
    return value
