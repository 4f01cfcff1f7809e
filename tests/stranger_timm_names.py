"""Somebody else's Mixer with timm's parameter names, right and with mistakes; nothing of it knows of this project."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import paddle
import paddle.nn.functional as F  # noqa: N812  # as everyone calls it
from paddle import Tensor, nn
from stranger_mistakes import ANY_MODEL, BiasIgnored, Half, become, plant, scale, set_epsilon


class Identity(nn.Layer):
    def forward(self, x: Tensor) -> Tensor:
        return x


class DropPath(nn.Layer):
    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        kept = paddle.floor(paddle.rand([x.shape[0], 1, 1], x.dtype) + 1 - self.drop_prob)
        return x / (1 - self.drop_prob) * kept


class Mlp(nn.Layer):
    """Token mixing's: activation and dropout are layers."""

    def __init__(self, in_features: int, hidden_features: int, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_features, in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(x))


class ChannelMlp(nn.Layer):
    """Channel mixing's: the activation is a function."""

    approximate = False

    def __init__(self, in_features: int, hidden_features: int, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.fc2 = nn.Linear(hidden_features, in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.fc1(x), approximate=self.approximate)
        return self.drop(self.fc2(self.drop(x)))


class PatchEmbed(nn.Layer):
    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2D(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).flatten(2).transpose((0, 2, 1)))


class MixerBlock(nn.Layer):
    def __init__(self, dim: int, seq_len: int, tokens_dim: int, channels_dim: int, drop: float, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=1e-6)
        self.mlp_tokens = Mlp(seq_len, tokens_dim, drop)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else Identity()
        self.norm2 = nn.LayerNorm(dim, epsilon=1e-6)
        self.mlp_channels = ChannelMlp(dim, channels_dim, drop)

    def mix_tokens(self, x: Tensor) -> Tensor:
        return self.mlp_tokens(self.norm1(x).transpose((0, 2, 1))).transpose((0, 2, 1))

    def mix_channels(self, x: Tensor) -> Tensor:
        return self.mlp_channels(self.norm2(x))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.mix_tokens(x))
        return x + self.drop_path(self.mix_channels(x))


class MlpMixer(nn.Layer):
    def __init__(
        self,
        *,
        img_size: int,
        patch_size: int,
        embed_dim: int,
        tokens_dim: int,
        channels_dim: int,
        depth: int,
        num_classes: int,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = PatchEmbed(img_size, patch_size, 3, embed_dim)
        sizes = (embed_dim, self.stem.num_patches, tokens_dim, channels_dim)
        self.blocks = nn.Sequential(*[MixerBlock(*sizes, drop_rate, drop_path_rate) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim, epsilon=1e-6)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes > 0 else Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        return self.norm(self.blocks(self.stem(x)))

    def pool(self, x: Tensor) -> Tensor:
        return x.mean(axis=1)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.pool(self.forward_features(x)))


# Right in other ways.


class FunctionalFc2:
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.gelu(self.fc1(x)), self.fc2.weight, self.fc2.bias)


class FunctionalNorms:
    def mix_tokens(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x, x.shape[-1:], self.norm1.weight, self.norm1.bias, 1e-6).transpose((0, 2, 1))
        return self.mlp_tokens(y).transpose((0, 2, 1))


class TokensFirst:
    """Token mixing without a transposition: the weights multiply from the left."""

    def mix_tokens(self, x: Tensor) -> Tensor:
        fc1, fc2 = self.mlp_tokens.fc1, self.mlp_tokens.fc2
        y = F.gelu(paddle.matmul(fc1.weight, self.norm1(x), transpose_x=True) + fc1.bias.unsqueeze(-1))
        return paddle.matmul(fc2.weight, y, transpose_x=True) + fc2.bias.unsqueeze(-1)


class ByForward:
    """Blocks and norm are called by their `forward`, past every hook on them."""

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block.forward(x)
        return self.norm.forward(x)


