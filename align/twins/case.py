"""The case of any model in PyTorch and its twin in Paddle: paired by names and types, or by a pairing file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from align.core.case import Case, Model, Settings
from align.core.drawn import DrawnTensor
from align.core.inputs import Input, drawer
from align.core.lockstep import ForwardFailed
from align.core.point import Item, Point, steps_to
from align.core.weights import in_float32
from align.pairing.drawing import draw_and_tell
from align.pairing.pairing import Pairing
from align.pairing.settings import differences, known_constant
from align.probes import paddle_probe, torch_probe
from align.probes.execution import LayerCall
from align.twins.forward import called, refused
from align.twins.match import Match, PairedModel, matched
from convert.arrays import Array, StateDict, first_index
from convert.errors import BadInput
from convert.rules import RuleSet

if TYPE_CHECKING:
    from paddle.nn import Layer
    from torch.nn import Module

OTHER_IN_TRAINING = ("BatchNorm", "SyncBatchNorm", "Dropout", "AlphaDropout")
TRAINING = "it was left in training mode: call eval() on the candidate first"
PROPOSE = "a pairing file says what goes together, and mixer-align propose writes one"
OUTPUT = "output"
"""Name of the point that shows what a model returns."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Twins:
    """Two models of a user's, and the weights that they are compared with.

    weights: What the reference is to hold; None: seeded weights are drawn. candidate_weights: What the candidate is to
    hold; None: the reference's, converted by the rules. own_weights: Both keep the weights they have. seed: The seed of
    drawn weights. targets, provenance: What a result says about where the models and their weights come from.
    """

    reference: Module
    candidate: Layer
    inputs: tuple[Input, ...]
    pairing: Pairing = field(default_factory=Pairing)
    name: str = ""
    weights: StateDict | None = None
    candidate_weights: StateDict | None = None
    own_weights: bool = False
    seed: int = 0
    targets: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def _advice(pairing: Pairing) -> str:
    """Return what to do about a tensor that nothing pairs."""
    return f"say in {pairing.place} what goes with it" if pairing.modules or pairing.weights else PROPOSE


def case_of_twins(twins: Twins, settings: Settings | None = None) -> Case:
    """Return the case of two models; both are left unchanged.

    Raises:
        BadInput: One of them is not a model of its framework, its forward fails, or the pairing does not fit them.
    """
    torch_probe.check(twins.reference)
    torch_probe.check_values(twins.reference)
    paddle_probe.check(twins.candidate)
    settings = settings or Settings()
    name = twins.name or type(twins.reference).__name__
    drawn_by = drawer(twins.inputs, settings.inputs)
    inputs = drawn_by(settings.batch, settings.input_seed)
    sides = PairedModel.of(torch_probe, twins.reference), PairedModel.of(paddle_probe, twins.candidate)
    match = matched(*sides, twins.pairing)
    source, drawn = _source(twins, inputs)
    held = _held(twins, match, source)
    case = Case(
        name=name,
        family="",
        config=None,
        reference=_model(twins.reference, torch_probe, source, None if twins.own_weights else source),
        candidate=_model(twins.candidate, paddle_probe, held, None if twins.own_weights else held),
        rules=match.rules,
        points=(),
        headline=OUTPUT,
        classes=1,
        sample=OUTPUT,
        inputs=inputs,
        drawn_by=drawn_by,
        described=twins.inputs,
        unpaired=match.unpaired,
        advice=_advice(twins.pairing),
        drawn=drawn,
        wanted=settings,
        settings={
            "reference": "torch",
            **twins.targets,
            "config": {},
            "weights": dict(twins.provenance),
            "inputs_given": [asdict(one) for one in twins.inputs],
            "dropped": dict(match.dropped),
        },
    )
    return case if match.unpaired else _with_points(case, twins, match, sides)


def _source(twins: Twins, inputs: Array) -> tuple[StateDict, Mapping[str, DrawnTensor]]:
    """Return what the reference is to hold, and how to draw its drawn tensors again."""
    if twins.own_weights:
        return torch_probe.parameters(twins.reference), {}
    if twins.weights is not None:
        return in_float32(twins.weights), {}
    try:
        return draw_and_tell(twins.reference, inputs, twins.seed)
    except ForwardFailed as failed:
        raise refused("reference", failed) from failed


