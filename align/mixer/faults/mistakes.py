"""Mistakes that people make when they rewrite such a model: steps in the wrong order, axes and modes confused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from align.faults.fault import Fault, Planted
from align.faults.front import Change
from align.mixer.faults.places import (
    at_block,
    channels_fc2,
    in_front,
    layer_norm,
    middle,
    mixer_fault,
    norm_in_block,
    tokens_in_block,
)
from align.mixer.faults.rewire import rewire_model
from convert.mixer.variants import MixerConfig

Forward = Callable[[Any], Any]
Where = Callable[[MixerConfig], str | None]


def _layer(name: str, path: Where, change: Change) -> Fault:
    return in_front("structure", name, path, change)


def _model(name: str, layer: Where, change: Callable[[Any], None]) -> Fault:
    def plant(config: MixerConfig) -> Planted | None:
        at = layer(config)
        return None if at is None else Planted(layer=at, model=change)

    return mixer_fault("structure", name, plant)


def _block(change: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda model: change(model.blocks[middle(model.config)])


def _fc1_of_two_layers(config: MixerConfig) -> str | None:
    """Return the name of the first Linear of token mixing, if that has two; else None."""
    return tokens_in_block(config) if config.family in ("mixer", "gmixer") else None


def _with_two_branches(point: str) -> Where:
    return lambda config: None if config.family == "gmlp" else f"{at_block(config)}.{point}"


def _square(config: MixerConfig) -> str | None:
    square = config.family in ("resmlp", "gmlp") or config.tokens_mlp_dim == config.tokens
    return tokens_in_block(config) if square else None


def _last_layer_norm(config: MixerConfig) -> str | None:
    return None if config.family == "resmlp" else "norm"


def _used_transposed(linear: Any, _: Forward, x: Any) -> Any:
    import paddle

    return paddle.nn.functional.linear(x, linear.weight.transpose([1, 0]), linear.bias)


def _epsilon_outside(norm: Any, _: Forward, x: Any) -> Any:
    """Add epsilon to the standard deviation instead of to the variance."""
    centred = x - x.mean(axis=-1, keepdim=True)
    deviation = centred.square().mean(axis=-1, keepdim=True).sqrt()
    return centred / (deviation + norm._epsilon) * norm.weight + norm.bias


def _not_centred(norm: Any, _: Forward, x: Any) -> Any:
    """Divide by the root mean square without centring first."""
    root = (x.square().mean(axis=-1, keepdim=True) + norm._epsilon).sqrt()
    return x / root * norm.weight + norm.bias


def _over_tokens(norm: Any, _: Forward, x: Any) -> Any:
    centred = x - x.mean(axis=1, keepdim=True)
    return centred / (centred.square().mean(axis=1, keepdim=True) + norm._epsilon).sqrt() * norm.weight + norm.bias


def _reshaped_input(_: Any, forward: Forward, x: Any) -> Any:
    """Reshape (batch, tokens, channels) to (batch, channels, tokens) instead of transposing it."""
    batch, channels, tokens = x.shape
    return forward(x.transpose([0, 2, 1]).reshape([batch, channels, tokens]))


def _reshaped_stem(stem: Any, _: Forward, images: Any) -> Any:
    patches = stem.proj(images)
    return patches.reshape([patches.shape[0], -1, patches.shape[1]])


def _reshaped_back(block: Any) -> None:
    mix = block.linear_tokens if hasattr(block, "linear_tokens") else block.mlp_tokens

    def forward(x: Any) -> Any:
        mixed = mix(block.norm1(x).transpose([0, 2, 1])).reshape(x.shape)
        x = x + (block.ls1 * mixed if hasattr(block, "ls1") else mixed)
        mixed = block.mlp_channels(block.norm2(x))
        return x + (block.ls2 * mixed if hasattr(block, "ls2") else mixed)

    block.forward = forward


def _downscaled(model: Any) -> None:
    """Use Paddle's other dropout mode, which scales in evaluation instead of in training."""
    from paddle import nn

    mlp = model.blocks[middle(model.config)].mlp_channels
    mlp.act = nn.Sequential(mlp.act, nn.Dropout(0.1, mode="downscale_in_infer"))
    mlp.eval()


def _twice(_: Any, forward: Forward, x: Any) -> Any:
    return forward(forward(x))


def _in_order(order: Callable[[Any], list[Any]]) -> Callable[[Any], None]:
    """Return the change that calls the blocks that `order` returns, in that order."""

    def change(model: Any) -> None:
        def forward(images: Any) -> Any:
            x = model.stem(images)
            for block in order(model):
                x = block(x)
            return model.head(model.norm(x).mean(axis=1))

        model.forward = forward

    return change


def _skipped(model: Any) -> list[Any]:
    return [block for i, block in enumerate(model.blocks) if i != middle(model.config)]


def _next_first(model: Any) -> list[Any]:
    blocks, i = [*model.blocks], middle(model.config)
    return [*blocks[:i], blocks[i + 1], blocks[i], *blocks[i + 2 :]]


def _ones_in_the_gate(config: MixerConfig) -> str | None:
    return f"{at_block(config)}.mlp_channels.gate.proj" if config.family == "gmlp" else None


MISTAKES: tuple[Fault, ...] = (
    _layer("a square Linear multiplying by its transposed weight", _square, _used_transposed),
    _layer("epsilon added outside the root in the last norm", _last_layer_norm, _epsilon_outside),
    _layer("a norm that does not centre", layer_norm, _not_centred),
    _layer("a norm over the tokens", layer_norm, _over_tokens),
    _layer("a norm skipped before a branch", norm_in_block, lambda _, __, x: x.clone()),
    _layer("reshaped for transposed before token mixing", _fc1_of_two_layers, _reshaped_input),
    _model("reshaped for transposed behind token mixing", _with_two_branches("token_mixing"), _block(_reshaped_back)),
    _layer("the stem's patches reshaped for transposed", lambda _: "stem", _reshaped_stem),
    _layer("images normalised once more inside", lambda _: "stem", lambda _, forward, x: forward((x - 0.5) / 0.5)),
    _model("a dropout that scales in evaluation", lambda c: f"{at_block(c)}.mlp_channels.act", _downscaled),
    _layer("a branch scaled by its chance to survive", channels_fc2, lambda _, forward, x: forward(x) * 0.9),
    _layer("a gate that adds its initial 1 once more", _ones_in_the_gate, lambda _, forward, x: forward(x) + 1.0),
    _model("pooling over the channels", lambda _: "pooled", lambda m: rewire_model(m, pool=lambda x: x.mean(axis=2))),
    _model("pooling over the batch", lambda _: "pooled", lambda m: rewire_model(m, pool=lambda x: x.mean(axis=0))),
    _model(
        "maximum for mean in the pooling", lambda _: "pooled", lambda m: rewire_model(m, pool=lambda x: x.max(axis=1))
    ),
    _layer("a block run twice", at_block, _twice),
    _model("a block skipped", norm_in_block, _in_order(_skipped)),
    _model("two blocks run in the other order", norm_in_block, _in_order(_next_first)),
)
