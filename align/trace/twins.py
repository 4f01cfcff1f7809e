"""Traces of two models of no known family: what is recorded, and the case for checking the candidate alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from align.core.bounds import Accepted
from align.core.case import Case, Model, Settings
from align.core.inputs import drawer
from align.core.point import Point
from align.core.weights import in_float32
from align.probes import paddle_probe, torch_probe
from align.trace.golden import GoldenTrace, TensorRecord
from align.trace.twins_record import MOST_VALUES, TensorOrigin, TwinsRecord
from align.trace.weights import drawn_again
from convert.arrays import Array, StateDict, canonical_bytes, fingerprint, same_bits, tensor_sha256
from convert.errors import UsageProblem, printable
from convert.pairing.weights import WeightEntry, WeightTable
from convert.rules import RuleSet

if TYPE_CHECKING:
    from paddle.nn import Layer

ALSO = "another name of a tensor that is paired"


def source_of_twins(case: Case) -> dict[str, Any]:
    """Return where the reference's weights come from: a seed, a file, or the model itself."""
    said, seed = case.settings["weights"], next((one.seed for one in case.drawn.values()), None)
    file = None if case.drawn else said.get("file")
    kind = "random" if case.drawn else "file" if file else "own"
    sha256 = said.get("sha256") if file else None
    return {"kind": kind, "seed": seed, "file": file, "sha256": sha256, "repo_id": None, "revision": None}


def record_of_twins(case: Case) -> TwinsRecord:
    """Return what a trace of two models keeps in addition to sketches and hashes."""
    with case.candidate.used() as model:
        own = case.candidate.probe.parameters(model)
    surplus = own.keys() - case.expected.keys()
    return TwinsRecord(
        headline=case.headline,
        inputs=case.described,
        tapped={point.name: point.candidate for point in case.points},
        tensors=_origins(case),
        left_out={name: printable(why) for name, why in case.left_out.items()},
        passed_over={name: printable(case.not_covered.get(name, ALSO)) for name in sorted(surplus)},
        accepted=_printable(case.accepted),
    )


def _printable(accepted: Mapping[str, Accepted]) -> dict[str, Accepted]:
    """Return the accepted differences with printable reasons; points that share an entry still share one."""
    shown = {id(one): replace(one, reason=printable(one.reason)) for one in accepted.values()}
    return {name: shown[id(one)] for name, one in accepted.items()}


def _origins(case: Case) -> dict[str, TensorOrigin]:
    """Return where each candidate tensor comes from; beside drawn ones, other values are kept while there is room."""
    found, room = {}, MOST_VALUES if case.drawn else 0
    for rule in case.rules:
        array, drawn = case.reference.state_dict[rule.source], case.drawn.get(rule.source)
        is_drawn = drawn is not None and same_bits(drawn.draw(), array)
        is_kept = not is_drawn and array.nbytes <= room
        room -= array.nbytes if is_kept else 0
        found[rule.target] = TensorOrigin(
            rule=rule,
            point=case.places.get(rule.source, case.headline),
            drawn=drawn if is_drawn else None,
            values=bytes(canonical_bytes(case.expected[rule.target])) if is_kept else None,
        )
    return found


def table_of(record: TwinsRecord) -> WeightTable:
    """Return the table that maps the reference's tensor names to the candidate's."""
    rules = [origin.rule for origin in record.tensors.values()]
    entries = [WeightEntry(name=rule.source, to=rule.target, transform=rule.transform) for rule in rules]
    return WeightTable(place="the trace", entries=entries)


