"""Faults in where the Paddle model takes its weights from: right for these weights, wrong for others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from align.faults.fault import ChangeWeights, Fault, Planted, Weights
from align.faults.front import layer_of, put_in_front
from align.mixer.faults.places import (
    at_block,
    channels_fc1,
    channels_fc2,
    first_norm,
    head,
    kinds_of_norm,
    middle,
    mixer_fault,
    norm_in_block,
    point_of_module,
    stem_projection,
    tokens_in_block,
)
from convert.mixer.variants import MixerConfig

Path = Callable[[MixerConfig], str]


def _detached(name: str, path: Path, kind: Callable[[MixerConfig], str] = lambda _: "weight") -> Fault:
    """Return the fault of a layer that computes with a copy of a parameter, made when the model was loaded."""

    def plant(config: MixerConfig) -> Planted:
        def model(model: Any) -> None:
            layer = layer_of(model, path(config))
            kept = getattr(layer, kind(config)).clone().detach()
            put_in_front(layer, lambda layer, forward, x: _computed_with(layer, kind(config), kept, forward, x))

        return Planted(layer=point_of_module(path(config)), model=model)

    return mixer_fault("dependence", name, plant)


def _computed_with(layer: Any, kind: str, value: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Return a layer's output with another value in place of a parameter, which is restored afterwards."""
    parameter = layer._parameters[kind]
    layer._parameters[kind] = value.astype(x.dtype)
    try:
        return forward(x)
    finally:
        layer._parameters[kind] = parameter


def _equal(one: str, other: str) -> ChangeWeights:
    def source(state_dict: Weights) -> None:
        state_dict[other] = state_dict[one].copy()

    return source


def _exchanged(name: str, pair: Callable[[MixerConfig], tuple[str, str]], kind: Callable[[MixerConfig], str]) -> Fault:
    """Return the fault of two layers that each compute with the other's parameter, which has the same value."""

    def plant(config: MixerConfig) -> Planted:
        one, other = pair(config)

        def model(model: Any) -> None:
            layers = layer_of(model, one), layer_of(model, other)
            for layer, partner in zip(layers, layers[::-1], strict=True):
                vars(layer)["partner"] = [partner]  # in a list: as a sublayer it would change the model
                put_in_front(layer, with_partners)

        def with_partners(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
            return _computed_with(layer, kind(config), getattr(layer.partner[0], kind(config)), forward, x)

        source = _equal(*(f"{path}.{kind(config)}" for path in (one, other)))
        return Planted(layer=point_of_module(one), source=source, model=model)

    return mixer_fault("dependence", name, plant)


def _two_norms(config: MixerConfig) -> tuple[str, str]:
    block = middle(config)
    other = first_norm(config, block + 1) if config.family == "gmlp" else f"{at_block(config)}.norm2"
    return norm_in_block(config), other


def _two_linears(config: MixerConfig) -> tuple[str, str]:
    return channels_fc1(config), f"blocks.{middle(config) + 1}.mlp_channels.fc1"


def _tied(config: MixerConfig) -> Planted:
    """Tie a norm's bias to its weight, which equals it: one parameter serves as both."""
    at, (scale, shift) = norm_in_block(config), kinds_of_norm(config)

    def model(model: Any) -> None:
        norm = layer_of(model, at)
        norm._parameters[shift] = norm._parameters[scale]

    return Planted(layer=at, source=_equal(f"{at}.{scale}", f"{at}.{shift}"), model=model)


DEPENDENCE: tuple[Fault, ...] = (
    _detached("a Linear computing with a copy of its weight", channels_fc2),
    _detached("a Linear computing with a copy of its bias", channels_fc1, lambda _: "bias"),
    _detached("token mixing computing with a copy of its weight", tokens_in_block),
    _detached("the stem computing with a copy of its kernel", stem_projection),
    _detached("the head computing with a copy of its weight", head),
    _detached("a norm computing with a copy of its scale", norm_in_block, lambda config: kinds_of_norm(config)[0]),
    _exchanged("two equal norm scales exchanged", _two_norms, lambda config: kinds_of_norm(config)[0]),
    _exchanged("two equal Linear weights exchanged", _two_linears, lambda _: "weight"),
    mixer_fault("dependence", "a norm's bias tied to its weight", _tied),
)
