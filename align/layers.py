"""The comparison points, in forward order, and the parameters that each one's value rests on."""

from __future__ import annotations

from dataclasses import dataclass

from convert.arrays import Shape
from convert.shapes import timm_shapes
from convert.variants import MixerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One comparison point: its name and the shape of its output for a batch."""

    name: str
    shape: Shape


def layers_of(config: MixerConfig, batch: int) -> tuple[Layer, ...]:
    """Return the comparison points of a Mixer: stem, ten points a block, final norm, pooled features, logits."""
    mixed = (batch, config.tokens, config.hidden_dim)
    tokens_hidden = (batch, config.hidden_dim, config.tokens_mlp_dim)
    channels_hidden = (batch, config.tokens, config.channels_mlp_dim)
    in_block = {
        ".norm1": mixed,
        ".mlp_tokens.fc1": tokens_hidden,
        ".mlp_tokens.act": tokens_hidden,
        ".mlp_tokens.fc2": (batch, config.hidden_dim, config.tokens),
        ".token_mixing": mixed,
        ".norm2": mixed,
        ".mlp_channels.fc1": channels_hidden,
        ".mlp_channels.act": channels_hidden,
        ".mlp_channels.fc2": mixed,
        "": mixed,
    }
    shapes = {"stem": mixed}
    shapes |= {f"blocks.{i}{name}": shape for i in range(config.num_blocks) for name, shape in in_block.items()}
    shapes |= {"norm": mixed, "pooled": (batch, config.hidden_dim), "logits": (batch, config.num_classes)}
    return tuple(Layer(name=name, shape=shape) for name, shape in shapes.items())


def layer_of_parameter(name: str) -> str:
    """Return the comparison point that a parameter acts in: `stem.proj.bias` → `stem`, `head.bias` → `logits`."""
    module = name.rpartition(".")[0]
    return {"stem.proj": "stem", "head": "logits"}.get(module, module)


def parameters_by_layer(config: MixerConfig) -> dict[str, list[str]]:
    """Return the parameters of each comparison point that has any, in forward order."""
    grouped: dict[str, list[str]] = {}
    for name in timm_shapes(config):
        grouped.setdefault(layer_of_parameter(name), []).append(name)
    return grouped
