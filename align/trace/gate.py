"""Record what a reference computes, and check Paddle alone against the record: no torch, no timm, one small file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from align.alignment import Alignment
from align.core.bounds import LOGITS_ATOL, Accepted
from align.core.case import Case, Settings
from align.core.inputs import images_sha256, in_precision
from align.core.judgement import Evidence, judge
from align.core.lockstep import walk
from align.core.result import Finding
from align.core.sketch import Sketch
from align.core.weights import structure_findings, weight_findings
from align.probes import turn
from align.probes.environment import environment, ordinary
from align.trace.golden import GoldenTrace
from align.trace.recording import Progress, Unrecordable, record
from align.trace.result import IDLE, LogitsDiff, PointRecord, TraceResult, TraceRow, compare_sketch
from align.trace.sketches import Sketches
from align.trace.weights import drawn_again, expected_hashes
from convert.arrays import StateDict, fingerprint, tensor_sha256s
from convert.errors import UsageProblem

__all__ = ["Unrecordable", "case_of_trace", "check", "record"]


def case_of_trace(trace: GoldenTrace, alignment: Alignment, candidate: StateDict | None) -> Case:
    """Return the case for checking a candidate against a recorded trace; its reference is never run.

    Args:
        trace: The recorded trace.
        alignment: The alignment of the trace's family.
        candidate: Weights in Paddle's layout; None: the seeded weights, drawn and converted again.

    Raises:
        IntegrityProblem: The weights drawn again are not the recorded ones.
        UsageProblem: There is no candidate, and the recorded weights were not seeded.
    """
    settings = Settings(batch=trace.batch, input_seed=trace.input_seed, inputs=trace.inputs)
    source = _drawn(trace, alignment) if candidate is None else None
    return alignment.case_of_config(trace.config, settings, source=source, candidate=candidate)


def check(
    trace: GoldenTrace, case: Case, *, atol: float = LOGITS_ATOL, progress: Progress = lambda _: None
) -> TraceResult:
    """Return how Paddle compares with a recorded trace.

    Args:
        trace: The recorded trace.
        case: The case whose candidate is judged; see `case_of_trace` and `align.trace.twins.case_of_twins_trace`.
        atol: Bound on the float32 logits.
        progress: Called with a description of each step before it runs.

    Raises:
        IntegrityProblem: The images drawn again are not the recorded ones.
    """
    drawn_again(images_sha256(case.inputs), trace.input_sha256, "images", trace.input_seed)
    expected, held = expected_hashes(trace.weights), case.candidate.state_dict
    structure, weights = structure_findings(expected, held, case.place), None
    points: tuple[TraceRow, ...] = ()
    logits = None
    if not structure:
        progress("building the Paddle model")
        with turn.taken(), ordinary(), case.candidate.used() as model:
            weights = weight_findings(expected, held, case.candidate.probe.parameters(model), case.place)
            structure, points, logits = _measure(trace, case, model, atol, progress)
    headline = logits and logits.headline(case.headline)
    judged = judge(
        Evidence(
            structure=structure,
            weights=weights,
            rows=points,
            headline=headline or None,
            whose="the recorded",
            left_out=case.left_out,
        )
    )
    return TraceResult(
        name=trace.name,
        gates=judged.gates,
        points=points,
        logits=logits,
        headline=case.headline,
        witness=trace.witnessed,
        left_out=case.left_out,
        accepted=case.accepted,
        verdict=judged.verdict,
        first_divergence=judged.first_divergence,
        input_sha256=trace.input_sha256,
        settings=_settings(trace, atol),
        environment=environment(),
    )


def _settings(trace: GoldenTrace, atol: float) -> dict[str, Any]:
    return {
        "batch": trace.batch,
        "input_seed": trace.input_seed,
        "inputs": trace.inputs,
        "atol": atol,
        "reference": trace.reference,
        "recorded_with": dict(trace.versions),
        "weights": dict(trace.source),
    }


def _measure(
    trace: GoldenTrace, case: Case, model: Any, atol: float, progress: Progress
) -> tuple[list[Finding], tuple[TraceRow, ...], LogitsDiff | None]:
    """Return the findings, a row of figures per point, and the difference of the float32 logits."""
    side, probe = case.sides.candidate, case.candidate.probe
    narrow, wide = Sketches(case, side, "float32"), Sketches(case, side, "float64")
    with probe.tapped(model, {point.name: point.candidate for point in case.points}) as run:
        progress(f"float32: {side}")
        findings = narrow.run(walk(partial(run, case.inputs)))
        probe.cast(model, "float64")
        progress(f"float64: {side}")
        findings += wide.run(walk(partial(run, in_precision(case.inputs, "float64"))))
    if findings:
        return findings, (), None
    idle = _idle(trace, case, wide.by_name)
    rows = tuple(
        _row(point, (narrow.by_name[name], wide.by_name[name]), case.accepted.get(name), idle=name in idle)
        for point in trace.points
        for name in [point.sketch.name]
    )
    gone = [Finding(layer=name, sentence=f"{name}: {IDLE}") for name in idle]
    return narrow.not_finite() or wide.not_finite() or gone, rows, _logits(trace, case, narrow, atol)


def _row(point: PointRecord, shown: tuple[Sketch, Sketch], accepted: Accepted | None, *, idle: bool) -> TraceRow:
    bound = accepted.bound if accepted else 0.0
    return TraceRow(
        name=point.sketch.name,
        shape=point.sketch.shape,
        float64=compare_sketch(point, shown[1], "float64", bound),
        float32=compare_sketch(point, shown[0], "float32", bound),
        accepted=accepted.bound if accepted else None,
        idle=idle,
    )


def _idle(trace: GoldenTrace, case: Case, wide: Mapping[str, Sketch]) -> list[str]:
    """Return the points whose accepted difference is not needed (for an entry of several points, one need suffices)."""
    points = {point.sketch.name: point for point in trace.points}
    needed = {
        id(accepted)
        for name, accepted in case.accepted.items()
        if not compare_sketch(points[name], wide[name], "float64").passed
    }
    return [name for name, accepted in case.accepted.items() if id(accepted) not in needed]


def _logits(trace: GoldenTrace, case: Case, narrow: Sketches, atol: float) -> LogitsDiff:
    recorded = np.array(trace.logits)
    found = float(np.abs(narrow.logits - recorded).max())
    return LogitsDiff(
        max_abs_diff=found,
        bound=atol,
        recorded=len(recorded),
        num_elements=next(math.prod(one.sketch.shape) for one in trace.points if one.sketch.name == case.headline),
        passed=found <= atol,
    )


def _drawn(trace: GoldenTrace, alignment: Alignment) -> StateDict:
    if trace.source["kind"] != "random":
        raise UsageProblem(
            f"{trace.name}: the trace was recorded with {trace.source['file']} (SHA-256 {trace.source['sha256']}). "
            "Convert that file with mixer-convert and pass the result as --candidate."
        )
    source = alignment.draw(trace.config, trace.source["seed"])
    drawn_again(fingerprint(tensor_sha256s(source)), trace.source_fingerprint, "weights", trace.source["seed"])
    return source
