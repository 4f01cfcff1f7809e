"""Where a vision MLP's faults are planted, and how one is made for the configs that can have it."""

from __future__ import annotations

from collections.abc import Callable

from align.core.case import Case
from align.faults.fault import Fault, Kind, Planted
from convert.mixer.variants import MixerConfig


def mixer_fault(kind: Kind, name: str, plant: Callable[[MixerConfig], Planted | None]) -> Fault:
    """Return a fault that a config tells how to plant."""

    def planted(case: Case) -> Planted | None:
        return plant(case.config)

    return Fault(name=name, kind=kind, plant=planted)


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
