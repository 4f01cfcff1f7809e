"""The layout of a checkpoint, recognised by its names and shapes as a whole, never tensor by tensor."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from convert.arrays import Shape, StateDict
from convert.errors import BadInput
from convert.mixer.rule_tables import FROM_TIMM, Layout, covers, layout_shapes
from convert.mixer.shapes import HEAD, TIMM_SHAPES, infer_config
from convert.mixer.variants import MixerConfig, MixerKind
from convert.naming import Naming

SOURCES: dict[str, tuple[Layout, ...]] = {
    "timm": ("timm", "facebook", "mmpretrain", "mmpretrain-norm"),
    "google": ("google",),
    "paddle": ("paddle", "paddlevit"),
}
"""The layouts that each choice of --src stands for. timm reads Facebook's ResMLP and MMPretrain's Mixer files too."""

ORIGIN: dict[Layout, dict[str, Any]] = {
    "google": {"gelu": "tanh"},
    "mmpretrain": {"layer_norm_eps": 1e-5},
    "mmpretrain-norm": {"layer_norm_eps": 1e-5},
}
"""The config fields in which the code that a layout comes from differs from timm.

Source: vit_jax/models_mixer.py at 2ecbc73 (flax.linen.gelu's default); mmcv, mmcv/cnn/bricks/norm.py,
build_norm_layer (`cfg_.setdefault('eps', 1e-5)`), which MMPretrain's Mixer does not override.
"""

MARKS = tuple(
    rule.target
    for table in FROM_TIMM.values()
    for rule in table
    if rule.source in ("stem.proj.weight", "stem.proj.bias", "norm.weight", "norm.alpha")
)
"""Names outside the blocks, by which the prefix before all names is found."""
NAMING = Naming(FROM_TIMM, MARKS)


def nearest_layout(keys: Collection[str], layouts: Iterable[Layout]) -> Layout:
    """Return the layout whose names match the most keys; the first of them in a tie."""
    return cast("Layout", NAMING.nearest(keys, layouts))


def account(keys: Collection[str], layout: Layout) -> tuple[MixerKind, list[str], list[str]]:
    """Return the family of a layout that keys come nearest to, the names missing from them, and the unexpected keys.

    The missing names are those of the tables, {i} standing for any block.
    """

    def missing(family: MixerKind) -> list[str]:
        names = [rule.target for rule in FROM_TIMM[layout] if rule.source in TIMM_SHAPES[family]]
        return [name for name in names if not any(_pattern(name).fullmatch(key) for key in keys)]

    families = [family for family in TIMM_SHAPES if covers(layout, family)]
    family = max(families, key=lambda family: len(TIMM_SHAPES[family]) - 2 * len(missing(family)))
    known = [_pattern(rule.target) for rule in FROM_TIMM[layout] if rule.source in TIMM_SHAPES[family]]
    unexpected = [key for key in keys if not any(name.fullmatch(key) for name in known)]
    return family, missing(family), unexpected


def config_of(shapes: Mapping[str, Shape], layout: Layout, source: str) -> MixerConfig:
    """Return the config that a checkpoint in a layout implies, with the GELU and epsilon of the layout's origin.

    Raises:
        BadInput: A name that every vision MLP has is absent.
    """
    renamed: dict[str, Shape] = {}
    for rule in FROM_TIMM[layout]:
        for key, match in ((key, _pattern(rule.target).fullmatch(key)) for key in shapes):
            if match:
                timm_name = rule.source.format(i=match["i"] if "i" in match.groupdict() else "")
                renamed[timm_name] = rule.transform.inverse.shape(shapes[key])
    return replace(infer_config(renamed or shapes, source), **ORIGIN.get(layout, {}))


def hint_at(shapes: Mapping[str, Shape], source: str, tried: tuple[Layout, MixerKind]) -> str:
    """Return a sentence on which known layout a checkpoint's names are nearest to; empty if that was tried."""
    layout = nearest_layout(shapes, [tried[0], *FROM_TIMM])
    src = next(src for src, layouts in SOURCES.items() if layout in layouts)
    config = _implied(shapes, layout, source)
    if config is None or (layout, config.family) == tried:
        return ""
    return f"They are nearest to {config.family} in {layout} layout (--src {src})."


def recognise(state_dict: StateDict, source: str) -> tuple[MixerConfig, tuple[Layout, ...]] | None:
    """Return the config and every layout that the checkpoint fits exactly, or None when it is no vision MLP we know.

    A checkpoint fits both timm's and Paddle's layout only when every Linear weight is square.
    """
    found = {key: array.shape for key, array in state_dict.items()}
    config = _implied(found, nearest_layout(found, FROM_TIMM), source)
    return (config, tuple(layout for layout in FROM_TIMM if fits(layout, found, source))) if config else None


def fits(layout: Layout, shapes: Mapping[str, Shape], source: str) -> bool:
    """Return whether names and shapes are exactly those of a layout; the head may be missing or incomplete."""
    config = _implied(shapes, layout, source)
    if config is None or not covers(layout, config.family):
        return False
    head = head_of(layout, config)
    return layout_shapes(config, layout) == {key: shape for key, shape in shapes.items() if key not in head}


def matching(layout: Layout, shapes: Mapping[str, Shape], source: str) -> int:
    """Return how many tensors have the shape that belongs to their name in the layout."""
    config = _implied(shapes, layout, source)
    expected = layout_shapes(config, layout) if config else {}
    return sum(expected.get(key) == shape for key, shape in shapes.items())


def head_of(layout: Layout, config: MixerConfig) -> set[str]:
    """Return a layout's names for the head if the config has no head, otherwise none."""
    return {rule.target for rule in FROM_TIMM[layout] if rule.source in HEAD} if not config.num_classes else set()


def _implied(shapes: Mapping[str, Shape], layout: Layout, source: str) -> MixerConfig | None:
    try:
        return config_of(shapes, layout, source)
    except BadInput:
        return None


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return a regular expression that matches the name for any block."""
    return re.compile(re.escape(name).replace(re.escape("{i}"), r"(?P<i>[0-9]+)"))
