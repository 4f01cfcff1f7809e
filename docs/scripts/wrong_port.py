"""A Paddle Mixer as somebody might write it: its last LayerNorm has Paddle's default epsilon, and not timm's 1e-6."""

from __future__ import annotations

from paddle import nn

from convert.mixer.paddle_mixer import MlpMixer
from convert.mixer.variants import get_variant


def build() -> nn.Layer:
    """Return the model; everything else in it is right."""
    config = get_variant("s32").config
    model = MlpMixer(config)
    model.norm = nn.LayerNorm(config.hidden_dim)
    return model
