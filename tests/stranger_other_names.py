"""Another author's Mixer, with names and a granularity of its own; nothing of it knows of this project."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import paddle
import paddle.nn.functional as F  # noqa: N812  # as everyone calls it
from paddle import Tensor, nn
from stranger_mistakes import ANY_MODEL, BiasIgnored, Half, become, plant, scale, set_epsilon


class PatchEmbedding(nn.Layer):
    """Gives a map of features; the model flattens it."""

    def __init__(self, patch: int, channels: int) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2D(3, channels, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.patch_embed(images)


class Mixing(nn.Layer):
    """Norm, two dense layers over the last axis, and the residual: one half of a mixer layer."""

    approximate = False
    transposed = False

    def __init__(self, channels: int, features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, epsilon=1e-6)
        self.dense_in = nn.Linear(features, hidden)
        self.dense_out = nn.Linear(hidden, features)
        self.dropout = dropout

    def normalised(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def dense(self, x: Tensor) -> Tensor:
        x = F.gelu(self.dense_in(x), approximate=self.approximate)
        return self.dense_out(F.dropout(x, self.dropout, training=self.training))

    def mixed(self, y: Tensor) -> Tensor:
        return self.turned(self.dense(self.turned(y)))

    def turned(self, y: Tensor) -> Tensor:
        return paddle.transpose(y, [0, 2, 1]) if self.transposed else y

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixed(self.normalised(x))


class TokenMixing(Mixing):
    transposed = True


class ChannelMixing(Mixing):
    pass


class MixerLayer(nn.Layer):
    def __init__(self, channels: int, tokens: int, token_hidden: int, channel_hidden: int, dropout: float) -> None:
        super().__init__()
        self.channel_mixer = ChannelMixing(channels, channels, channel_hidden, dropout)
        self.token_mixer = TokenMixing(channels, tokens, token_hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.token_mixer(x))


class Classifier(nn.Layer):
    """Final norm, pooling and classes in one."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, classes)
        self.norm = nn.LayerNorm(channels, epsilon=1e-6)

    def normalised(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def pooled(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(x.transpose([0, 2, 1]), 1).squeeze(-1)

    def classes(self, x: Tensor) -> Tensor:
        return self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.pooled(self.normalised(x)))


class MLPMixer(nn.Layer):
    def __init__(
        self,
        *,
        image: int,
        patch: int,
        channels: int,
        token_hidden: int,
        channel_hidden: int,
        layers: int,
        classes: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        tokens = (image // patch) ** 2
        self.classifier = Classifier(channels, classes)
        self.mixer_layers = nn.LayerList(
            [MixerLayer(channels, tokens, token_hidden, channel_hidden, dropout) for _ in range(layers)]
        )
        self.patch_embed = PatchEmbedding(patch, channels)

    def tokens(self, images: Tensor) -> Tensor:
        return paddle.transpose(paddle.flatten(self.patch_embed(images), start_axis=2), [0, 2, 1])

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        for layer in self.mixer_layers:
            x = layer(x)
        return self.classifier(x)


# Right in other ways.


class FunctionalOut:
    def dense(self, x: Tensor) -> Tensor:
        return F.linear(F.gelu(self.dense_in(x)), self.dense_out.weight, self.dense_out.bias)


class FunctionalNorm:
    def normalised(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias, 1e-6)


class ByEinsum:
    """Token mixing without a transposition."""

    def mixed(self, y: Tensor) -> Tensor:
        y = paddle.einsum("btc,th->bhc", y, self.dense_in.weight) + self.dense_in.bias.unsqueeze(-1)
        y = paddle.einsum("bhc,ht->btc", F.gelu(y), self.dense_out.weight)
        return y + self.dense_out.bias.unsqueeze(-1)


class ByKeyword:
    def classes(self, x: Tensor) -> Tensor:
        return self.fc(input=x)


class WithIdentities:
    def tokens(self, images: Tensor) -> Tensor:
        return self.before(super().tokens(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.after(super().forward(images))


def in_every(mixer: str, other: type, model: MLPMixer) -> None:
    for layer in model.mixer_layers:
        become(getattr(layer, mixer), other)


def identities(model: MLPMixer) -> None:
    model.before, model.after = nn.Identity(), nn.Sequential(nn.Identity(), nn.Dropout(0.0))
    become(model, WithIdentities)


VARIANTS: dict[str, Callable[[MLPMixer], object]] = {
    "plain": lambda _: None,
    "functional-out": partial(in_every, "channel_mixer", FunctionalOut),
    "functional-norms": partial(in_every, "token_mixer", FunctionalNorm),
    "einsum": partial(in_every, "token_mixer", ByEinsum),
    "by-keyword": lambda model: become(model.classifier, ByKeyword),
    "identities": identities,
    "never-evaluated": lambda model: model.train(),
}


# Mistakes, most of them in the second layer.


class NoResidual:
    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(self.normalised(x))


class ResidualFromNorm:
    def forward(self, x: Tensor) -> Tensor:
        x = self.normalised(x)
        return x + self.mixed(x)


class Reshaped:
    def mixed(self, y: Tensor) -> Tensor:
        batch, tokens, channels = y.shape
        return self.turned(self.dense(y.reshape([batch, channels, tokens])))


class ReshapedBack:
    def mixed(self, y: Tensor) -> Tensor:
        return self.dense(self.turned(y)).reshape(y.shape)


class TokensReshaped:
    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        return x.reshape([x.shape[0], -1, x.shape[1]])


class NormSkipped:
    """Of a mixing or of the classifier."""

    def normalised(self, x: Tensor) -> Tensor:
        return x


class OnceMoreActivated:
    """An activation behind the second dense layer too."""

    def mixed(self, y: Tensor) -> Tensor:
        return F.gelu(super().mixed(y))


class ChannelsFirst:
    """The halves of a layer in the wrong order."""

    def forward(self, x: Tensor) -> Tensor:
        return self.token_mixer(self.channel_mixer(x))


class UnregisteredDropout:
    """The dropout is in a list, where `eval()` does not find it."""

    def mixed(self, y: Tensor) -> Tensor:
        return self.drops[0](super().mixed(y))


class DropoutAlways:
    """`training` is forgotten."""

    def dense(self, x: Tensor) -> Tensor:
        return F.dropout(super().dense(x), 0.1)


class BatchCentred:
    """Each image's features depend a little on the other images."""

    def normalised(self, x: Tensor) -> Tensor:
        return super().normalised(x - 1e-3 * x.mean(axis=0, keepdim=True))


class FirstToken:
    def pooled(self, x: Tensor) -> Tensor:
        return x[:, 0]


class MeanOverBatch:
    def pooled(self, x: Tensor) -> Tensor:
        return x.mean(axis=0)


class NoBias:
    def classes(self, x: Tensor) -> Tensor:
        return paddle.matmul(x, self.fc.weight)


def tanh(mixer: str, model: MLPMixer) -> None:
    for layer in model.mixer_layers:
        getattr(layer, mixer).approximate = True


def unregistered_dropout(model: MLPMixer) -> None:
    mixing = model.mixer_layers[1].token_mixer
    mixing.drops = [nn.Dropout(0.1)]
    become(mixing, UnregisteredDropout)


def left_in_training(model: MLPMixer) -> None:
    for layer in model.mixer_layers:
        layer.token_mixer.dropout = layer.channel_mixer.dropout = 0.1
    model.train()


MISTAKES: dict[str, Callable[[MLPMixer], object]] = {
    "final-epsilon": lambda model: set_epsilon(model.classifier),
    "tanh-in-tokens": partial(tanh, "token_mixer"),
    "tanh-in-channels": partial(tanh, "channel_mixer"),
    "no-token-residual": lambda model: become(model.mixer_layers[1].token_mixer, NoResidual),
    "no-channel-residual": lambda model: become(model.mixer_layers[1].channel_mixer, NoResidual),
    "token-residual-from-norm": lambda model: become(model.mixer_layers[1].token_mixer, ResidualFromNorm),
    "channel-residual-from-norm": lambda model: become(model.mixer_layers[1].channel_mixer, ResidualFromNorm),
    "reshape": lambda model: become(model.mixer_layers[1].token_mixer, Reshaped),
    "reshape-back": lambda model: become(model.mixer_layers[1].token_mixer, ReshapedBack),
    "reshape-in-stem": lambda model: become(model, TokensReshaped),
    "norm-skipped": lambda model: become(model.mixer_layers[1].channel_mixer, NormSkipped),
    "no-final-norm": lambda model: become(model.classifier, NormSkipped),
    "once-more-activated": lambda model: become(model.mixer_layers[1].token_mixer, OnceMoreActivated),
    "channels-first": lambda model: become(model.mixer_layers[1], ChannelsFirst),
    "first-token": lambda model: become(model.classifier, FirstToken),
    "mean-over-batch": lambda model: become(model.classifier, MeanOverBatch),
    "no-head-bias": lambda model: become(model.classifier, NoBias),
    "ignored-bias": lambda model: become(model.mixer_layers[1].channel_mixer.dense_out, BiasIgnored),
    "ignored-token-bias": lambda model: become(model.mixer_layers[1].token_mixer.dense_out, BiasIgnored),
    "float16": lambda model: become(model.mixer_layers[1].channel_mixer.dense_in, Half),
    "buffer": lambda model: scale(model.mixer_layers[1].channel_mixer.dense_out, persistable=True),
    "hidden-buffer": lambda model: scale(model.mixer_layers[1].channel_mixer.dense_out, persistable=False),
    "batch-centred": lambda model: become(model.classifier, BatchCentred),
    "dropout-always": lambda model: become(model.mixer_layers[1].channel_mixer, DropoutAlways),
    "unregistered-dropout": unregistered_dropout,
    "left-in-training": left_in_training,
    **{name: partial(plant, name=name) for name in ANY_MODEL},
}


def build(
    *,
    image: int = 32,
    patch: int = 8,
    channels: int = 10,
    token_hidden: int = 6,
    channel_hidden: int = 14,
    layers: int = 3,
    classes: int = 7,
    variant: str = "plain",
    mistake: str | None = None,
) -> nn.Layer:
    """Return the Mixer, with Paddle's initial weights."""
    model = MLPMixer(
        image=image,
        patch=patch,
        channels=channels,
        token_hidden=token_hidden,
        channel_hidden=channel_hidden,
        layers=layers,
        classes=classes,
    )
    model.eval()
    VARIANTS[variant](model)
    if mistake is not None:
        MISTAKES[mistake](model)
    return model
