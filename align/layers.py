"""The comparison points, in forward order, and the one that each parameter acts in."""

from __future__ import annotations

from dataclasses import dataclass

from convert.arrays import Shape
from convert.variants import MixerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One comparison point: its name, the shape of its output for a batch, and how many terms each element sums up."""

    name: str
    shape: Shape
    terms: int = 1


def layers_of(config: MixerConfig, batch: int) -> tuple[Layer, ...]:
    """Return the comparison points of a Mixer: stem, ten points a block, final norm, pooled features, logits."""
    mixed = (batch, config.tokens, config.hidden_dim)
    return (
        Layer(name="stem", shape=mixed, terms=config.in_chans * config.patch_size**2),
        *(layer for i in range(config.num_blocks) for layer in _block(config, mixed, f"blocks.{i}")),
        Layer(name="norm", shape=mixed),
        Layer(name="pooled", shape=(batch, config.hidden_dim), terms=config.tokens),
        Layer(name="logits", shape=(batch, config.num_classes), terms=config.hidden_dim),
    )


def _block(config: MixerConfig, mixed: Shape, at: str) -> tuple[Layer, ...]:
    across = (mixed[0], config.hidden_dim, config.tokens)
    return (
        Layer(name=f"{at}.norm1", shape=mixed),
        *_mlp(f"{at}.mlp_tokens", across, config.tokens_mlp_dim),
        Layer(name=f"{at}.token_mixing", shape=mixed),
        Layer(name=f"{at}.norm2", shape=mixed),
        *_mlp(f"{at}.mlp_channels", mixed, config.channels_mlp_dim),
        Layer(name=at, shape=mixed),
    )


def _mlp(at: str, outer: Shape, hidden: int) -> tuple[Layer, ...]:
    inner = (*outer[:-1], hidden)
    return (
        Layer(name=f"{at}.fc1", shape=inner, terms=outer[-1]),
        Layer(name=f"{at}.act", shape=inner),
        Layer(name=f"{at}.fc2", shape=outer, terms=hidden),
    )


def layer_of_parameter(name: str) -> str:
    """Return the comparison point that a parameter acts in: `stem.proj.bias` → `stem`, `head.bias` → `logits`."""
    module = name.rpartition(".")[0]
    return {"stem.proj": "stem", "head": "logits"}.get(module, module)
