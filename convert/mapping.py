"""The engine: a state dict in, a state dict out. Every source key is taken once, every target key filled once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convert.arrays import Shape, StateDict, first_index
from convert.errors import KeyMismatch, NonFinite, ShapeMismatch, WrongDtype
from convert.rules import KeyRule, expand
from convert.shapes import timm_shapes
from convert.variants import MixerConfig

WEIGHT_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conversion:
    """A converted state dict with its account: the rule that filled each target key, and source keys left out."""

    state_dict: StateDict
    renames: tuple[KeyRule, ...]
    dropped: tuple[str, ...] = ()


def convert_state_dict(
    source: StateDict,
    rules: Sequence[KeyRule],
    config: MixerConfig,
    *,
    name: str = "the checkpoint",
    expected: str = "the config",
) -> Conversion:
    """Return the source renamed and transformed by the rules, as views of the source's data.

    Args:
        source: A timm state dict.
        rules: One layout's table, with {i} for the block index.
        config: The sizes that the source has to have.
        name: What to call the source in an error.
        expected: What to call the config in an error.

    Raises:
        KeyMismatch: Keys missing or left over.
        ShapeMismatch: A tensor of another shape than the config implies.
        WrongDtype: A tensor that is not float32, float16 or bfloat16.
    """
    shapes = timm_shapes(config)
    renames = expand(rules, config)
    _check_table(rules, renames, shapes)
    _check_keys(source, shapes, name, expected)
    _check_shapes(source, shapes, name, expected)
    _check_dtypes(source, name)
    converted = {rule.target: rule.transform.apply(source[rule.source]) for rule in renames}
    return Conversion(state_dict=converted, renames=renames)


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


def _check_table(rules: Sequence[KeyRule], renames: Sequence[KeyRule], shapes: dict[str, Shape]) -> None:
    """Check the table itself: a row for every parameter, no parameter twice, no target twice."""
    sources, targets = Counter(rule.source for rule in rules), Counter(rule.target for rule in renames)
    if {rename.source for rename in renames} != set(shapes) or max([*sources.values(), *targets.values()]) > 1:
        raise ValueError("the rule table does not map every parameter exactly once")


def _check_keys(source: StateDict, shapes: dict[str, Shape], name: str, expected: str) -> None:
    missing, unexpected = shapes.keys() - source.keys(), source.keys() - shapes.keys()
    if missing or unexpected:
        raise KeyMismatch(name, missing, unexpected, expected)


def _check_shapes(source: StateDict, shapes: dict[str, Shape], name: str, expected: str) -> None:
    wrong = [(key, source[key].shape, shape) for key, shape in shapes.items() if source[key].shape != shape]
    if wrong:
        raise ShapeMismatch(name, wrong, expected, "Is --variant right? Without it the config is read from the shapes.")


def _check_dtypes(source: StateDict, name: str) -> None:
    for key, array in source.items():
        if array.dtype.name not in WEIGHT_DTYPES:
            raise WrongDtype(name, key, array.dtype.name, WEIGHT_DTYPES)
