"""Which layout a checkpoint has, told from its names and shapes as a whole, never tensor by tensor."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping

from convert.arrays import Shape, StateDict
from convert.errors import BadInput
from convert.rules import FROM_TIMM, Layout, covers, layout_shapes
from convert.shapes import TIMM_SHAPES, infer_config
from convert.variants import Family, MixerConfig

SOURCES: dict[str, tuple[Layout, ...]] = {
    "timm": ("timm", "facebook"),
    "google": ("google",),
    "paddle": ("paddle", "paddlevit"),
}
"""The layouts that each choice of --src stands for. timm reads Facebook's ResMLP files too."""


def nearest_layout(keys: Collection[str], layouts: Collection[Layout]) -> Layout:
    """Return the layout whose names take the most of the keys; the first of them in a tie."""
    return max(
        layouts, key=lambda layout: sum(any(pattern.fullmatch(key) for pattern in _names(layout)) for key in keys)
    )


def account(keys: Collection[str], layout: Layout) -> tuple[Family, list[str], list[str]]:
    """Return the layout's family that the keys come nearest to, its names that no key takes, and keys beyond its names.

    The names are those of the tables, {i} standing for any block.
    """

    def missing(family: Family) -> list[str]:
        names = [rule.target for rule in FROM_TIMM[layout] if rule.source in TIMM_SHAPES[family]]
        return [name for name in names if not any(_pattern(name).fullmatch(key) for key in keys)]

    families = [family for family in TIMM_SHAPES if covers(layout, family)]
    family = max(families, key=lambda family: len(TIMM_SHAPES[family]) - 2 * len(missing(family)))
    known = [_pattern(rule.target) for rule in FROM_TIMM[layout] if rule.source in TIMM_SHAPES[family]]
    return family, missing(family), [key for key in keys if not any(name.fullmatch(key) for name in known)]


def config_of(shapes: Mapping[str, Shape], layout: Layout, source: str) -> MixerConfig:
    """Return the config that a checkpoint in a layout implies; Google's weights are for the tanh GELU.

    Raises:
        BadInput: A name that every vision MLP has is absent.
    """
    renamed: dict[str, Shape] = {}
    for rule in FROM_TIMM[layout]:
        for key, match in ((key, _pattern(rule.target).fullmatch(key)) for key in shapes):
            if match:
                timm_name = rule.source.format(i=match["i"] if "i" in match.groupdict() else "")
                renamed[timm_name] = rule.transform.inverse.shape(shapes[key])
    return infer_config(renamed or shapes, source, gelu="tanh" if layout == "google" else "erf")


def hint_at(shapes: Mapping[str, Shape], source: str, src: str, tried: tuple[Layout, Family]) -> str:
    """Return in a sentence which known layout a checkpoint's names are nearest to; nothing if that was tried."""
    layout = nearest_layout(shapes, [*SOURCES[src], *FROM_TIMM])
    src = next(src for src, layouts in SOURCES.items() if layout in layouts)
    try:
        family = config_of(shapes, layout, source).family
    except BadInput:
        return ""
    if (layout, family) == tried:
        return ""
    return f"They are nearest to {family} in {layout} layout (--src {src})."


def recognise(state_dict: StateDict, source: str) -> tuple[MixerConfig, frozenset[Layout]] | None:
    """Return the config and every layout that the checkpoint fits exactly, or None when it is no vision MLP we know.

    A checkpoint fits both timm's and Paddle's layout only when every Linear weight is square.
    """
    found = {key: array.shape for key, array in state_dict.items()}
    try:
        config = config_of(found, nearest_layout(found, FROM_TIMM), source)
    except BadInput:
        return None
    fits = (layout for layout in FROM_TIMM if covers(layout, config.family) and layout_shapes(config, layout) == found)
    return config, frozenset(fits)


def _names(layout: Layout) -> list[re.Pattern[str]]:
    return [_pattern(rule.target) for rule in FROM_TIMM[layout]]


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return what matches the name for any block."""
    return re.compile(re.escape(name).replace(re.escape("{i}"), r"(?P<i>[0-9]+)"))
