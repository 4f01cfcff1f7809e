"""The Paddle vision MLPs (Mixer, gMixer, ResMLP, gMLP), with timm's parameter names and timm's epsilons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import paddle
from paddle import Tensor, nn

from convert.arrays import StateDict, contiguous
from convert.checks.loading import load_into
from convert.mixer.variants import GATE_NORM_EPS, Gelu, MixerConfig, MixerKind

DTYPES = {"float16": paddle.float16, "bfloat16": paddle.bfloat16}
LAYER_SCALE_INIT = 1e-4
"""The layer scale at which training starts. Source: timm 1.0.31, timm/models/mlp_mixer.py, ResBlock's `init_values`."""


class Mlp(nn.Layer):
    """Two Linear layers with a GELU between, over the last axis."""

    def __init__(self, features: int, hidden_features: int, gelu: Gelu) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden_features)
        self.act = nn.GELU(approximate=gelu == "tanh")
        self.fc2 = nn.Linear(hidden_features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of x's shape (…, features); the hidden layer is (…, hidden_features)."""
        return cast("Tensor", self.fc2(self.act(self.fc1(x))))


class GluMlp(nn.Layer):
    """Two Linear layers with a gate between: the second half of the hidden layer, through SiLU, gates the first.

    Source: timm 1.0.31, timm/layers/mlp.py, GluMlp.
    """

    def __init__(self, features: int, hidden_features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden_features)
        self.act = nn.Silu()
        self.fc2 = nn.Linear(hidden_features // 2, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of x's shape (…, features); the gated layer is (…, hidden_features / 2)."""
        value, gate = paddle.chunk(self.fc1(x), 2, axis=-1)
        return cast("Tensor", self.fc2(value * self.act(gate)))


class SpatialGatingUnit(nn.Layer):
    """The gate of gMLP: half of the channels, normalised and mixed across tokens, gates the other half.

    Source: https://arxiv.org/abs/2105.08050, section 2.1; timm 1.0.31, timm/models/mlp_mixer.py, SpatialGatingUnit.
    """

    def __init__(self, gated_features: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(gated_features, epsilon=GATE_NORM_EPS)
        self.proj = nn.Linear(tokens, tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, tokens, gated_features) for x (batch, tokens, 2 · gated_features)."""
        value, gate = paddle.chunk(x, 2, axis=-1)
        gate = self.proj(self.norm(gate).transpose([0, 2, 1])).transpose([0, 2, 1])
        return cast("Tensor", value * gate)


class GatedMlp(nn.Layer):
    """Linear, GELU, spatial gate, Linear: the MLP of gMLP."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_dim, config.channels_mlp_dim)
        self.act = nn.GELU(approximate=config.gelu == "tanh")
        self.gate = SpatialGatingUnit(config.channels_gated_dim, config.tokens)
        self.fc2 = nn.Linear(config.channels_gated_dim, config.hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of x's shape, (batch, tokens, hidden_dim)."""
        return cast("Tensor", self.fc2(self.gate(self.act(self.fc1(x)))))


class Affine(nn.Layer):
    """ResMLP's norm without statistics: alpha · x + beta."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.alpha = self.create_parameter([1, 1, features], default_initializer=nn.initializer.Constant(1.0))
        self.beta = self.create_parameter([1, 1, features], default_initializer=nn.initializer.Constant(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of x's shape, (batch, tokens, features)."""
        return x * self.alpha + self.beta


class MixerBlock(nn.Layer):
    """Token mixing, then channel mixing, each after a LayerNorm and with a residual connection.

    Source: https://arxiv.org/abs/2105.01601, equation 1; names from timm 1.0.31, timm/models/mlp_mixer.py, MixerBlock.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        mlp = GluMlp if config.family == "gmixer" else partial(Mlp, gelu=config.gelu)
        self.norm1 = _norm(config)
        self.mlp_tokens = mlp(config.tokens, config.tokens_mlp_dim)
        self.norm2 = _norm(config)
        self.mlp_channels = mlp(config.hidden_dim, config.channels_mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of x's shape, (batch, tokens, hidden_dim)."""
        x = x + self.mlp_tokens(self.norm1(x).transpose([0, 2, 1])).transpose([0, 2, 1])
        return cast("Tensor", x + self.mlp_channels(self.norm2(x)))


class ResBlock(nn.Layer):
    """One Linear across tokens, then channel mixing, each after an affine map and scaled into the residual.

    Source: https://arxiv.org/abs/2105.03404, equations 2 and 3; timm 1.0.31, timm/models/mlp_mixer.py, ResBlock.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        scale = nn.initializer.Constant(LAYER_SCALE_INIT)
        self.ls1 = self.create_parameter([config.hidden_dim], default_initializer=scale)
        self.ls2 = self.create_parameter([config.hidden_dim], default_initializer=scale)
        self.norm1 = _norm(config)
        self.linear_tokens = nn.Linear(config.tokens, config.tokens)
        self.norm2 = _norm(config)
        self.mlp_channels = Mlp(config.hidden_dim, config.channels_mlp_dim, config.gelu)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of x's shape, (batch, tokens, hidden_dim)."""
        x = x + self.ls1 * self.linear_tokens(self.norm1(x).transpose([0, 2, 1])).transpose([0, 2, 1])
        return cast("Tensor", x + self.ls2 * self.mlp_channels(self.norm2(x)))


class SpatialGatingBlock(nn.Layer):
    """The gated MLP after a LayerNorm, with a residual connection.

    Source: https://arxiv.org/abs/2105.08050, section 2; timm 1.0.31, timm/models/mlp_mixer.py, SpatialGatingBlock.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.norm = _norm(config)
        self.mlp_channels = GatedMlp(config)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of x's shape, (batch, tokens, hidden_dim)."""
        return cast("Tensor", x + self.mlp_channels(self.norm(x)))


BLOCKS: dict[MixerKind, Callable[[MixerConfig], nn.Layer]] = {
    "mixer": MixerBlock,
    "gmixer": MixerBlock,
    "resmlp": ResBlock,
    "gmlp": SpatialGatingBlock,
}


class Stem(nn.Layer):
    """The linear projection of non-overlapping patches, as a convolution."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2D(config.in_chans, config.hidden_dim, config.patch_size, stride=config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, tokens, hidden_dim) for images (batch, in_chans, image_size, image_size)."""
        return cast("Tensor", self.proj(images).flatten(2).transpose([0, 2, 1]))


class MlpMixer(nn.Layer):
    """The vision MLP of a config.

    Args:
        config: Sizes, LayerNorm epsilon and GELU.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config)
        self.blocks = nn.LayerList([BLOCKS[config.family](config) for _ in range(config.num_blocks)])
        self.norm = _norm(config)
        self.head = nn.Linear(config.hidden_dim, config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, num_classes) for images (batch, in_chans, image_size, image_size) in its own dtype."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return cast("Tensor", self.head(self.norm(x).mean(axis=1)))


def _norm(config: MixerConfig) -> nn.Layer:
    if config.family == "resmlp":
        return Affine(config.hidden_dim)
    return nn.LayerNorm(config.hidden_dim, epsilon=config.layer_norm_eps)


def build(config: MixerConfig, state_dict: StateDict) -> MlpMixer:
    """Return the model with these weights, in evaluation mode; its parameters are not initialised first.

    Args:
        config: Sizes, epsilon and GELU.
        state_dict: The weights in Paddle's layout, every parameter present and of its shape. The model gets their
            dtype, or float32 if they have several.
    """
    with paddle.LazyGuard():
        model = MlpMixer(config)
    load_into(
        model,
        {key: paddle.to_tensor(contiguous(array).astype("float32", copy=False)) for key, array in state_dict.items()},
    )
    dtypes = {array.dtype.name for array in state_dict.values()}
    if len(dtypes) == 1 and dtypes != {"float32"}:
        model.to(dtype=DTYPES[dtypes.pop()])
    model.eval()
    return model
