"""Which layout a checkpoint has, told from its names and shapes as a whole, never tensor by tensor."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from convert.arrays import Shape, StateDict
from convert.errors import BadInput
from convert.mixer.rules import FROM_TIMM, Layout, covers, layout_shapes
from convert.mixer.shapes import HEAD, TIMM_SHAPES, infer_config
from convert.mixer.variants import Family, MixerConfig

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
"""What the code that a layout comes from has otherwise than timm's.

Source: vit_jax/models_mixer.py at 2ecbc73 (flax.linen.gelu's default); mmcv, mmcv/cnn/bricks/norm.py,
build_norm_layer (`cfg_.setdefault('eps', 1e-5)`), which MMPretrain's Mixer does not set otherwise.
"""

MARKS = tuple(
    rule.target
    for table in FROM_TIMM.values()
    for rule in table
    if rule.source in ("stem.proj.weight", "stem.proj.bias", "norm.weight", "norm.alpha")
)
"""Names outside the blocks, by which what stands before all names is found."""
PREFIXES = 4
"""How many are tried, the most frequent first: a file may be made of nothing but such names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The layout's family that names come nearest to, its names that none of them takes, and those beyond its names.

    The names are those of the tables, {i} standing for any block.
    """

    family: Family
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def nearest_layout(keys: Collection[str], layouts: Collection[Layout]) -> Layout:
    """Return the layout whose names take the most of the keys; the first of them in a tie."""
    return max(layouts, key=lambda layout: sum(map(_names(layout), keys)))


def known_names(keys: Collection[str]) -> int:
    """Return how many of the keys are names of the layout that takes the most of them."""
    return max((sum(map(_names(layout), keys)) for layout in FROM_TIMM), default=0)


def common_prefix(keys: Collection[str]) -> str:
    """Return what stands before every name of a layout, `model.` or `params/`; nothing where it is not before all.

    It ends with a dot or a slash, and behind it no two keys may become one.
    """
    gained = {
        prefix: known_names([key.removeprefix(prefix) for key in keys]) for prefix in _prefixes(keys) if prefix != ""
    }
    best = max(sorted(gained, key=len), key=lambda prefix: gained[prefix], default="")
    stripped, bare = {key.removeprefix(best) for key in keys}, [key for key in keys if not key.startswith(best)]
    if not best or len(stripped) < len(keys) or known_names(bare) or 2 * gained[best] < len(keys):
        return ""
    return best


def prefixes_of_several(keys: Collection[str]) -> list[str]:
    """Return what stands before the names of each of several models in one mapping; nothing where there is one.

    Of a comparable size, that is: a layer within a model may be called as one outside the blocks is.
    """
    sizes = {
        prefix: known_names([key.removeprefix(prefix) for key in keys if key.startswith(prefix)])
        for prefix in _prefixes(keys)
    }
    found = [prefix for prefix, size in sizes.items() if 2 * size >= max(sizes.values())]
    return sorted(found) if len(found) > 1 else []


def _prefixes(keys: Collection[str]) -> list[str]:
    """Return what may stand before the names of a model, the most frequent first."""
    ends = Counter(key[: -len(mark)] for key in keys for mark in MARKS if key.endswith(mark))
    return [end for end, _ in ends.most_common(PREFIXES) if end == "" or end.endswith((".", "/"))]


def holds_weights(keys: Collection[str]) -> bool:
    """Return whether there are names of a layout among the keys, behind a prefix or not."""
    return known_names(keys) > 0 or bool(common_prefix(keys))


def account(keys: Collection[str], layout: Layout) -> Account:
    """Return how the keys differ from the names of the family of a layout that they come nearest to."""

    def missing(family: Family) -> list[str]:
        names = [rule.target for rule in FROM_TIMM[layout] if rule.source in TIMM_SHAPES[family]]
        return [name for name in names if not any(_pattern(name).fullmatch(key) for key in keys)]

    families = [family for family in TIMM_SHAPES if covers(layout, family)]
    family = max(families, key=lambda family: len(TIMM_SHAPES[family]) - 2 * len(missing(family)))
    known = [_pattern(rule.target) for rule in FROM_TIMM[layout] if rule.source in TIMM_SHAPES[family]]
    unexpected = [key for key in keys if not any(name.fullmatch(key) for name in known)]
    return Account(family=family, missing=tuple(missing(family)), unexpected=tuple(unexpected))


def config_of(shapes: Mapping[str, Shape], layout: Layout, source: str) -> MixerConfig:
    """Return the config that a checkpoint in a layout implies, with the GELU and epsilon of where the layout is from.

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


def hint_at(shapes: Mapping[str, Shape], source: str, tried: tuple[Layout, Family]) -> str:
    """Return in a sentence which known layout a checkpoint's names are nearest to; nothing if that was tried."""
    layout = nearest_layout(shapes, [tried[0], *FROM_TIMM])
    src = next(src for src, layouts in SOURCES.items() if layout in layouts)
    try:
        family = config_of(shapes, layout, source).family
    except BadInput:
        return ""
    if (layout, family) == tried:
        return ""
    return f"They are nearest to {family} in {layout} layout (--src {src})."


def recognise(state_dict: StateDict, source: str) -> tuple[MixerConfig, tuple[Layout, ...]] | None:
    """Return the config and every layout that the checkpoint fits exactly, or None when it is no vision MLP we know.

    A checkpoint fits both timm's and Paddle's layout only when every Linear weight is square.
    """
    found = {key: array.shape for key, array in state_dict.items()}
    try:
        config = config_of(found, nearest_layout(found, FROM_TIMM), source)
    except BadInput:
        return None
    return config, tuple(layout for layout in FROM_TIMM if fits(layout, found, source))


def fits(layout: Layout, shapes: Mapping[str, Shape], source: str) -> bool:
    """Return whether names and shapes are those of a layout, every one; a head may be missing or not be whole."""
    try:
        config = config_of(shapes, layout, source)
    except BadInput:
        return False
    head = {rule.target for rule in FROM_TIMM[layout] if rule.source in HEAD} if not config.num_classes else set()
    body = {key: shape for key, shape in shapes.items() if key not in head}
    return covers(layout, config.family) and layout_shapes(config, layout) == body


def matching(layout: Layout, shapes: Mapping[str, Shape], source: str) -> int:
    """Return how many tensors have the shape that the layout has for their name."""
    try:
        expected = layout_shapes(config_of(shapes, layout, source), layout)
    except BadInput:
        return 0
    return sum(expected.get(key) == shape for key, shape in shapes.items())


@functools.cache
def _names(layout: Layout) -> Callable[[str], bool]:
    """Return what says whether a key is a name of the layout."""
    names = "|".join(re.escape(rule.target).replace(re.escape("{i}"), "[0-9]+") for rule in FROM_TIMM[layout])
    matches = re.compile(names).fullmatch
    return lambda key: matches(key) is not None


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return what matches the name for any block."""
    return re.compile(re.escape(name).replace(re.escape("{i}"), r"(?P<i>[0-9]+)"))
