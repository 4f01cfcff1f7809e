"""Faults that trivial weights hide: a model omits a weight because it is 0 or 1, or uses another that equals it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from align.faults.fault import ChangeWeights, Fault, Planted, Weights
from align.faults.front import layer_of, put_in_front
from align.mixer.faults.parameters import without_bias
from align.mixer.faults.places import (
    at_block,
    channels_fc1,
    head,
    in_front,
    kinds_of_norm,
    mixer_fault,
    norm_in_block,
    tokens_in_block,
)
from convert.mixer.variants import MixerConfig

Path = Callable[[MixerConfig], str]


def _filled(values: Callable[[MixerConfig], dict[str, float]]) -> Callable[[MixerConfig], ChangeWeights]:
    """Return what makes, for a config, the change that fills each of these parameters of both sides with one number."""

    def of(config: MixerConfig) -> ChangeWeights:
        def source(state_dict: Weights) -> None:
            for key, value in values(config).items():
                state_dict[key] = np.full_like(state_dict[key], value)

        return source

    return of


def _left_out(name: str, path: Path) -> Fault:
    """Return the fault of a Linear that does not add its bias, which is 0 on both sides."""
    return in_front("dependence", name, path, without_bias, _filled(lambda config: {f"{path(config)}.bias": 0.0}))


def _trivial_norm(config: MixerConfig) -> dict[str, float]:
    return {
        f"{norm_in_block(config)}.{kind}": value for kind, value in zip(kinds_of_norm(config), (1.0, 0.0), strict=True)
    }


def _without_affine(norm: Any, _: Callable[[Any], Any], x: Any) -> Any:
    """Leave out weight and bias, which leaves nothing of ResMLP's norm."""
    import paddle

    if not hasattr(norm, "_epsilon"):
        return x.clone()
    return paddle.nn.functional.layer_norm(x, norm._normalized_shape, epsilon=norm._epsilon)


def _layer_scales(name: str, equal: float, first: str, second: str) -> Fault:
    """Return the fault of a ResMLP block that exchanges its two layer scales, which are equal, or leaves them out."""

    def change(block: Any, _: Callable[[Any], Any], x: Any) -> Any:
        mixed = block.linear_tokens(block.norm1(x).transpose([0, 2, 1])).transpose([0, 2, 1])
        x = x + getattr(block, first, 1.0) * mixed
        return x + getattr(block, second, 1.0) * block.mlp_channels(block.norm2(x))

    def plant(config: MixerConfig) -> Planted | None:
        if config.family != "resmlp":
            return None

        def model(model: Any) -> None:
            put_in_front(layer_of(model, at_block(config)), change)

        source = _filled(lambda config: {f"{at_block(config)}.{scale}": equal for scale in ("ls1", "ls2")})
        return Planted(layer=f"{at_block(config)}.token_mixing", source=source(config), model=model)

    return mixer_fault("dependence", name, plant)


def _open_gate(config: MixerConfig) -> Planted | None:
    """Leave out a gMLP's gate, whose weights at the start of training make it multiply by 1."""
    if config.family != "gmlp":
        return None
    gate = f"{at_block(config)}.mlp_channels.gate"

    def model(model: Any) -> None:
        put_in_front(layer_of(model, gate), _ungated)

    source = _filled(lambda _: {f"{gate}.proj.weight": 0.0, f"{gate}.proj.bias": 1.0})
    return Planted(layer=f"{gate}.proj", source=source(config), model=model)


def _ungated(_: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    forward(x)
    return x.chunk(2, axis=-1)[0]


TRIVIAL: tuple[Fault, ...] = (
    _left_out("a Linear's bias of 0 left out", channels_fc1),
    _left_out("token mixing's bias of 0 left out", tokens_in_block),
    _left_out("the head's bias of 0 left out", head),
    in_front(
        "dependence",
        "a norm of weight 1 and bias 0 left plain",
        norm_in_block,
        _without_affine,
        _filled(_trivial_norm),
    ),
    _layer_scales("two equal layer scales exchanged", 1e-4, "ls2", "ls1"),
    _layer_scales("layer scales of 1 left out", 1.0, "none", "none"),
    mixer_fault("dependence", "a gate of 1 left out", _open_gate),
)