def _held(twins: Twins, match: Match, source: StateDict) -> StateDict:
    """Return what the candidate is to hold, without second names and what is accepted as not covered."""
    if twins.own_weights:
        held = paddle_probe.parameters(twins.candidate)
    elif twins.candidate_weights is not None:
        held = in_float32(twins.candidate_weights)
    else:
        return match.rules.apply(source)
    wanted = {rule.target for rule in match.rules}
    passed_over = match.also | twins.pairing.not_covered_among(held).keys()
    return {key: array for key, array in held.items() if key in wanted or key not in passed_over}


def _model(model: Any, probe: Any, state_dict: StateDict, weights: StateDict | None) -> Model:
    def build() -> Any:
        return probe.copied(model, weights)

    return Model(state_dict=state_dict, build=build, probe=probe, lend=partial(probe.lent, model, weights))


def _with_points(case: Case, twins: Twins, match: Match, sides: tuple[PairedModel, PairedModel]) -> Case:
    """Return the case with the points found in one forward of each model."""
    with case.reference.used() as reference, case.candidate.used() as candidate:
        in_reference = called("reference", torch_probe, reference, case.inputs)
        in_candidate = called("candidate", paddle_probe, candidate, case.inputs)
    found = [*points_of(in_reference, in_candidate, twins, match, sides)]
    points = [point for point, why in found if not why]
    headline = next((point for point in points if point.reference.module == ""), None)
    if headline is None:
        shown = f"it returns {_shown(in_reference[-1])}, and the candidate {_shown(in_candidate[-1])}"
        raise BadInput(f"{case.name}: {shown}. Wrap both so that they return tensors of one shape.")
    buffers = torch_probe.buffers(twins.reference)
    known = {*sides[0].layers, *sides[0].shapes} - {""}
    unequal = dict(_unequal(found, in_reference[-1], in_candidate[-1]))
    accepted = {name: why for name in unequal if (why := twins.pairing.why_left_out(name)) is not None}
    names = [*(point.name for point, _ in found), *unequal]
    twins.pairing.check(known, names, [*sides[1].layers, *sides[1].shapes])
    return replace(
        case,
        points=tuple(points),
        headline=headline.name,
        sample=points[0].name,
        classes=(headline.shape or (1,))[-1],
        left_out={point.name: why for point, why in found if why} | accepted,
        not_covered=twins.pairing.not_covered_among(sides[1].shapes),
        accepted=twins.pairing.accepted_among(point.name for point in points),
        places=_places(match.rules, points, headline.name),
        unequal={name: how for name, how in unequal.items() if name not in accepted},
        to_be_used=frozenset(rule.target for rule in match.rules if rule.source not in buffers),
        remarks=remarks_of(points, sides),
    )


def points_of(
    in_reference: Sequence[LayerCall],
    in_candidate: Sequence[LayerCall],
    twins: Twins,
    match: Match,
    sides: tuple[PairedModel, PairedModel],
) -> Iterator[tuple[Point, str]]:
    """Yield the points of one reference forward, in order, and why the candidate does not show one ("": it does).

    Raises:
        BadInput: The pairing names a module that the candidate does not have.
    """
    calls = {(call.path, call.number): call for call in in_candidate}
    times = Counter(call.path for call in in_reference), Counter(call.path for call in in_candidate)
    for call in in_reference:
        for i, (item, shape) in enumerate(call.shapes.items()):
            name = point_name(call, i, item, sides[0])
            point = Point(name=name, reference=call.tapped(item), candidate=call.tapped(item), shape=shape)
            stated, target = twins.pairing.tapped(name), match.modules.get(call.path)
            if stated is not None and stated.module not in sides[1].layers:
                where = f"{twins.pairing.place}: [points] {name}"
                raise BadInput(f"{where}: the candidate has no module {stated.module}. Correct it.")
            if (why := twins.pairing.why_left_out(name)) is not None:
                yield point, why
            elif stated is not None:
                yield replace(point, candidate=stated), ""
            elif target is None:
                yield point, f"the candidate has no module {twins.pairing.name(call.path)}"
            elif times[0][call.path] != times[1][target]:
                yield point, f"called {times[0][call.path]} times, and {times[1][target]} by the candidate"
            else:
                yield _beside(point, calls[target, call.number], i, sides)


def point_name(call: LayerCall, i: int, item: Item, reference: PairedModel) -> str:
    """Return a point's name: the module's path, the number of the call, and the item of the output."""
    name = call.path or (OUTPUT if OUTPUT not in reference.layers else f"{OUTPUT} of the model")
    name += f":{call.number}" if call.number else ""
    return name if not call.path and i == 0 else name + _in_brackets(item)


