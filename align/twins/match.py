"""Which tensors of two models go together, and how: by a pairing file, or by equal names and the types of modules."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from align.core.probe import Probe
from align.pairing.module_type import ModuleType
from align.pairing.pairing import Pairing
from align.pairing.types import candidate_fits, raw_transform, reference_type
from convert.arrays import Shape
from convert.errors import BadInput
from convert.rules import KeyRule, RuleSet, Transform


@dataclass(frozen=True, kw_only=True)
class PairedModel:
    """A model as pairing sees it: its layers by path, and the shapes of the tensors that it saves.

    indices: The tensors of integers or booleans, such as a table of positions, which a model can compute again.
    """

    layers: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    indices: frozenset[str] = frozenset()

    @staticmethod
    def of(probe: Probe, model: Any) -> PairedModel:
        """Return a model as pairing sees it."""
        held = probe.parameters(model)
        return PairedModel(
            layers=dict(probe.layers(model)),
            shapes={key: array.shape for key, array in held.items()},
            indices=frozenset(key for key, array in held.items() if array.dtype.kind in "iub"),
        )

    def held_by(self, path: str) -> dict[str, str]:
        """Return the keys of a layer's own tensors, not of those below it, by their names within the layer."""
        return self._held.get(path, {})

    @cached_property
    def _held(self) -> dict[str, dict[str, str]]:
        held: dict[str, dict[str, str]] = {}
        for key in self.shapes:
            path, _, name = key.rpartition(".")
            held.setdefault(path, {})[name] = key
        return held

    @property
    def owners(self) -> list[str]:
        """The layers that hold tensors of their own."""
        return [path for path in self.layers if path in self._held]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What goes together in two models.

    rules: From the reference's tensors to the candidate's. modules: The candidate's layer for each reference layer that
    has a counterpart. dropped: The reference's tensors that need no counterpart, and why. unpaired: Tensors of either
    side that nothing pairs, and why. also: The candidate's second names for tensors that are paired by another name.
    """

    rules: RuleSet
    modules: Mapping[str, str]
    dropped: Mapping[str, str] = field(default_factory=dict)
    unpaired: Mapping[str, str] = field(default_factory=dict)
    also: frozenset[str] = frozenset()


def matched(reference: PairedModel, candidate: PairedModel, pairing: Pairing) -> Match:
    """Return what goes together in two models.

    Raises:
        BadInput: The pairing does not fit the models, or a tensor of a module of no known type allows several layouts.
    """
    named = {path: name for path in reference.layers if (name := pairing.name(path)) in candidate.layers}
    if pairing.weights is not None:
        rules, dropped = pairing.weights.rules_for(reference.shapes.keys())
        by_weights = _by_weights(rules, reference, candidate)
        found = Match(rules=rules, modules={**named, **by_weights}, dropped=dropped)
    else:
        found = _by_type(reference, candidate, named, pairing)
    filled = {rule.target for rule in found.rules}
    missing = dict.fromkeys(
        filled - candidate.shapes.keys(), f"{pairing.place} fills it, the candidate has no such tensor"
    )
    missing |= dict(_of_another_shape(reference, candidate, found.rules))
    also = frozenset(_also(reference, found.rules))
    left = [key for key in candidate.shapes if key not in filled | also]
    accepted = pairing.not_covered_among(left)
    surplus = {key: "nothing of the reference's goes with it" for key in left if key not in accepted}
    return replace(found, unpaired={**found.unpaired, **missing, **surplus}, also=also)


def _of_another_shape(reference: PairedModel, candidate: PairedModel, rules: RuleSet) -> Iterator[tuple[str, str]]:
    """Yield the candidate's tensors whose rule would give them another shape, and why."""
    for rule in rules:
        shape, wanted = reference.shapes[rule.source], candidate.shapes.get(rule.target)
        if wanted is not None and (given := rule.transform.shape(shape)) != wanted:
            how = f" and transform {rule.transform.value}" if rule.transform is not Transform.IDENTITY else ""
            yield rule.target, f"from {rule.source} {shape}{how} it would get {given}, and it has {wanted}"


