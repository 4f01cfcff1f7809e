"""The Paddle MLP-Mixer, with timm's parameter names, timm's epsilon and a choice of GELU."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import paddle
from paddle import Tensor, nn

from convert.variants import Gelu, MixerConfig

Tap = Callable[[str, Tensor], Tensor]
"""Is shown each named intermediate as the forward reaches it, and returns what the forward goes on with."""


def _unchanged(_name: str, value: Tensor) -> Tensor:
    return value


class Mlp(nn.Layer):
    """Two Linear layers with a GELU between, over the last axis."""

    def __init__(self, features: int, hidden_features: int, gelu: Gelu) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden_features)
        self.act = nn.GELU(approximate=gelu == "tanh")
        self.fc2 = nn.Linear(hidden_features, features)

    def forward(self, x: Tensor, tap: Tap = _unchanged, at: str = "") -> Tensor:
        """Return a tensor of x's shape (…, features); the hidden layer is (…, hidden_features)."""
        x = tap(f"{at}.fc1", self.fc1(x))
        x = tap(f"{at}.act", self.act(x))
        return tap(f"{at}.fc2", self.fc2(x))


class MixerBlock(nn.Layer):
    """Token mixing, then channel mixing, each behind a LayerNorm and with a residual connection.

    Source: https://arxiv.org/abs/2105.01601, equation 1; names from timm 1.0.31, timm/models/mlp_mixer.py, MixerBlock.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_dim, epsilon=config.layer_norm_eps)
        self.mlp_tokens = Mlp(config.tokens, config.tokens_mlp_dim, config.gelu)
        self.norm2 = nn.LayerNorm(config.hidden_dim, epsilon=config.layer_norm_eps)
        self.mlp_channels = Mlp(config.hidden_dim, config.channels_mlp_dim, config.gelu)

    def forward(self, x: Tensor, tap: Tap = _unchanged, at: str = "") -> Tensor:
        """Return a tensor of x's shape, (batch, tokens, hidden_dim)."""
        y = tap(f"{at}.norm1", self.norm1(x)).transpose([0, 2, 1])
        y = self.mlp_tokens(y, tap, f"{at}.mlp_tokens").transpose([0, 2, 1])
        x = tap(f"{at}.token_mixing", x + y)
        y = tap(f"{at}.norm2", self.norm2(x))
        y = self.mlp_channels(y, tap, f"{at}.mlp_channels")
        return tap(at, x + y)


class Stem(nn.Layer):
    """The linear projection of non-overlapping patches, as a convolution."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2D(config.in_chans, config.hidden_dim, config.patch_size, stride=config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, tokens, hidden_dim) of images (batch, in_chans, image_size, image_size)."""
        return cast("Tensor", self.proj(images).flatten(2).transpose([0, 2, 1]))


class MlpMixer(nn.Layer):
    """The MLP-Mixer of a config.

    Args:
        config: Sizes, LayerNorm epsilon and GELU.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config)
        self.blocks = nn.LayerList([MixerBlock(config) for _ in range(config.num_blocks)])
        self.norm = nn.LayerNorm(config.hidden_dim, epsilon=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_dim, config.num_classes)

    def forward(self, images: Tensor, tap: Tap = _unchanged) -> Tensor:
        """Return logits (batch, num_classes).

        Args:
            images: (batch, in_chans, image_size, image_size), of the parameters' dtype.
            tap: Called with every named intermediate, in forward order; the forward goes on with what it returns.
        """
        x = tap("stem", self.stem(images))
        for i, block in enumerate(self.blocks):
            x = block(x, tap, f"blocks.{i}")
        x = tap("norm", self.norm(x))
        x = tap("pooled", x.mean(axis=1))
        return tap("logits", self.head(x))

    def intermediates(self, images: Tensor) -> dict[str, Tensor]:
        """Return every named intermediate of a forward by name, in forward order; the last is `logits`."""
        named: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor) -> Tensor:
            named[name] = value
            return value

        self.forward(images, keep)
        return named


def build(config: MixerConfig) -> MlpMixer:
    """Return a model whose parameters wait for `set_state_dict` instead of being initialised first."""
    with paddle.LazyGuard():
        model = MlpMixer(config)
    model.eval()
    return model
