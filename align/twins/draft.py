"""A draft of a pairing: which layers and tensors go together, and which points are shown elsewhere or left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from align.core.point import Point, Tapped
from align.pairing.pairing import Pairing
from align.probes.execution import LayerCall
from align.twins.between import containers, leaves_between
from align.twins.case import Twins, point_name, points_of
from align.twins.match import Match
from align.twins.owners import Fit, Order, Owners
from convert.pairing.weights import WeightEntry, WeightTable
from convert.rules import RuleSet

STANDS_FOR_ANOTHER = "the candidate's layer of this name stands for another one"
IDLE = "never called in evaluation, and the candidate has no such layer left"
INDEX = "whole numbers, an index, of which the other side saves none"
PLACE = "the proposed pairing"


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A pairing of two models as far as it is known.

    order: How the owners, the layers that hold tensors, were lined up. pairs: The candidate's owner for each of the
    reference's. fits: How the tensors of each pair correspond. idle: The reference's owners that no forward calls and
    no remaining candidate layer fits. between: The pairs of layers without tensors. moved: Points that the candidate
    shows elsewhere. left_out: Points that it does not show, and why.
    """

    owners: Owners
    order: str
    pairs: Mapping[str, str]
    fits: Mapping[str, Fit]
    idle: frozenset[str]
    between: Mapping[str, str]
    moved: Mapping[str, Tapped] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def rules(self) -> RuleSet:
        """The rules from the reference's tensors to the candidate's."""
        return RuleSet(tuple(rule for fit in self.fits.values() for rule in fit.rules))

    @cached_property
    def dropped(self) -> dict[str, str]:
        """The reference's tensors that need no counterpart in the candidate, and why."""
        held = ((self.owners.kinds[path], self.owners.sides[0].held_by(path)) for path in self.pairs)
        known = {key: kind.dropped[n] for kind, keys in held if kind for n, key in keys.items() if n in kind.dropped}
        known |= {key: IDLE for path in self.idle for key in self.owners.sides[0].held_by(path).values()}
        return known | self._lone_indices(0, self.pairs.keys(), known.keys() | {rule.source for rule in self.rules})

    @cached_property
    def not_covered(self) -> dict[str, str]:
        """The candidate's tensors that need no counterpart in the reference, and why."""
        return self._lone_indices(1, self.pairs.values(), {rule.target for rule in self.rules})

    def _lone_indices(self, side: int, paths: Iterable[str], known: Collection[str]) -> dict[str, str]:
        """Return the index tensors of one side's paired layers outside `known`, and why they need no counterpart."""
        held = (key for path in paths for key in self.owners.sides[side].held_by(path).values())
        return {key: INDEX for key in held if key in self.owners.sides[side].indices and key not in known}

    @cached_property
    def modules(self) -> dict[str, str]:
        """The pairs of layers with different names, except those that the rules of their tensors imply."""
        told = {path: {rule.target.rpartition(".")[0] for rule in fit.rules} for path, fit in self.fits.items()}
        untold = {path: other for path, other in self.pairs.items() if told[path] != {other}}
        return {path: other for path, other in {**untold, **self.between}.items() if path != other}

    @cached_property
    def weights(self) -> list[WeightEntry]:
        """What becomes of each of the reference's tensors, in its order."""
        rules = {rule.source: rule for rule in self.rules}
        found = []
        for key in self.owners.sides[0].shapes:
            if key in rules:
                found.append(WeightEntry(name=key, to=rules[key].target, transform=rules[key].transform))
            elif key in self.dropped:
                found.append(WeightEntry(name=key, why_dropped=self.dropped[key]))
        return found

    @cached_property
    def pairing(self) -> Pairing:
        """The draft as a pairing, as a pairing file holds it."""
        return Pairing(
            place=PLACE,
            modules=self.modules,
            weights=WeightTable(place=PLACE, entries=self.weights),
            points=dict(self.moved),
            left_out=dict(self.left_out),
            not_covered=self.not_covered,
        )

    def without(self, points: Mapping[str, str], moved: Mapping[str, Tapped]) -> Draft:
        """Return the draft with more points left out, each for a reason, and others shown elsewhere."""
        left_out = {name: why for name, why in {**self.left_out, **points}.items() if name not in moved}
        return replace(self, moved={**self.moved, **moved}, left_out=left_out)


def drafted(owners: Owners, order: Order, calls: tuple[Sequence[LayerCall], Sequence[LayerCall]]) -> Draft:
    """Return the draft that one way of lining up the owners leads to, before it is tried."""
    layers = owners.sides[0].layers, owners.sides[1].layers
    fits = {path: fit for path, other in order.pairs.items() if (fit := owners.fit(path, other)) is not None}
    leaves = leaves_between(layers, calls, order.pairs)
    between = {**dict(containers(layers, order.pairs)), **leaves.pairs}
    draft = Draft(
        owners=owners,
        order=order.name,
        pairs=order.pairs,
        fits=fits,
        idle=_idle(owners, order, calls[0]),
        between=between,
    )
    left_out = {}
    for tapped, name in reference_points(owners, calls[0]).items():
        path = tapped.module
        is_paired = path in order.pairs or path in between
        if path and not is_paired and (path in leaves.apart or draft.pairing.name(path) in layers[1]):
            left_out[name] = leaves.apart.get(path, STANDS_FOR_ANOTHER)
    return draft.without(left_out, {})


def _idle(owners: Owners, order: Order, calls: Sequence[LayerCall]) -> frozenset[str]:
    """Return the reference's unpaired owners that no forward calls and no remaining candidate layer fits."""
    called, taken = {call.path for call in calls}, {*order.pairs.values()}
    left = [other for other in owners.candidate if other not in taken]
    idle = (path for path in owners.reference if path not in order.pairs and path not in called)
    return frozenset(path for path in idle if not any(owners.fits(path, other) for other in left))


def points_in(draft: Draft, twins: Twins, calls: tuple[Sequence[LayerCall], Sequence[LayerCall]]) -> list[Point]:
    """Return the points that a draft compares."""
    layers = draft.owners.sides[1].layers
    named = {path: name for path in draft.owners.sides[0].layers if (name := draft.pairing.name(path)) in layers}
    match = Match(rules=draft.rules, modules={**named, **draft.between, **draft.pairs})
    found = points_of(*calls, replace(twins, pairing=draft.pairing), match, draft.owners.sides)
    return [point for point, why in found if not why]


def reference_points(owners: Owners, calls: Sequence[LayerCall]) -> dict[Tapped, str]:
    """Return the names of all points of the reference, by where it shows them."""
    return {
        call.tapped(item): point_name(call, i, item, owners.sides[0])
        for call in calls
        for i, item in enumerate(call.shapes)
    }
