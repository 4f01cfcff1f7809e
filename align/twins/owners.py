"""The layers of two models that hold tensors: which may correspond, and the orders that line them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from align.pairing.module_type import ModuleType, matcher
from align.pairing.types import candidate_fits, is_of_no_kind, raw_transform, reference_type
from align.probes.execution import LayerCall
from align.twins.match import PairedModel
from convert.arrays import Shape
from convert.rules import KeyRule, Transform

OF_NO_KIND = "of no known type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a reference layer's tensors go into a candidate layer; unclear: those whose shape allows several ways."""

    rules: tuple[KeyRule, ...]
    unclear: tuple[str, ...] = ()


class Owners:
    """The layers that hold tensors, on either side in definition order, and whether two of them may go together."""

    def __init__(self, reference: PairedModel, candidate: PairedModel) -> None:
        self.sides = reference, candidate
        self.kinds = {path: reference_type(reference.layers[path]) for path in reference.owners}
        self.reference = list(self.kinds)
        self.candidate, self._held = _candidates(candidate, [kind for kind in self.kinds.values() if kind])
        self._known: dict[tuple[Any, Any], bool] = {}

    def held(self, path: str) -> list[str]:
        """Return the names of the tensors that a candidate layer holds."""
        return sorted(self._held[path])

    def kind(self, path: str) -> str:
        """Return the name of a reference layer's kind."""
        kind = self.kinds[path]
        return kind.name if kind else f"{OF_NO_KIND}, {type(self.sides[0].layers[path]).__name__}"

    def fits(self, reference: str, candidate: str) -> bool:
        """Return whether a reference layer's tensors can go into a candidate layer."""
        key = self._signature(reference), self._other_signature(candidate)
        if key not in self._known:
            self._known[key] = self.fit(reference, candidate) is not None
        return self._known[key]

    def fit(self, reference: str, candidate: str) -> Fit | None:
        """Return how a reference layer's tensors go into a candidate layer; None where they cannot."""
        kind, layer = self.kinds[reference], self.sides[1].layers[candidate]
        if kind is None or (not kind.why_not and is_of_no_kind(layer)):
            return self._raw_fit(reference, candidate)
        if kind.why_not or not candidate_fits(kind, layer):
            return None
        rules, filled = [], set()
        for name, key in self.sides[0].held_by(reference).items():
            row = kind.held(name)
            if row is None:
                continue
            target = f"{candidate}.{row.candidate}".removeprefix(".")
            if self.sides[1].shapes.get(target) != row.transform.shape(self.sides[0].shapes[key]):
                return None
            filled |= {row.candidate, *row.also}
            rules.append(KeyRule(source=key, target=target, transform=row.transform))
        return Fit(rules=tuple(rules)) if self._held[candidate] <= filled else None

    def _raw_fit(self, reference: str, candidate: str) -> Fit | None:
        """Return the fit where either layer is of no known kind: by equal names, else in definition order."""
        both = self.sides[0].held_by(reference), self.sides[1].held_by(candidate)
        held, other = _but_lone_indices(self.sides[0], *both), _but_lone_indices(self.sides[1], *reversed(both))
        if len(held) != len(other) or self._held[candidate] != {*both[1]}:
            return None
        names = dict(zip(held, held if {*held} == {*other} else other, strict=True))
        rules, unclear = [], []
        for name, key in held.items():
            shapes = self.sides[0].shapes[key], self.sides[1].shapes[other[names[name]]]
            transform = raw_transform(*shapes)
            if transform is None or (
                names[name] != name and _is_one_of_several(shapes[0], held.values(), self.sides[0])
            ):
                unclear.append(key)
                transform = transform or _possible(*shapes)
            if transform is None:
                return None
            rules.append(KeyRule(source=key, target=other[names[name]], transform=transform))
        return Fit(rules=tuple(rules), unclear=tuple(unclear))

    def _signature(self, path: str) -> Any:
        side = self.sides[0]
        return self.kind(path), *((name, side.shapes[key]) for name, key in side.held_by(path).items())

    def _other_signature(self, path: str) -> Any:
        side, before = self.sides[1], f"{path}." if path else ""
        shapes = ((name, side.shapes[before + name]) for name in sorted(self._held[path]))
        return type(side.layers[path]), *shapes


