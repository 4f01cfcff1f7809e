"""The engine: a state dict in, a state dict out. Every source key is taken once, every target key filled once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from convert.arrays import Shape, StateDict, first_index
from convert.errors import KeyMismatch, MixedDtypes, NonFinite, ShapeMismatch, WrongDtype
from convert.mixer.rules import KeyRule, Layout, layout_shapes, route
from convert.mixer.variants import MixerConfig

WEIGHT_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conversion:
    """A converted state dict with its account.

    renames: the rule that filled each target key from the source. adapted: in words, what else was done to a target.
    added: target keys that no source key fills. dropped: source keys left out.
    """

    state_dict: StateDict
    renames: tuple[KeyRule, ...]
    adapted: Mapping[str, str] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def convert_state_dict(
    source: StateDict,
    config: MixerConfig,
    *,
    src: Layout = "timm",
    dst: Layout = "paddle",
    name: str = "the checkpoint",
    expected: str = "the config",
) -> Conversion:
    """Return the source renamed and transformed from one layout to another, as views of the source's data.

    Args:
        source: A state dict in the layout `src`.
        config: The sizes that the source has to have.
        src: The source's layout.
        dst: The layout wanted.
        name: What to call the source in an error.
        expected: What to call the config in an error.

    Raises:
        KeyMismatch: Keys missing or left over.
        ShapeMismatch: A tensor of another shape than the config implies.
        WrongDtype: A tensor that is not float32, float16 or bfloat16.
    """
    shapes, renames = layout_shapes(config, src), route(src, dst, config)
    _check_table(renames, shapes)
    _check_keys(source, shapes, name, expected)
    _check_shapes(source, shapes, name, expected)
    _check_dtypes(source, name)
    converted = {rule.target: rule.transform.apply(source[rule.source]) for rule in renames}
    return Conversion(state_dict=converted, renames=renames)


def check_one_dtype(state_dict: StateDict, name: str) -> None:
    """Check that all weights have the same dtype: Paddle loads no model whose parameters have several.

    Raises:
        MixedDtypes: They have several.
    """
    counts = Counter(array.dtype.name for array in state_dict.values())
    if len(counts) > 1:
        raise MixedDtypes(name, counts)


def check_finite(state_dict: StateDict, name: str) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        NonFinite: Naming the first such tensor, in the state dict's order, and its first such element.
    """
    for key, array in state_dict.items():
        finite = np.isfinite(array)
        if not finite.all():
            index = first_index(~finite)
            raise NonFinite(name, key, index, float(array[index]), int(finite.size - np.count_nonzero(finite)))


def _check_table(renames: Sequence[KeyRule], shapes: dict[str, Shape]) -> None:
    """Check the rows themselves: one for every parameter, no target twice."""
    targets = Counter(rename.target for rename in renames)
    if {rename.source for rename in renames} != set(shapes) or max(targets.values()) > 1:
        raise ValueError("the rule table does not map every parameter exactly once")


def _check_keys(source: StateDict, shapes: dict[str, Shape], name: str, expected: str) -> None:
    missing, unexpected = shapes.keys() - source.keys(), source.keys() - shapes.keys()
    if missing or unexpected:
        raise KeyMismatch(name, missing, unexpected, expected)


def _check_shapes(source: StateDict, shapes: dict[str, Shape], name: str, expected: str) -> None:
    wrong = [(key, source[key].shape, shape) for key, shape in shapes.items() if source[key].shape != shape]
    if wrong:
        raise ShapeMismatch(
            name,
            wrong,
            expected,
            "Are --src and --variant right? Without --variant the config is read from the shapes.",
        )


def _check_dtypes(source: StateDict, name: str) -> None:
    for key, array in source.items():
        if array.dtype.name not in WEIGHT_DTYPES:
            raise WrongDtype(name, key, array.dtype.name, WEIGHT_DTYPES)
