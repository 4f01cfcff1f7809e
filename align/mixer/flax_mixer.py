"""The MLP-Mixer in Flax, with the parameter names and layouts of Google's .npz checkpoints and a choice of GELU.

Only `align.mixer.models` imports it, inside a function: the classes need Flax's base class.
"""

from __future__ import annotations

import jax
import numpy as np
from flax import linen as nn

from convert.mixer.variants import Gelu, MixerConfig


class MlpBlock(nn.Module):
    """Two Dense layers with a GELU between, over the last axis."""

    hidden_features: int
    gelu: Gelu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return an array of x's shape (…, features); the hidden layer is (…, hidden_features)."""
        y = nn.Dense(self.hidden_features, name="Dense_0")(x)
        return nn.Dense(x.shape[-1], name="Dense_1")(nn.gelu(y, approximate=self.gelu == "tanh"))


class FlaxMixerBlock(nn.Module):
    """Token mixing, then channel mixing, each after a LayerNorm and with a residual connection.

    Source: https://arxiv.org/abs/2105.01601, equation 1.
    """

    config: MixerConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return an array of x's shape, (batch, tokens, hidden_dim)."""
        config = self.config
        token_mixing = MlpBlock(config.tokens_mlp_dim, config.gelu, name="token_mixing")
        channel_mixing = MlpBlock(config.channels_mlp_dim, config.gelu, name="channel_mixing")
        x = x + token_mixing(_layer_norm(config, "LayerNorm_0")(x).swapaxes(1, 2)).swapaxes(1, 2)
        return x + channel_mixing(_layer_norm(config, "LayerNorm_1")(x))


class FlaxMixer(nn.Module):
    """The MLP-Mixer of a config.

    Source: the wiring, https://arxiv.org/abs/2105.01601, section 2; the parameter names, the keys of Google's
    checkpoints, such as gs://mixer_models/imagenet21k/Mixer-B_16.npz.
    """

    config: MixerConfig

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Return logits (batch, num_classes) of images (batch, image_size, image_size, in_chans)."""
        config = self.config
        patch = (config.patch_size, config.patch_size)
        x = nn.Conv(config.hidden_dim, patch, strides=patch, padding="VALID", name="stem")(images)
        x = x.reshape(len(x), -1, config.hidden_dim)
        for i in range(config.num_blocks):
            x = FlaxMixerBlock(config, name=f"MixerBlock_{i}")(x)
        x = _layer_norm(config, "pre_head_layer_norm")(x)
        return nn.Dense(config.num_classes, name="head")(x.mean(axis=1))


def _layer_norm(config: MixerConfig, name: str) -> nn.LayerNorm:
    """Return a LayerNorm whose epsilon is the same number in float64 as in float32, which rounds it."""
    return nn.LayerNorm(epsilon=float(np.float32(config.layer_norm_eps)), name=name)