def _candidates(side: PairedModel, kinds: Sequence[ModuleType]) -> tuple[list[str], dict[str, set[str]]]:
    """Return the candidate's layers that hold tensors, and the names of those tensors.

    Where a kind keeps its weights in layers below it, they count as its own and not as those layers'.
    """
    held = {path: {*side.held_by(path)} for path in side.owners}
    nested = {
        kind.name: (kind, [matcher(name) for row in kind.weights for name in (row.candidate, *row.also) if "." in name])
        for kind in kinds
    }
    for path, layer in side.layers.items():
        for kind, names in nested.values():
            if names and candidate_fits(kind, layer):
                before = f"{path}." if path else ""
                below = [key.removeprefix(before) for key in side.shapes if key.startswith(before)]
                found = {name for name in below if any(one.fullmatch(name) for one in names)}
                held[path] = held.get(path, set()) | found
                for name in found:
                    held.pop(f"{before}{name.rpartition('.')[0]}", None)
    return [path for path in side.layers if held.get(path)], held


def _but_lone_indices(side: PairedModel, held: Mapping[str, str], other: Collection[str]) -> dict[str, str]:
    """Return a layer's tensors, except index tensors that its counterpart does not save by the same name."""
    return {name: key for name, key in held.items() if key not in side.indices or name in other}


def _is_one_of_several(shape: Shape, keys: Iterable[str], side: PairedModel) -> bool:
    return sum(side.shapes[key] == shape for key in keys) > 1


def _possible(reference: Shape, candidate: Shape) -> Transform | None:
    """Return the first transform that leads from one shape to the other; None where none does."""
    ways = (Transform.IDENTITY, Transform.TRANSPOSE, Transform.UNSQUEEZE, Transform.SQUEEZE)
    return next((way for way in ways if way.shape(reference) == candidate), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One way of lining up the owners: the pairs that it gives, or why it gives none."""

    name: str
    pairs: dict[str, str] = field(default_factory=dict)
    why_not: str = ""


def orders(owners: Owners, calls: tuple[Sequence[LayerCall], Sequence[LayerCall]]) -> list[Order]:
    """Return the ways of lining up the owners, the best first: by names, by calls, by definition."""
    called = in_call_order(owners.reference, calls[0]), in_call_order(owners.candidate, calls[1])
    return [
        _by_name(owners),
        Order(name="call order", pairs=in_sequence(owners, *called)),
        Order(name="definition order", pairs=in_sequence(owners, owners.reference, owners.candidate)),
    ]


def _by_name(owners: Owners) -> Order:
    pairs = {path: path for path in owners.reference if path in owners.candidate and owners.fits(path, path)}
    count = f"{len(pairs)} of {len(owners.reference)} layers go with one of their name"
    if len(pairs) == len(owners.reference) == len(owners.candidate):
        return Order(name="names", pairs=pairs)
    first = next((path for path in owners.reference if path not in pairs), None)
    which = f", {first or 'the model itself'} is the first that does not" if first is not None else ""
    return Order(name="names", why_not=f"{count}{which}")


def in_call_order(owners: Sequence[str], calls: Sequence[LayerCall]) -> list[str]:
    """Return the owners in the order of their first calls, those never called last."""
    first = dict.fromkeys(call.path for call in calls if call.path in set(owners))
    return [*first, *(path for path in owners if path not in first)]


def in_sequence(owners: Owners, reference: Sequence[str], candidate: Sequence[str]) -> dict[str, str]:
    """Return each owner with the first remaining one that fits; if any would be left over, by the longest runs."""
    left, pairs = dict.fromkeys(candidate), dict[str, str]()
    for path in reference:
        if (found := next((other for other in left if owners.fits(path, other)), None)) is not None:
            pairs[path] = found
            del left[found]
    if len(pairs) == len(reference) and not left:
        return pairs
    groups = {other: _first(owners.fits(path, other) for path in reference) for other in candidate}
    fitting = {path: next((groups[o] for o in candidate if owners.fits(path, o)), None) for path in reference}
    others = [f"only {o}" if groups[o] is None else groups[o] for o in candidate]
    blocks = SequenceMatcher(None, [*fitting.values()], others, autojunk=False).get_matching_blocks()
    return {reference[b.a + i]: candidate[b.b + i] for b in blocks for i in range(b.size)}


def _first(truths: Iterable[bool]) -> int | None:
    """Return the index of the first true value; None where none is true."""
    return next((i for i, true in enumerate(truths) if true), None)


def counts(owners: Owners) -> tuple[Counter[str], Counter[str]]:
    """Return how many owners of each kind either side has; an owner of no known kind counts by its class."""
    kinds = {path: kind.name if kind else _class(owners.sides[0], path) for path, kind in owners.kinds.items()}
    known = {name: kind.name for kind in owners.kinds.values() if kind for name in kind.candidate}
    classes = [_class(owners.sides[1], path) for path in owners.candidate]
    return Counter(kinds.values()), Counter(known.get(name, name) for name in classes)


def _class(side: PairedModel, path: str) -> str:
    return type(side.layers[path]).__name__
