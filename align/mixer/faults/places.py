"""Where a vision MLP's faults are planted, and how one is made for the configs that can have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from align.core.case import Case
from align.faults.fault import ChangeWeights, Fault, Kind, Planted, keep
from align.faults.front import Change, layer_of, put_in_front
from align.mixer.points import LOGITS, layer_of_parameter
from convert.mixer.variants import MixerConfig


def mixer_fault(kind: Kind, name: str, plant: Callable[[MixerConfig], Planted | None]) -> Fault:
    """Return a fault that is planted according to the case's config."""

    def planted(case: Case) -> Planted | None:
        return plant(case.config)

    return Fault(name=name, kind=kind, plant=planted)


def in_front(
    kind: Kind,
    name: str,
    path: Callable[[MixerConfig], str | None],
    change: Change,
    source: Callable[[MixerConfig], ChangeWeights] = lambda _: keep,
) -> Fault:
    """Return a fault in what one layer of the Paddle model does.

    Args:
        kind: Kind of the fault.
        name: Name of the fault.
        path: Returns the layer's path; "" is the model itself, None means that a config has no such layer.
        change: What the layer does instead.
        source: Returns a change of both sides' weights, made first.
    """

    def plant(config: MixerConfig) -> Planted | None:
        at = path(config)
        if at is None:
            return None

        def model(model: Any) -> None:
            put_in_front(layer_of(model, at), change)

        return Planted(layer=point_of_module(at), source=source(config), model=model)

    return mixer_fault(kind, name, plant)


def point_of_module(path: str) -> str:
    """Return the comparison point that shows what a module does: `stem.proj` → `stem`, the model → `logits`."""
    return layer_of_parameter(f"{path}.weight") if path else LOGITS


def middle(config: MixerConfig) -> int:
    """Return the index of the block that faults are planted in; another block follows it."""
    return (config.num_blocks - 1) // 2


def at_block(config: MixerConfig) -> str:
    """Return the name of the block that faults are planted in."""
    return f"blocks.{middle(config)}"


def tokens_linear(config: MixerConfig, block: int) -> str:
    """Return the name of the first Linear that mixes tokens in a block."""
    name = {"resmlp": "linear_tokens", "gmlp": "mlp_channels.gate.proj"}.get(config.family, "mlp_tokens.fc1")
    return f"blocks.{block}.{name}"


def first_norm(config: MixerConfig, block: int) -> str:
    """Return the name of a block's first norm."""
    return f"blocks.{block}.{'norm' if config.family == 'gmlp' else 'norm1'}"


def whole_model(_: MixerConfig) -> str:
    """Return the path of the model itself."""
    return ""


def stem_projection(_: MixerConfig) -> str:
    """Return the name of the stem's convolution."""
    return "stem.proj"


def last_norm(_: MixerConfig) -> str:
    """Return the name of the norm after the blocks."""
    return "norm"


def head(_: MixerConfig) -> str:
    """Return the name of the Linear that outputs the logits."""
    return "head"


def tokens_in_block(config: MixerConfig) -> str:
    """Return the name of the first Linear that mixes tokens in the block that faults are planted in."""
    return tokens_linear(config, middle(config))


def channels_fc1(config: MixerConfig) -> str:
    """Return the name of the Linear that channel mixing begins with, in the block that faults are planted in."""
    return f"{at_block(config)}.mlp_channels.fc1"


def channels_fc2(config: MixerConfig) -> str:
    """Return the name of the Linear that channel mixing ends with, in that block."""
    return f"{at_block(config)}.mlp_channels.fc2"


def norm_in_block(config: MixerConfig) -> str:
    """Return the name of that block's first norm."""
    return first_norm(config, middle(config))


def layer_norm(config: MixerConfig) -> str | None:
    """Return the name of that block's first LayerNorm; ResMLP has none."""
    return None if config.family == "resmlp" else norm_in_block(config)


def kinds_of_norm(config: MixerConfig) -> tuple[str, str]:
    """Return what the scale and the shift of a norm are called."""
    return ("alpha", "beta") if config.family == "resmlp" else ("weight", "bias")
