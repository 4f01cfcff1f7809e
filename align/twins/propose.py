"""A pairing proposed for two models, by types, shapes and order of execution; each possible one is tried by running."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.core.case import Settings
from align.core.inputs import drawer
from align.core.lockstep import ForwardFailed
from align.core.point import Point, Tapped
from align.pairing.drawing import draw
from align.probes import paddle_probe, torch_probe, turn
from align.probes.environment import ordinary
from align.twins.between import is_leaf
from align.twins.case import Twins
from align.twins.draft import Draft, drafted, points_in, reference_points
from align.twins.forward import refused
from align.twins.match import PairedModel
from align.twins.owners import Order, Owners, orders
from align.twins.trial import SAME, Bench, TriedPairing
from align.twins.unpairable import check_pairable
from convert.arrays import Array, StateDict

TOGETHER = "the candidate computes it together with "
ANOTHER = "the candidate shows another value here, and what lies behind it agrees"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One way of pairing, after it was tried.

    points: The points that it compares, the output last. output: How far apart the outputs are, relative to the largest
    value, with each side on its own activations. trial: How far apart the points are; if the outputs differ, the
    candidate went on with the reference's values, so that each layer is tried by itself.
    """

    draft: Draft
    points: Sequence[Point]
    trial: TriedPairing
    output: float

    @property
    def agrees(self) -> bool:
        """Whether both models return the same value."""
        return self.output <= SAME

    @property
    def owners_agreeing(self) -> int:
        """How many of the layers that hold tensors show what their counterparts show."""
        good = {point.reference.module for point in self.points if self.trial.agrees(point.name)}
        return len(good & self.draft.pairs.keys())


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The pairing that is proposed (best); others: why the other ways are not; bench: where all were tried."""

    best: Tried
    others: Mapping[str, str]
    bench: Bench


def propose(twins: Twins) -> Proposal:
    """Return the pairing of two models that agrees best when they run with drawn weights in float64.

    Raises:
        BadInput: They cannot be paired at all, one is not a model of its framework, or its forward fails.
    """
    torch_probe.check(twins.reference)
    torch_probe.check_values(twins.reference)
    paddle_probe.check(twins.candidate)
    owners = Owners(PairedModel.of(torch_probe, twins.reference), PairedModel.of(paddle_probe, twins.candidate))
    settings = Settings()
    inputs = drawer(twins.inputs, settings.inputs)(settings.batch, settings.input_seed)
    with turn.taken(), ordinary():
        weights = _weights(twins, inputs)
        bench = Bench(twins.reference, twins.candidate, weights, inputs[:1])
        ways = orders(owners, bench.calls)
        check_pairable(owners, ways, bench.calls)
        return _best(owners, ways, twins, bench)


def _weights(twins: Twins, inputs: Array) -> StateDict:
    """Return the reference's weights that both models are tried with."""
    if twins.weights is not None:
        return twins.weights
    try:
        return draw(twins.reference, inputs, twins.seed)
    except ForwardFailed as failed:
        raise refused("reference", failed) from failed


def _best(owners: Owners, ways: Sequence[Order], twins: Twins, bench: Bench) -> Proposal:
    """Return the way of pairing under which the outputs agree, or else most layers do, and why not the others."""
    others = {way.name: way.why_not for way in ways if way.why_not}
    tried: dict[str, Tried] = {}
    for way in ways:
        if same := next((name for name, one in tried.items() if one.draft.pairs == way.pairs), None):
            others[way.name] = f"the same pairs as by {same}"
        elif not way.why_not:
            tried[way.name] = _tried(drafted(owners, way, bench.calls), twins, bench)
    best = max(tried, key=lambda name: (tried[name].agrees, tried[name].owners_agreeing, tried[name].trial.agreeing))
    for name, one in tried.items():
        if name != best:
            output = "the output agrees" if one.agrees else "the output does not"
            others[name] = f"{one.owners_agreeing} of {len(one.draft.pairs)} layers with tensors agree, {output}"
    return Proposal(best=tried[best], others=others, bench=bench)


def _tried(draft: Draft, twins: Twins, bench: Bench) -> Tried:
    """Return how a draft fares once points that turn out to be mispaired are moved where they belong, or left out."""
    points, own = _run(draft, twins, bench, is_forced=False)
    output = min((own.distances[p.name] for p in points if p.reference.module == ""), default=math.inf)
    agrees = output <= SAME
    if not agrees:
        points, own = _run(draft, twins, bench, is_forced=True)
    named = reference_points(draft.owners, bench.calls[0])
    mended = _mended(draft, points, own, named, agrees=agrees)
    if mended != draft:
        points, own = _run(mended, twins, bench, is_forced=not agrees)
    return Tried(draft=mended, points=points, trial=own, output=output)


def _run(draft: Draft, twins: Twins, bench: Bench, *, is_forced: bool) -> tuple[list[Point], TriedPairing]:
    """Return a draft's points and how they compare; values that differ are also sought in unpaired leaf layers."""
    layers = draft.owners.sides[0].layers
    points = points_in(draft, twins, bench.calls)
    compared = {point.reference for point in points}
    among = {
        tapped
        for tapped in bench.values
        if tapped not in compared and tapped.module not in draft.pairs and is_leaf(tapped.module, layers)
    }
    forced = {point.name for point in points if is_leaf(point.reference.module, layers)} if is_forced else frozenset()
    return points, bench.trial(points, draft.rules, among, forced)


def _mended(
    draft: Draft, points: Sequence[Point], trial: TriedPairing, names: Mapping[Tapped, str], *, agrees: bool
) -> Draft:
    """Return the draft without mispaired points: the value belongs elsewhere, or differs although what follows agrees.

    agrees: Whether the outputs agree, so that nothing diverged. If not, only a container counts as mispaired, where the
    leaf after it agrees although the candidate did not go on with the reference's value.
    """
    layers, at = draft.owners.sides[0].layers, {point.name: point for point in points}
    shown = [name for name in trial.distances if at[name].reference.module]
    left_out, moved = dict[str, str](), dict[str, Tapped]()
    for i, name in enumerate(shown):
        if trial.agrees(name):
            continue
        found = trial.elsewhere.get(name)
        behind = next((one for one in shown[i + 1 :] if is_leaf(at[one].reference.module, layers)), None)
        if found is not None:
            other = names[found]
            left_out[name] = f"{TOGETHER}{other}, and shows only that"
            moved.setdefault(other, at[name].candidate)
        elif agrees or (not is_leaf(at[name].reference.module, layers) and behind and trial.agrees(behind)):
            left_out[name] = ANOTHER
    return draft.without(left_out, moved)
