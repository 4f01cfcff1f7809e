"""The parameters of timm's vision MLPs: literal tables of names and symbolic shapes, read in both directions."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from convert.arrays import Shape
from convert.errors import BadInput
from convert.mixer.variants import MixerConfig, MixerKind

Dims = tuple[str | int, ...]

_STEM: dict[str, Dims] = {
    "stem.proj.weight": ("hidden_dim", "in_chans", "patch_size", "patch_size"),
    "stem.proj.bias": ("hidden_dim",),
}
_HEAD: dict[str, Dims] = {"head.weight": ("num_classes", "hidden_dim"), "head.bias": ("num_classes",)}
HEAD = tuple(_HEAD)
_CHANNELS_MLP: dict[str, Dims] = {
    "blocks.{i}.mlp_channels.fc1.weight": ("channels_mlp_dim", "hidden_dim"),
    "blocks.{i}.mlp_channels.fc1.bias": ("channels_mlp_dim",),
    "blocks.{i}.mlp_channels.fc2.weight": ("hidden_dim", "channels_mlp_dim"),
    "blocks.{i}.mlp_channels.fc2.bias": ("hidden_dim",),
}


def _layer_norm(at: str, dim: str = "hidden_dim") -> dict[str, Dims]:
    return {f"{at}.weight": (dim,), f"{at}.bias": (dim,)}


def _affine(at: str) -> dict[str, Dims]:
    return {f"{at}.alpha": (1, 1, "hidden_dim"), f"{at}.beta": (1, 1, "hidden_dim")}


_MIXER: dict[str, Dims] = {
    **_STEM,
    **_layer_norm("blocks.{i}.norm1"),
    "blocks.{i}.mlp_tokens.fc1.weight": ("tokens_mlp_dim", "tokens"),
    "blocks.{i}.mlp_tokens.fc1.bias": ("tokens_mlp_dim",),
    "blocks.{i}.mlp_tokens.fc2.weight": ("tokens", "tokens_mlp_dim"),
    "blocks.{i}.mlp_tokens.fc2.bias": ("tokens",),
    **_layer_norm("blocks.{i}.norm2"),
    **_CHANNELS_MLP,
    **_layer_norm("norm"),
    **_HEAD,
}
TIMM_SHAPES: dict[MixerKind, dict[str, Dims]] = {
    "mixer": _MIXER,
    "gmixer": {
        **_MIXER,
        "blocks.{i}.mlp_tokens.fc2.weight": ("tokens", "tokens_gated_dim"),
        "blocks.{i}.mlp_channels.fc2.weight": ("hidden_dim", "channels_gated_dim"),
    },
    "resmlp": {
        **_STEM,
        "blocks.{i}.ls1": ("hidden_dim",),
        "blocks.{i}.ls2": ("hidden_dim",),
        **_affine("blocks.{i}.norm1"),
        "blocks.{i}.linear_tokens.weight": ("tokens", "tokens"),
        "blocks.{i}.linear_tokens.bias": ("tokens",),
        **_affine("blocks.{i}.norm2"),
        **_CHANNELS_MLP,
        **_affine("norm"),
        **_HEAD,
    },
    "gmlp": {
        **_STEM,
        **_layer_norm("blocks.{i}.norm"),
        "blocks.{i}.mlp_channels.fc1.weight": ("channels_mlp_dim", "hidden_dim"),
        "blocks.{i}.mlp_channels.fc1.bias": ("channels_mlp_dim",),
        **_layer_norm("blocks.{i}.mlp_channels.gate.norm", "channels_gated_dim"),
        "blocks.{i}.mlp_channels.gate.proj.weight": ("tokens", "tokens"),
        "blocks.{i}.mlp_channels.gate.proj.bias": ("tokens",),
        "blocks.{i}.mlp_channels.fc2.weight": ("hidden_dim", "channels_gated_dim"),
        "blocks.{i}.mlp_channels.fc2.bias": ("hidden_dim",),
        **_layer_norm("norm"),
        **_HEAD,
    },
}
"""Parameter names with {i} for the block index, in forward order, and their shapes in MixerConfig's terms.

Source: timm 1.0.31, timm/models/mlp_mixer.py and timm/layers/mlp.py; Linear weights are [out, in].
"""

MARKS: dict[MixerKind, str] = {
    "resmlp": "blocks.0.linear_tokens.bias",
    "gmlp": "blocks.0.mlp_channels.gate.proj.bias",
    "mixer": "blocks.0.mlp_tokens.fc2.bias",
}
"""The parameter that tells each family from the others, with one element per token. gmixer has mixer's names."""