def _in_brackets(item: Item) -> str:
    return "".join(f"[{step}]" for step in steps_to(item))


def _beside(point: Point, other: LayerCall, i: int, sides: tuple[PairedModel, PairedModel]) -> tuple[Point, str]:
    """Return a point with the candidate's output at the same position, and why it does not match ("": it does)."""
    items = [*other.shapes]
    if i >= len(items):
        return point, "the candidate puts out no such tensor"
    candidate = other.tapped(items[i])
    shapes = point.shape or (), other.shapes[items[i]]
    is_leaf = all(_is_leaf(path, side) for path, side in ((point.reference.module, sides[0]), (other.path, sides[1])))
    if shapes[0] != shapes[1] and not (is_leaf and np.prod(shapes[0]) != np.prod(shapes[1])):
        return point, f"another shape: {shapes[1]}, not {shapes[0]}"
    return replace(point, candidate=candidate), ""


def _unequal(
    found: Sequence[tuple[Point, str]], reference: LayerCall, candidate: LayerCall
) -> Iterator[tuple[str, str]]:
    """Yield what the models return that no point compares and that differs or cannot be compared, and how."""
    for point, why in found:
        if why and point.reference.module == "":
            yield point.name, f"the reference returns it, and nothing compares it: {why}"
    compared = {point.candidate for point, why in found if not why}
    further = [item for item in [*candidate.shapes][len(reference.shapes) :] if candidate.tapped(item) not in compared]
    pairs = [*zip(reference.whole.items(), candidate.whole.values(), strict=False)]
    alone = {"reference": [*reference.whole][len(pairs) :], "candidate": [*further, *[*candidate.whole][len(pairs) :]]}
    for side, items in alone.items():
        yield from ((OUTPUT + _in_brackets(item), f"the {side} alone returns it") for item in items)
    for item, kind in {**candidate.unseen, **reference.unseen}.items():
        yield OUTPUT + _in_brackets(item), f"what is returned there is of type {kind}, which nothing looks into"
    for (item, one), other in pairs:
        name = OUTPUT + _in_brackets(item)
        if one.shape != other.shape:
            yield name, f"another shape: {other.shape}, not {one.shape}"
        elif not np.array_equal(one, other):
            differ = np.asarray(one != other)
            at, count = first_index(differ), np.count_nonzero(differ)
            yield name, f"{count} of {one.size} values differ, the first at {[*at]}: {other[at]!s}, not {one[at]!s}"


def _is_leaf(path: str, side: PairedModel) -> bool:
    return bool(path) and not any(other.startswith(f"{path}.") for other in side.layers)


def _places(rules: RuleSet, points: Sequence[Point], headline: str) -> dict[str, str]:
    """Return the point that each of the reference's tensors acts in.

    That is its module's point; else the one that the candidate's layer shows, perhaps fused with what follows; else the
    nearest module's around it, or the headline.
    """
    shown = {point.reference.module: point.name for point in reversed(points)}
    by_candidate = {point.candidate.module: point.reference.module for point in reversed(points)}
    places = {}
    for rule in rules:
        path, other = (name.rpartition(".")[0] for name in (rule.source, rule.target))
        path = path if path in shown else by_candidate.get(other, path)
        while path and path not in shown:
            path = path.rpartition(".")[0]
        places[rule.source] = shown.get(path, headline)
    return places


def remarks_of(points: Sequence[Point], sides: tuple[PairedModel, PairedModel]) -> dict[str, tuple[str, ...]]:
    """Return sentences, by point, on which settings the two modules do not share and what is known about their kind."""
    remarks = {}
    for point in points:
        reference, candidate = (tapped.module for tapped in (point.reference, point.candidate))
        if point.candidate.where == "output" and reference and candidate:
            pair = sides[0].layers[reference], sides[1].layers[candidate]
            constant = known_constant(*pair)
            mode = [TRAINING] if pair[1].training and type(pair[1]).__name__.startswith(OTHER_IN_TRAINING) else []
            if said := (*mode, *differences(*pair), *([constant] if constant else [])):
                remarks[point.name] = tuple(said)
    return remarks


def _shown(call: LayerCall) -> str:
    return ", ".join(map(str, call.shapes.values())) or "no tensor"
