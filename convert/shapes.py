"""The parameters of a timm MLP-Mixer: one literal table of names and symbolic shapes, read in both directions."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from convert.arrays import Shape
from convert.errors import BadInput
from convert.variants import MixerConfig

TIMM_SHAPES: dict[str, tuple[str, ...]] = {
    "stem.proj.weight": ("hidden_dim", "in_chans", "patch_size", "patch_size"),
    "stem.proj.bias": ("hidden_dim",),
    "blocks.{i}.norm1.weight": ("hidden_dim",),
    "blocks.{i}.norm1.bias": ("hidden_dim",),
    "blocks.{i}.mlp_tokens.fc1.weight": ("tokens_mlp_dim", "tokens"),
    "blocks.{i}.mlp_tokens.fc1.bias": ("tokens_mlp_dim",),
    "blocks.{i}.mlp_tokens.fc2.weight": ("tokens", "tokens_mlp_dim"),
    "blocks.{i}.mlp_tokens.fc2.bias": ("tokens",),
    "blocks.{i}.norm2.weight": ("hidden_dim",),
    "blocks.{i}.norm2.bias": ("hidden_dim",),
    "blocks.{i}.mlp_channels.fc1.weight": ("channels_mlp_dim", "hidden_dim"),
    "blocks.{i}.mlp_channels.fc1.bias": ("channels_mlp_dim",),
    "blocks.{i}.mlp_channels.fc2.weight": ("hidden_dim", "channels_mlp_dim"),
    "blocks.{i}.mlp_channels.fc2.bias": ("hidden_dim",),
    "norm.weight": ("hidden_dim",),
    "norm.bias": ("hidden_dim",),
    "head.weight": ("num_classes", "hidden_dim"),
    "head.bias": ("num_classes",),
}
"""Parameter names with {i} for the block index, in forward order, and their shapes in MixerConfig's terms.

Source: timm 1.0.31, timm/models/mlp_mixer.py, MlpMixer and MixerBlock; Linear weights are [out, in].
"""


def in_forward_order(patterns: Iterable[str], num_blocks: int) -> Iterator[tuple[str, int]]:
    """Yield (pattern, block index) in forward order: runs of patterns with {i} repeat block by block."""
    for in_block, run in itertools.groupby(patterns, key=lambda pattern: "{i}" in pattern):
        group = list(run)
        yield from ((pattern, i) for i in range(num_blocks if in_block else 1) for pattern in group)


def timm_shapes(config: MixerConfig) -> dict[str, Shape]:
    """Return every timm parameter name of the config with its shape, in forward order."""
    return {
        pattern.format(i=i): tuple(getattr(config, dim) for dim in TIMM_SHAPES[pattern])
        for pattern, i in in_forward_order(TIMM_SHAPES, config.num_blocks)
    }


def parameter_count(config: MixerConfig) -> int:
    """Return the number of trainable scalars."""
    return sum(math.prod(shape) for shape in timm_shapes(config).values())


def infer_config(shapes: Mapping[str, Shape], source: str) -> MixerConfig:
    """Return the config that a checkpoint's shapes imply, with timm's epsilon and its erf GELU.

    Only sizes that read the same in timm's and Paddle's layout are used (biases and the stem), so that no Linear
    weight is ever judged by its shape.

    Args:
        shapes: Parameter names and shapes of a timm-named checkpoint.
        source: What to call the checkpoint in an error.

    Raises:
        BadInput: A name that every Mixer has is absent, or the tokens do not form a square image.
    """

    def size(name: str, axis: int = 0) -> int:
        if name not in shapes or axis >= len(shapes[name]):
            some = ", ".join(sorted(shapes)[:3])
            raise BadInput(
                f"{source}: no {name} of the shape a timm MLP-Mixer has, so it is not one ({len(shapes)} keys, such as "
                f"{some}). Is it the right file?"
            )
        return shapes[name][axis]

    tokens, patch_size = size("blocks.0.mlp_tokens.fc2.bias"), size("stem.proj.weight", 3)
    grid = math.isqrt(tokens)
    if grid * grid != tokens:
        raise BadInput(
            f"{source}: blocks.0.mlp_tokens.fc2.bias has {tokens} tokens, which is no square image. "
            "Only square images are supported."
        )
    return MixerConfig(
        image_size=grid * patch_size,
        patch_size=patch_size,
        in_chans=size("stem.proj.weight", 1),
        num_blocks=len({m[1] for m in map(re.compile(r"blocks\.(\d+)\.").match, shapes) if m}),
        hidden_dim=size("norm.bias"),
        tokens_mlp_dim=size("blocks.0.mlp_tokens.fc1.bias"),
        channels_mlp_dim=size("blocks.0.mlp_channels.fc1.bias"),
        num_classes=size("head.bias"),
    )