def in_forward_order(patterns: Iterable[str], num_blocks: int) -> Iterator[tuple[str, int]]:
    """Yield (pattern, block index) in forward order: runs of patterns with {i} repeat block by block."""
    for in_block, run in itertools.groupby(patterns, key=lambda pattern: "{i}" in pattern):
        group = list(run)
        yield from ((pattern, i) for i in range(num_blocks if in_block else 1) for pattern in group)


def patterns_of(config: MixerConfig) -> dict[str, Dims]:
    """Return the table of the config's family, without the head if there are no classes."""
    table = TIMM_SHAPES[config.family]
    return table if config.num_classes else {name: dims for name, dims in table.items() if name not in HEAD}


def timm_shapes(config: MixerConfig) -> dict[str, Shape]:
    """Return every timm parameter name of the config with its shape, in forward order."""
    table = patterns_of(config)
    return {
        pattern.format(i=i): tuple(dim if isinstance(dim, int) else getattr(config, dim) for dim in table[pattern])
        for pattern, i in in_forward_order(table, config.num_blocks)
    }


def parameter_count(config: MixerConfig) -> int:
    """Return the number of trainable scalars."""
    return sum(math.prod(shape) for shape in timm_shapes(config).values())


def infer_config(shapes: Mapping[str, Shape], source: str) -> MixerConfig:
    """Return the config that a checkpoint's names and shapes imply, with timm's GELU and epsilon, which no shape shows.

    An incomplete head counts as none: num_classes is then 0.

    Only sizes that read the same in timm's and Paddle's layout are used (biases, the stem, numbers of elements), so
    that no Linear weight is ever judged by its shape.

    Args:
        shapes: Parameter names and shapes of a timm-named checkpoint.
        source: What to call the checkpoint in an error.

    Raises:
        BadInput: A name that the family always has is absent, or the tokens do not form a square image.
    """
    size = partial(_size, shapes, source)
    family: MixerKind = next((family for family, mark in MARKS.items() if mark in shapes), "mixer")
    tokens, grid = size(MARKS[family]), math.isqrt(size(MARKS[family]))
    if grid * grid != tokens:
        raise BadInput(
            f"{source}: {MARKS[family]} has {tokens} tokens, which is no square image. Only those are supported."
        )
    channels_mlp_dim, hidden_dim = size("blocks.0.mlp_channels.fc1.bias"), size("stem.proj.bias")
    tokens_mlp_dim = size("blocks.0.mlp_tokens.fc1.bias") if family == "mixer" else 0
    size("blocks.0.mlp_channels.fc2.weight", 1)
    if family == "mixer" and 2 * math.prod(shapes["blocks.0.mlp_channels.fc2.weight"]) == channels_mlp_dim * hidden_dim:
        family = "gmixer"
    if family in ("gmixer", "gmlp") and (channels_mlp_dim % 2 or tokens_mlp_dim % 2):
        raise BadInput(f"{source}: its gates would halve an odd number of channels. Is it the right file?")
    return MixerConfig(
        image_size=grid * size("stem.proj.weight", 3),
        patch_size=size("stem.proj.weight", 3),
        in_chans=size("stem.proj.weight", 1),
        num_blocks=len({m[1] for m in map(re.compile(r"blocks\.(\d+)\.").match, shapes) if m}),
        hidden_dim=hidden_dim,
        tokens_mlp_dim=tokens_mlp_dim,
        channels_mlp_dim=channels_mlp_dim,
        num_classes=size("head.bias") if shapes.keys() >= {*HEAD} else 0,
        family=family,
    )


def _size(shapes: Mapping[str, Shape], source: str, name: str, axis: int = 0) -> int:
    """Return one dimension of a parameter that has to be present."""
    if name not in shapes or axis >= len(shapes[name]):
        some = ", ".join(sorted(shapes)[:3])
        raise BadInput(
            f"{source}: no {name} of the shape that timm's vision MLPs have, so it is not one ({len(shapes)} keys, "
            f"such as {some}). Is it the right file?"
        )
    if shapes[name][axis] < 1:
        raise BadInput(f"{source}: {name} has the size 0. Is it the right file?")
    return shapes[name][axis]
