"""What a planted fault is: where it sits, and what it changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from convert.arrays import Array
from convert.mixer.variants import MixerConfig

Kind = Literal["weights", "structure", "numerics", "harness"]
Weights = dict[str, Array]
ChangeWeights = Callable[[Weights], None]
ChangeModel = Callable[[Any], None]


def _keep(_: Any) -> None:
    """Change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One fault in one config.

    layer is the comparison point that has to be blamed: the first that the fault reaches. What is changed: source, the
    weights of both sides, in timm's layout; weights, the candidate's, in Paddle's; model, the Paddle model built from
    them; reference, timm's model; around, whatever surrounds the whole alignment.
    """

    layer: str
    source: ChangeWeights = _keep
    weights: ChangeWeights = _keep
    model: ChangeModel = _keep
    reference: ChangeModel = _keep
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault by name. `plant` returns it for a config, or None where the config cannot have it."""

    name: str
    kind: Kind
    plant: Callable[[MixerConfig], Planted | None]


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