def _by_weights(
    rules: Collection[KeyRule] | RuleSet, reference: PairedModel, candidate: PairedModel
) -> Mapping[str, str]:
    """Return the pairs of layers whose tensors the rules pair, where a layer's rules all lead to one layer."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        found.setdefault(rule.source.rpartition(".")[0], set()).add(rule.target.rpartition(".")[0])
    alone = {path: next(iter(paths)) for path, paths in found.items() if len(paths) == 1}
    return {r: c for r, c in alone.items() if r in reference.layers and c in candidate.layers}


def _by_type(reference: PairedModel, candidate: PairedModel, named: Mapping[str, str], pairing: Pairing) -> Match:
    rules: list[KeyRule] = []
    dropped: dict[str, str] = {}
    unpaired: dict[str, str] = {}
    for path in reference.owners:
        held, kind = reference.held_by(path), reference_type(reference.layers[path])
        if why := _why_not(path, kind, reference, candidate, named, pairing):
            unpaired |= dict.fromkeys(held.values(), why)
            continue
        rules += _rules_of(path, kind, reference, candidate, named[path])
        dropped |= {key: kind.dropped[name] for name, key in held.items() if kind and name in kind.dropped}
    taken = {rule.source for rule in rules} | dropped.keys() | unpaired.keys()
    unpaired |= {key: "nothing of the candidate's goes with it" for key in reference.shapes if key not in taken}
    return Match(rules=RuleSet(tuple(rules)), modules=named, dropped=dropped, unpaired=unpaired)


def _why_not(
    path: str,
    kind: ModuleType | None,
    reference: PairedModel,
    candidate: PairedModel,
    named: Mapping[str, str],
    pairing: Pairing,
) -> str:
    """Return why no tensors of the candidate's go with a layer's; "" where they may."""
    if path not in named:
        return f"the candidate has no module {pairing.name(path)}"
    of_candidate, of_reference = (type(one).__name__ for one in (candidate.layers[named[path]], reference.layers[path]))
    if kind is not None and kind.why_not:
        return kind.why_not
    if kind is not None and not candidate_fits(kind, candidate.layers[named[path]]):
        return f"{named[path]} is a {of_candidate}, with which no {of_reference} goes"
    return ""


def _rules_of(
    path: str, kind: ModuleType | None, reference: PairedModel, candidate: PairedModel, target: str
) -> Iterator[KeyRule]:
    """Yield the rules of a layer's tensors: by its type's table, or by a shape that allows a single layout.

    Raises:
        BadInput: The layer is of no known type, and a tensor's shape allows several layouts.
    """
    for name, key in reference.held_by(path).items():
        row = kind.held(name) if kind else None
        other = f"{target}.{row.candidate if row else name}".removeprefix(".")
        if other not in candidate.shapes or (kind and name in kind.dropped):
            continue
        transform = row.transform if row else raw_transform(reference.shapes[key], candidate.shapes[other])
        if transform is None:
            raise BadInput(
                f"{key}: it is of a {type(reference.layers[path]).__name__}, whose layout is not known, and its shape "
                f"{reference.shapes[key]} leaves several. State it in [weights] of a pairing file."
            )
        yield KeyRule(source=key, target=other, transform=transform)


def _also(reference: PairedModel, rules: RuleSet) -> set[str]:
    """Return the candidate's second names for tensors that are paired by another name."""
    found = set()
    for rule in rules:
        path, _, name = rule.source.rpartition(".")
        kind = reference_type(reference.layers[path]) if path in reference.layers else None
        row = kind.held(name) if kind else None
        if row is not None and rule.target.endswith(row.candidate):
            found |= {rule.target.removesuffix(row.candidate) + other for other in row.also}
    return found
