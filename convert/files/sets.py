"""Sets of weights: which mappings of names to tensors a checkpoint holds, and which of them is wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.arrays import Array, StateDict
from convert.errors import LISTED, Unreadable, UsageProblem, printable
from convert.files.pickles.pickle_values import Token, kind_of
from convert.naming import Naming

TOP = "."
"""The key of the set that lies in a file's outermost mapping."""
RESAVE = "Save the weights alone: torch.save(model.state_dict(), FILE), or paddle.save(layer.state_dict(), FILE)."
AVERAGED = re.compile(r"(.*_)?ema")
"""Names of averaged weights, such as timm's `state_dict_ema`; not mmengine's `ema_state_dict`, which holds raw ones.

Source: timm 1.0.31, timm/utils/checkpoint_saver.py; mmengine, mmengine/hooks/ema_hook.py.
"""
ACCUMULATORS = re.compile(
    r"step|exp_avg(_sq)?|max_exp_avg_sq|momentum_buffer|square_avg|acc_delta|grad_avg|sum"
    r"|.*_(moment[12]?|beta[12]_pow_acc|velocity|momentum|mean_square|mean_grad|inf_norm|_avg_squared_\w+)_\d+"
)
"""The names of optimizers' tensors. Source: torch 2.14.1, torch/optim; paddlepaddle 3.3.1, paddle/optimizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which set of weights is wanted: the one with a key, the averaged or raw one or, by default, the only one.

    option: the option that takes the key, for errors. by_name: whether there are --ema and --no-ema too.
    """

    key: str | None = None
    ema: bool | None = None
    option: str = "--weights-key"
    by_name: bool = True

    def __post_init__(self) -> None:
        """Check that not both are said."""
        if self.key is not None and self.ema is not None:
            raise UsageProblem("--weights-key and --ema or --no-ema exclude each other. Pass one of them.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightSet:
    """The tensors of one mapping by name.

    key: the names of the mappings around it and its own, from the outside in, joined by dots. others: what else it
    holds, by name, in words. nests: the same for mappings and lists.
    """

    key: str
    tensors: StateDict
    others: Mapping[str, str] = field(default_factory=dict)
    nests: Mapping[str, str] = field(default_factory=dict)

    @property
    def averaged(self) -> bool:
        """Whether a name in the key says that these are averaged weights."""
        return any(AVERAGED.fullmatch(part) for part in self.key.split("."))

    @property
    def loose(self) -> bool:
        """Whether these are an optimizer's tensors, or all of them single numbers."""
        named = all(map(ACCUMULATORS.fullmatch, self.tensors))
        return named or not any(array.ndim for array in self.tensors.values())

    def __str__(self) -> str:
        """Return the key and the number of tensors, for a sentence."""
        where = "beside them" if self.key == TOP else printable(self.key)
        return f"{where} ({len(self.tensors)} tensor{'s' if len(self.tensors) > 1 else ''})"


def choose(path: Path, tree: object, selection: Selection, names: Naming) -> WeightSet:
    """Return the set of weights that is wanted, or the only one if the user named none.

    Args:
        path: Where it was read from, for errors.
        tree: What was read: mappings and lists that hold arrays and other things.
        selection: What the user said.
        names: The known names of weights. A mapping without any of them counts only if no mapping has any.

    Raises:
        UsageProblem: There are several and none was named, or the one named is not among them.
        Unreadable: There are no weights.
    """
    found = [part for one in weight_sets(tree) for part in _parts(one, names.prefixes_of_several(one.tensors))]
    if not found:
        raise Unreadable(path, _without_tensors(tree), RESAVE)
    sets = [one for one in found if names.holds_weights(one.tensors)] or [one for one in found if not one.loose]
    if not sets and len(found) > 1:
        raise Unreadable(path, "it holds an optimizer's state or single numbers, and no weights", RESAVE)
    sets = sets or found
    if selection.key is not None:
        wanted = [one for one in found if one.key == selection.key]
        return _only(path, wanted, sets, selection, f"no set {selection.key}")
    if selection.ema is not None:
        wanted = [one for one in sets if one.averaged == selection.ema]
        told = any(one.averaged for one in sets)
        lacking = f"no {'averaged' if selection.ema else 'raw'} weights by name"
        return _only(path, wanted if told else [], sets, selection, lacking)
    return _only(path, sets, sets, selection, "no weights")


def _parts(one: WeightSet, prefixes: Sequence[str]) -> list[WeightSet]:
    """Return one set for each model in a mapping, with the prefix of the model's names added to its key."""
    parts = []
    for prefix in prefixes:
        longer = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        mine = [key for key in one.tensors if key.startswith(prefix) and not key.startswith(longer)]
        way = [*([] if one.key == TOP else [one.key]), *([prefix.rstrip("./")] if prefix else [])]
        parts.append(WeightSet(key=".".join(way) or TOP, tensors={key: one.tensors[key] for key in mine}))
    return parts or [one]


def refuse_others(path: Path, chosen: WeightSet, is_weight: Callable[[str], bool]) -> None:
    """Check that nothing but a tensor lies where a weight should.

    Raises:
        Unreadable: Something does, which the error names.
    """
    for name, what in {**chosen.others, **chosen.nests}.items():
        if is_weight(name):
            raise Unreadable(path, f"entry {name!r} is not a tensor but {what}", RESAVE)


def weight_sets(tree: object) -> list[WeightSet]:
    """Return every mapping that holds tensors, from the outside in."""
    found = ((way, mapping, _tensors(mapping)) for way, mapping in _mappings(tree))
    return [
        WeightSet(
            key=".".join(way) or TOP,
            tensors=tensors,
            others=_others(mapping, tensors, nests=False),
            nests=_others(mapping, tensors, nests=True),
        )
        for way, mapping, tensors in found
        if tensors
    ]


def _only(path: Path, wanted: list[WeightSet], sets: list[WeightSet], selection: Selection, lacking: str) -> WeightSet:
    if len(wanted) == 1:
        return wanted[0]
    listed = ", ".join(map(str, sets[:LISTED])) + (", …" if len(sets) > LISTED else "")
    if not wanted:
        held = f"{listed}; name one" if len(sets) > 1 else f"one set of {sum(len(one.tensors) for one in sets)} tensors"
        raise UsageProblem(f"{path}: it has {printable(lacking)}. It holds {held}, or leave the option out.")
    told = selection.by_name and len(wanted) == 2 and sum(one.averaged for one in wanted) == 1
    by_name = "--ema or --no-ema, or " if told else ""
    top = f" ({TOP} for those that lie beside)" if any(one.key == TOP for one in wanted) else ""
    raise UsageProblem(
        f"{path}: it holds {len(wanted)} sets of weights: {listed}. Pass {by_name}{selection.option} NAME{top}."
    )


def _mappings(tree: object) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Yield every mapping once, with the names that lead to it, from the outside in."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), tree)]
    seen = set[int]()
    while waiting:
        way, value = waiting.pop()
        if not isinstance(value, (Mapping, list, tuple)) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            yield way, value
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        waiting += reversed([((*way, _text(key)), item) for key, item in items])


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, Array]:
    return {key: value for key, value in mapping.items() if isinstance(key, str) and isinstance(value, np.ndarray)}


def _others(mapping: Mapping[Any, Any], tensors: Collection[str], *, nests: bool) -> dict[str, str]:
    """Return in words, by name, what a mapping holds beside tensors: its mappings and lists, or all but those."""
    others = {key: value for key, value in mapping.items() if key not in tensors}
    return {_text(k): kind_of(v) for k, v in others.items() if isinstance(v, (Mapping, list, tuple)) == nests}


def _without_tensors(tree: object) -> str:
    """Return in words what lies where tensors should: the first entry that is not a mapping."""
    if not isinstance(tree, Mapping) or not tree:
        return f"it holds a {type(tree).__name__} without weights, not a state dict"
    key, value, seen = "", tree, set[int]()
    while isinstance(value, Mapping) and value and id(value) not in seen:
        seen.add(id(value))
        key, value = next(iter(value.items()))
    shown = repr(key) if isinstance(key, (str, int)) else _text(key)
    if isinstance(value, np.ndarray):
        return f"entry {shown} has no text for a name"
    return f"entry {shown} is not a tensor but {kind_of(value)}"


def _text(key: object) -> str:
    return key.name if isinstance(key, Token) else str(key) or "''"