class ByKeyword:
    def mix_channels(self, x: Tensor) -> Tensor:
        return self.mlp_channels(x=self.norm2(input=x))


class HeadByKeyword:
    def classify(self, x: Tensor) -> Tensor:
        return self.head(input=x)


class PooledBySum:
    def pool(self, x: Tensor) -> Tensor:
        return x.sum(axis=1) / x.shape[1]


class WithIdentities:
    def pool(self, x: Tensor) -> Tensor:
        return self.pre_logits(self.pre_pool(x).mean(axis=1))


def functional_fc2(model: MlpMixer) -> None:
    for block in model.blocks:
        become(block.mlp_channels, FunctionalFc2)


def in_every_block(other: type, model: MlpMixer) -> None:
    for block in model.blocks:
        become(block, other)


def by_keyword(model: MlpMixer) -> None:
    in_every_block(ByKeyword, model)
    become(model, HeadByKeyword)


def identities(model: MlpMixer) -> None:
    model.pre_pool, model.pre_logits = Identity(), nn.Sequential(Identity(), nn.Dropout(0.0))
    become(model, WithIdentities)


VARIANTS: dict[str, Callable[[MlpMixer], object]] = {
    "plain": lambda _: None,
    "functional-fc2": functional_fc2,
    "functional-norms": partial(in_every_block, FunctionalNorms),
    "tokens-first": partial(in_every_block, TokensFirst),
    "by-forward": lambda model: become(model, ByForward),
    "by-keyword": by_keyword,
    "pooled-by-sum": lambda model: become(model, PooledBySum),
    "identities": identities,
    "never-evaluated": lambda model: model.train(),
}


# Mistakes, most of them in the second block.


class NoTokenResidual:
    def forward(self, x: Tensor) -> Tensor:
        x = self.drop_path(self.mix_tokens(x))
        return x + self.drop_path(self.mix_channels(x))


class NoChannelResidual:
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.mix_tokens(x))
        return self.drop_path(self.mix_channels(x))


class TokenResidualFromNorm:
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x)
        x = x + self.mlp_tokens(x.transpose((0, 2, 1))).transpose((0, 2, 1))
        return x + self.mix_channels(x)


class ChannelResidualFromNorm:
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm2(x + self.mix_tokens(x))
        return x + self.mlp_channels(x)


class Reshaped:
    def mix_tokens(self, x: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        return self.mlp_tokens(self.norm1(x).reshape([batch, channels, tokens])).transpose((0, 2, 1))


class ReshapedBack:
    def mix_tokens(self, x: Tensor) -> Tensor:
        return self.mlp_tokens(self.norm1(x).transpose((0, 2, 1))).reshape(x.shape)


class StemReshaped:
    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        return x.reshape([x.shape[0], -1, x.shape[1]])


class NormSkipped:
    def mix_channels(self, x: Tensor) -> Tensor:
        return self.mlp_channels(x)


class UnregisteredDropout:
    """The dropout is in a list, where `eval()` does not find it."""

    def mix_tokens(self, x: Tensor) -> Tensor:
        return self.drops[0](super().mix_tokens(x))


class GeluCapped:
    """The activation ends at 6, as ReLU6 does; on images it stays below."""

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(F.gelu(self.fc1(x)).clip(max=6.0)))


class GeluCutOff:
    """The activation is 0 below -6, where it is all but 0."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.drop(self.fc2(paddle.where(x < -6, paddle.zeros_like(x), F.gelu(x))))


class NoFinalNorm:
    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))


class BatchCentred:
    """Each image's features depend a little on the other images."""

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.norm(x - 1e-3 * x.mean(axis=0, keepdim=True))


class DropoutAlways:
    def forward_features(self, x: Tensor) -> Tensor:
        return self.norm(F.dropout(self.blocks(self.stem(x)), 0.1))


class FirstToken:
    def pool(self, x: Tensor) -> Tensor:
        return x[:, 0]