def case_of_twins_trace(trace: GoldenTrace, model: Layer, weights: StateDict | None = None) -> Case:
    """Return the case for checking a model against a recorded trace of two models; the reference is never run.

    Args:
        trace: The recorded trace.
        model: The candidate, in evaluation mode; it is left unchanged.
        weights: What the candidate is to hold; None: the seeded weights, drawn again.

    Raises:
        BadInput: The model is not a Paddle model.
        IntegrityProblem: The weights drawn again are not the recorded ones.
        UsageProblem: No weights are given, and the trace's cannot be drawn again; or it is a family's trace.
    """
    if (record := trace.twins) is None:
        raise UsageProblem(f"{trace.name}: the trace is of the {trace.family} family, which has a model of its own.")
    paddle_probe.check(model)
    held = _held(trace, record, paddle_probe.parameters(model), weights)
    drawn_by = drawer(record.inputs, trace.inputs)
    shapes = {point.sketch.name: point.sketch.shape for point in trace.points}
    points = tuple(
        Point(name=name, reference=tapped, candidate=tapped, shape=shapes[name])
        for name, tapped in record.tapped.items()
    )
    return Case(
        name=trace.name,
        family="",
        config=None,
        reference=Model(state_dict={}, build=_not_there, probe=torch_probe),
        candidate=Model(
            state_dict=held,
            build=partial(paddle_probe.copied, model, held),
            probe=paddle_probe,
            lend=partial(paddle_probe.lent, model, held),
        ),
        rules=RuleSet(tuple(origin.rule for origin in record.tensors.values())),
        points=points,
        headline=record.headline,
        classes=(*shapes[record.headline], 1)[-1],
        sample=points[0].name,
        inputs=drawn_by(trace.batch, trace.input_seed),
        drawn_by=drawn_by,
        described=record.inputs,
        places={origin.rule.source: origin.point for origin in record.tensors.values()},
        left_out=record.left_out,
        accepted=record.accepted,
        wanted=Settings(batch=trace.batch, input_seed=trace.input_seed, inputs=trace.inputs),
        settings={"reference": trace.reference, "weights": dict(trace.source)},
    )


def _not_there() -> None:
    """Raise a RuntimeError: a trace has no reference to run."""
    raise RuntimeError("the reference of a trace is not run")


def _held(trace: GoldenTrace, record: TwinsRecord, own: StateDict, weights: StateDict | None) -> StateDict:
    """Return what the candidate is to hold, or what it does hold if its structure differs, which a gate then reports.

    Nothing is drawn before its shape is known to match the user's model.
    """
    expected = {tensor.name: tensor.shape for tensor in trace.weights}
    own = _without(record.passed_over, own, expected)
    if {key: array.shape for key, array in own.items()} != expected:
        return own
    if weights is not None:
        return in_float32(_without(record.passed_over, weights, expected))
    if trace.source["kind"] != "random":
        where = "the model's own weights"
        if trace.source["file"]:
            where = f"{trace.source['file']} (SHA-256 {trace.source['sha256']})"
        raise UsageProblem(f"{trace.name}: the trace was recorded with {where}. Pass them in Paddle as --candidate.")
    held = {tensor.name: _again(trace, tensor, record.tensors[tensor.name], own) for tensor in trace.weights}
    recorded = fingerprint({tensor.name: tensor.sha256 for tensor in trace.weights})
    found = fingerprint({key: tensor_sha256(array) for key, array in held.items()})
    drawn_again(found, recorded, "weights", trace.source["seed"])
    return held


def _without(passed_over: Mapping[str, str], held: StateDict, expected: Mapping[str, Any]) -> StateDict:
    return {key: array for key, array in held.items() if key in expected or key not in passed_over}


def _again(trace: GoldenTrace, tensor: TensorRecord, origin: TensorOrigin, own: StateDict) -> Array:
    """Return a tensor: drawn again, from its recorded values, or the model's own if that is the recorded one."""
    if origin.drawn is not None:
        return origin.rule.transform.apply(origin.drawn.draw())
    dtype = np.dtype(tensor.dtype)
    if origin.values is not None and len(origin.values) == dtype.itemsize * int(np.prod(tensor.shape)):
        return np.frombuffer(origin.values, dtype.newbyteorder("<")).astype(dtype).reshape(tensor.shape)
    if tensor_sha256(own[tensor.name]) == tensor.sha256:
        return own[tensor.name]
    raise UsageProblem(
        f"{trace.name}: {tensor.name} is not drawn, the trace does not hold its values, and the model has others. Pass "
        "the weights as --candidate."
    )
