"""The comparison points, in forward order, and the one that each parameter acts in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from convert.arrays import Shape
from convert.mixer.variants import MixerConfig, MixerKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One comparison point.

    name and shape are those of its output for a batch; terms is how many terms each element sums up; normalises names
    the point whose last channels it centres, for a LayerNorm.
    """

    name: str
    shape: Shape
    terms: int = 1
    normalises: str = ""


def layers_of(config: MixerConfig, batch: int) -> tuple[Layer, ...]:
    """Return the comparison points: stem, those of each block, final norm, pooled features, logits."""
    mixed = (batch, config.tokens, config.hidden_dim)
    block = BLOCKS[config.family]
    return (
        Layer(name="stem", shape=mixed, terms=config.in_chans * config.patch_size**2),
        *(layer for i in range(config.num_blocks) for layer in block(config, mixed, f"blocks.{i}", _before(i))),
        Layer(name="norm", shape=mixed, normalises=_centred(config, _before(config.num_blocks))),
        Layer(name="pooled", shape=(batch, config.hidden_dim), terms=config.tokens),
        Layer(name="logits", shape=(batch, config.num_classes), terms=config.hidden_dim),
    )


def layer_of_parameter(name: str) -> str:
    """Return the comparison point that a parameter acts in: `stem.proj.bias` → `stem`, `head.bias` → `logits`."""
    module, _, kind = name.rpartition(".")
    if kind in ("ls1", "ls2"):
        return f"{module}.token_mixing" if kind == "ls1" else module
    return {"stem.proj": "stem", "head": "logits"}.get(module, module)


def _before(i: int) -> str:
    """Return the point that block i takes its input from."""
    return f"blocks.{i - 1}" if i else "stem"


def _centred(config: MixerConfig, point: str) -> str:
    """Return the point, where the family's norm centres its input; ResMLP's does not."""
    return "" if config.family == "resmlp" else point


def _mixer(config: MixerConfig, mixed: Shape, at: str, before: str) -> tuple[Layer, ...]:
    mlp = _glu_mlp if config.family == "gmixer" else _mlp
    return (
        Layer(name=f"{at}.norm1", shape=mixed, normalises=before),
        *mlp(f"{at}.mlp_tokens", _across(config, mixed), config.tokens_mlp_dim),
        Layer(name=f"{at}.token_mixing", shape=mixed),
        Layer(name=f"{at}.norm2", shape=mixed, normalises=f"{at}.token_mixing"),
        *mlp(f"{at}.mlp_channels", mixed, config.channels_mlp_dim),
        Layer(name=at, shape=mixed),
    )


def _resmlp(config: MixerConfig, mixed: Shape, at: str, _before: str) -> tuple[Layer, ...]:
    return (
        Layer(name=f"{at}.norm1", shape=mixed),
        Layer(name=f"{at}.linear_tokens", shape=_across(config, mixed), terms=config.tokens),
        Layer(name=f"{at}.token_mixing", shape=mixed),
        Layer(name=f"{at}.norm2", shape=mixed),
        *_mlp(f"{at}.mlp_channels", mixed, config.channels_mlp_dim),
        Layer(name=at, shape=mixed),
    )


def _gmlp(config: MixerConfig, mixed: Shape, at: str, before: str) -> tuple[Layer, ...]:
    fc1, act, fc2 = _mlp(f"{at}.mlp_channels", mixed, config.channels_mlp_dim)
    gated = (*mixed[:-1], config.channels_gated_dim)
    gate = f"{at}.mlp_channels.gate"
    return (
        Layer(name=f"{at}.norm", shape=mixed, normalises=before),
        fc1,
        act,
        Layer(name=f"{gate}.norm", shape=gated, normalises=act.name),
        Layer(name=f"{gate}.proj", shape=(mixed[0], config.channels_gated_dim, config.tokens), terms=config.tokens),
        Layer(name=gate, shape=gated),
        replace(fc2, terms=config.channels_gated_dim),
        Layer(name=at, shape=mixed),
    )


BLOCKS: dict[MixerKind, Callable[[MixerConfig, Shape, str, str], tuple[Layer, ...]]] = {
    "mixer": _mixer,
    "gmixer": _mixer,
    "resmlp": _resmlp,
    "gmlp": _gmlp,
}


def _across(config: MixerConfig, mixed: Shape) -> Shape:
    """Return the shape that token mixing works on: tokens last."""
    return (mixed[0], config.hidden_dim, config.tokens)


def _mlp(at: str, outer: Shape, hidden: int) -> tuple[Layer, Layer, Layer]:
    inner = (*outer[:-1], hidden)
    return (
        Layer(name=f"{at}.fc1", shape=inner, terms=outer[-1]),
        Layer(name=f"{at}.act", shape=inner),
        Layer(name=f"{at}.fc2", shape=outer, terms=hidden),
    )


def _glu_mlp(at: str, outer: Shape, hidden: int) -> tuple[Layer, ...]:
    fc1, act, fc2 = _mlp(at, outer, hidden)
    half = (*outer[:-1], hidden // 2)
    return fc1, replace(act, shape=half), Layer(name=f"{at}.gated", shape=half), replace(fc2, terms=hidden // 2)