class MeanOverBatch:
    def pool(self, x: Tensor) -> Tensor:
        return x.mean(axis=0)


class NoHeadBias:
    def classify(self, x: Tensor) -> Tensor:
        return paddle.matmul(x, self.head.weight)


def behind_forward(model: MlpMixer) -> None:
    become(model.blocks[1], NoChannelResidual)
    become(model, ByForward)


def tanh_in_tokens(model: MlpMixer) -> None:
    for block in model.blocks:
        block.mlp_tokens.act = nn.GELU(approximate=True)


def tanh_in_channels(model: MlpMixer) -> None:
    for block in model.blocks:
        block.mlp_channels.approximate = True


def unregistered_dropout(model: MlpMixer) -> None:
    model.blocks[1].drops = [nn.Dropout(0.1)]
    become(model.blocks[1], UnregisteredDropout)


def left_in_training(model: MlpMixer) -> None:
    for layer in model.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.1
    model.train()


MISTAKES: dict[str, Callable[[MlpMixer], object]] = {
    "final-epsilon": lambda model: set_epsilon(model.norm),
    "tanh-in-tokens": tanh_in_tokens,
    "tanh-in-channels": tanh_in_channels,
    "no-token-residual": lambda model: become(model.blocks[1], NoTokenResidual),
    "no-channel-residual": lambda model: become(model.blocks[1], NoChannelResidual),
    "no-residual-behind-forward": behind_forward,
    "token-residual-from-norm": lambda model: become(model.blocks[1], TokenResidualFromNorm),
    "channel-residual-from-norm": lambda model: become(model.blocks[1], ChannelResidualFromNorm),
    "reshape": lambda model: become(model.blocks[1], Reshaped),
    "reshape-back": lambda model: become(model.blocks[1], ReshapedBack),
    "reshape-in-stem": lambda model: become(model.stem, StemReshaped),
    "norm-skipped": lambda model: become(model.blocks[1], NormSkipped),
    "no-final-norm": lambda model: become(model, NoFinalNorm),
    "first-token": lambda model: become(model, FirstToken),
    "mean-over-batch": lambda model: become(model, MeanOverBatch),
    "no-head-bias": lambda model: become(model, NoHeadBias),
    "ignored-bias": lambda model: become(model.blocks[1].mlp_channels.fc2, BiasIgnored),
    "ignored-token-bias": lambda model: become(model.blocks[1].mlp_tokens.fc2, BiasIgnored),
    "gelu-capped": lambda model: become(model.blocks[1].mlp_channels, GeluCapped),
    "gelu-cut-off": lambda model: become(model.blocks[1].mlp_channels, GeluCutOff),
    "float16": lambda model: become(model.blocks[1].mlp_channels.fc1, Half),
    "buffer": lambda model: scale(model.blocks[1].mlp_channels.fc2, persistable=True),
    "hidden-buffer": lambda model: scale(model.blocks[1].mlp_channels.fc2, persistable=False),
    "batch-centred": lambda model: become(model, BatchCentred),
    "dropout-always": lambda model: become(model, DropoutAlways),
    "unregistered-dropout": unregistered_dropout,
    "left-in-training": left_in_training,
    **{name: partial(plant, name=name) for name in ANY_MODEL},
}


def build(
    *,
    img_size: int = 32,
    patch_size: int = 8,
    embed_dim: int = 10,
    tokens_dim: int = 6,
    channels_dim: int = 14,
    depth: int = 3,
    num_classes: int = 7,
    variant: str = "plain",
    mistake: str | None = None,
) -> nn.Layer:
    """Return the Mixer, with Paddle's initial weights."""
    model = MlpMixer(
        img_size=img_size,
        patch_size=patch_size,
        embed_dim=embed_dim,
        tokens_dim=tokens_dim,
        channels_dim=channels_dim,
        depth=depth,
        num_classes=num_classes,
    )
    model.eval()
    VARIANTS[variant](model)
    if mistake is not None:
        MISTAKES[mistake](model)
    return model
