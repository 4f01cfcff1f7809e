"""The comparison points, in forward order, and the one that each parameter acts in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from align.core.point import Point, Tapped
from convert.arrays import Shape
from convert.mixer.variants import MixerConfig, MixerKind

LOGITS = "logits"
BETWEEN = ("token_mixing", "gated", "pooled")
"""Points that no module outputs: residual sums, gated products, the mean over the tokens."""

BEHIND = {"token_mixing": "norm2", "gated": "fc2", "pooled": "head", "act": "fc2", "gate": "fc2"}
"""The sibling module that takes such a point's value as input; gMixer's fc2 takes the gated value, not act's."""


def points_of(config: MixerConfig, batch: int) -> tuple[Point, ...]:
    """Return the comparison points: stem, those of each block, final norm, pooled features, logits."""
    mixed = (batch, config.tokens, config.hidden_dim)
    block = BLOCKS[config.family]
    return (
        _point(name="stem", shape=mixed),
        *(layer for i in range(config.num_blocks) for layer in block(config, mixed, f"blocks.{i}")),
        _point(name="norm", shape=mixed),
        _point(name="pooled", shape=(batch, config.hidden_dim)),
        _point(name=LOGITS, shape=(batch, config.num_classes)),
    )


def taps_of(config: MixerConfig, name: str) -> Iterator[Tapped]:
    """Yield where a model with timm's names may show a point: its own module's output, or the next one's input."""
    parent, _, last = name.rpartition(".")
    if name == LOGITS:
        yield Tapped(module="")
        return
    if last not in BETWEEN:
        yield Tapped(module=name)
    if name == "stem" or parent == "blocks":
        number = 0 if name == "stem" else int(last) + 1
        onward = f"blocks.{number}" if number < config.num_blocks else "norm"
        yield Tapped(module=onward, where="input")
        yield Tapped(module=f"{onward}.{'norm' if config.family == 'gmlp' else 'norm1'}", where="input")
    elif (behind := BEHIND.get(last)) and not (config.family == "gmixer" and last == "act"):
        yield Tapped(module=f"{parent}.{behind}" if parent else behind, where="input")


def layer_of_parameter(name: str) -> str:
    """Return the comparison point that a parameter acts in: `stem.proj.bias` → `stem`, `head.bias` → `logits`."""
    module, _, kind = name.rpartition(".")
    if kind in ("ls1", "ls2"):
        return f"{module}.token_mixing" if kind == "ls1" else module
    return {"stem.proj": "stem", "head": "logits"}.get(module, module)


def _point(name: str, shape: Shape) -> Point:
    """Return a point, tapped in the same place in timm's own model and in ours."""
    parent, _, last = name.rpartition(".")
    tapped = Tapped(module="" if name == LOGITS else name)
    if last in BETWEEN:
        tapped = Tapped(module=f"{parent}.{BEHIND[last]}" if parent else BEHIND[last], where="input")
    return Point(name=name, reference=tapped, candidate=tapped, shape=shape)


def _mixer(config: MixerConfig, mixed: Shape, at: str) -> tuple[Point, ...]:
    mlp = _glu_mlp if config.family == "gmixer" else _mlp
    return (
        _point(name=f"{at}.norm1", shape=mixed),
        *mlp(f"{at}.mlp_tokens", _across(config, mixed), config.tokens_mlp_dim),
        _point(name=f"{at}.token_mixing", shape=mixed),
        _point(name=f"{at}.norm2", shape=mixed),
        *mlp(f"{at}.mlp_channels", mixed, config.channels_mlp_dim),
        _point(name=at, shape=mixed),
    )


def _resmlp(config: MixerConfig, mixed: Shape, at: str) -> tuple[Point, ...]:
    return (
        _point(name=f"{at}.norm1", shape=mixed),
        _point(name=f"{at}.linear_tokens", shape=_across(config, mixed)),
        _point(name=f"{at}.token_mixing", shape=mixed),
        _point(name=f"{at}.norm2", shape=mixed),
        *_mlp(f"{at}.mlp_channels", mixed, config.channels_mlp_dim),
        _point(name=at, shape=mixed),
    )


def _gmlp(config: MixerConfig, mixed: Shape, at: str) -> tuple[Point, ...]:
    fc1, act, fc2 = _mlp(f"{at}.mlp_channels", mixed, config.channels_mlp_dim)
    gated = (*mixed[:-1], config.channels_gated_dim)
    gate = f"{at}.mlp_channels.gate"
    return (
        _point(name=f"{at}.norm", shape=mixed),
        fc1,
        act,
        _point(name=f"{gate}.norm", shape=gated),
        _point(name=f"{gate}.proj", shape=(mixed[0], config.channels_gated_dim, config.tokens)),
        _point(name=gate, shape=gated),
        fc2,
        _point(name=at, shape=mixed),
    )


BLOCKS: dict[MixerKind, Callable[[MixerConfig, Shape, str], tuple[Point, ...]]] = {
    "mixer": _mixer,
    "gmixer": _mixer,
    "resmlp": _resmlp,
    "gmlp": _gmlp,
}


def _across(config: MixerConfig, mixed: Shape) -> Shape:
    """Return the shape that token mixing works on: tokens last."""
    return (mixed[0], config.hidden_dim, config.tokens)


def _mlp(at: str, outer: Shape, hidden: int) -> tuple[Point, Point, Point]:
    inner = (*outer[:-1], hidden)
    return (
        _point(name=f"{at}.fc1", shape=inner),
        _point(name=f"{at}.act", shape=inner),
        _point(name=f"{at}.fc2", shape=outer),
    )


def _glu_mlp(at: str, outer: Shape, hidden: int) -> tuple[Point, ...]:
    fc1, act, fc2 = _mlp(at, outer, hidden)
    half = (*outer[:-1], hidden // 2)
    return fc1, replace(act, shape=half), _point(name=f"{at}.gated", shape=half), fc2
