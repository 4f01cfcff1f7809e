"""Record what a reference computes, and check Paddle alone against the record: no torch, no timm, one small file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any, ClassVar

import numpy as np

from align.alignment import Alignment
from align.core.bounds import LOGITS_ATOL, Precision, wide_bound
from align.core.case import Case, Settings
from align.core.inputs import images_sha256
from align.core.judgement import Evidence, judge
from align.core.lockstep import Side, Walk, WrongPoint, check_form, walk
from align.core.result import Finding
from align.core.sketch import Sketch, distance, sketch, summary_distance
from align.core.weights import structure_findings, weight_findings
from align.probes.environment import environment
from align.trace.result import LogitsDiff, PointRecord, TraceResult, TraceRow, compare_sketch
from align.trace.trace_file import GoldenTrace, TensorRecord, logits_kept
from align.trace.weights import expected_hashes
from convert.arrays import Array, StateDict, fingerprint, tensor_sha256s
from convert.errors import IntegrityProblem, MixerConvertError, UsageProblem

RECORDED_SOURCE = ("kind", "seed", "file", "sha256", "repo_id", "revision")
RECORDED_VERSIONS = ("mixer-convert", "numpy", "torch", "timm", "flax")
Progress = Callable[[str], None]


class Unrecordable(MixerConvertError):
    """A reference that is not the function it should be, so that there is no truth to record (exit 1)."""

    exit_code: ClassVar[int] = 1


class Sketches:
    """One side's run in one precision: a sketch a point, the logits, and where it did not show what was expected."""

    def __init__(self, case: Case, side: str, precision: Precision) -> None:
        self._case, self._side, self._precision = case, side, precision
        self.by_name: dict[str, Sketch] = {}
        self.logits = np.empty(0)

    def run(self, shown: Walk) -> list[Finding]:
        """Sketch each point as it comes; return where they are not those expected."""
        with closing(Side(self._side, shown)) as side:
            try:
                for point in self._case.points:
                    value = side.at(point.name)
                    check_form(self._side, point, value, point.shape or value.shape, self._precision)
                    self._keep(point.name, value)
                side.end(self._case.headline)
            except WrongPoint as wrong:
                return [wrong.finding]
        return []

    def not_finite(self) -> list[Finding]:
        """Return the points that hold a NaN or an infinity, in forward order."""
        return [
            Finding(layer=name, sentence=f"{self._side} is not finite at {name}")
            for name, kept in self.by_name.items()
            if not kept.finite
        ]

    def _keep(self, name: str, value: Array) -> None:
        self.by_name[name] = sketch(name, value)
        if name == self._case.headline:
            self.logits = logits_kept(value).astype(np.float64)


def record(case: Case, settings: Settings, *, progress: Progress = lambda _: None) -> GoldenTrace:
    """Return what the reference computes on one seeded batch.

    Args:
        case: The weights; its candidate plays no part.
        settings: Batch and seed of the images.
        progress: Is told what is about to run.

    Raises:
        Unrecordable: The reference leaves the NumPy witness in float64, or does not show the points expected.
        UsageProblem: There is no witness.
    """
    case.check_drawn_by(settings)
    narrow, wide, truth = _reference(case, progress)
    _refuse_to_leave(case, narrow, wide, truth)
    provenance = case.settings["weights"] or {"kind": "file"}
    versions = environment()["versions"]
    return GoldenTrace(
        name=case.name,
        family=case.family,
        config=case.config,
        reference=case.settings["reference"],
        source={key: provenance.get(key) for key in RECORDED_SOURCE},
        source_fingerprint=fingerprint(tensor_sha256s(case.reference.state_dict)),
        batch=settings.batch,
        input_seed=settings.input_seed,
        inputs=settings.inputs,
        input_sha256=images_sha256(case.inputs),
        versions={key: versions[key] for key in RECORDED_VERSIONS if key in versions},
        logits=tuple(wide.logits.tolist()),
        weights=_tensor_records(case.expected),
        points=tuple(_point_record(name, narrow, wide, truth) for name in wide.by_name),
    )


def _reference(case: Case, progress: Progress) -> tuple[Sketches, Sketches, Sketches]:
    """Return the sketches of the reference in float32 and in float64, and those of the witness."""
    if case.witness is None:
        raise UsageProblem(f"{case.name}: there is no witness to record its truth with.")
    probe, side = case.reference.probe, case.sides.reference
    narrow, wide = Sketches(case, side, "float32"), Sketches(case, side, "float64")
    truth = Sketches(case, "the NumPy witness", "float64")
    progress("building the reference")
    model = case.reference.build()
    with probe.tapped(model, {point.name: point.reference for point in case.points}) as run:
        progress("float32: the reference")
        findings = narrow.run(walk(partial(run, case.inputs)))
        probe.cast(model, "float64")
        progress("float64: the reference, then the NumPy witness")
        findings += wide.run(walk(partial(run, case.inputs.astype(np.float64))))
    findings += truth.run(case.witness(case.reference.state_dict, case.inputs))
    findings += narrow.not_finite() + wide.not_finite()
    if findings:
        raise Unrecordable(f"{case.name}: {findings[0].sentence}. There is nothing to record.")
    return narrow, wide, truth


def _refuse_to_leave(case: Case, narrow: Sketches, wide: Sketches, truth: Sketches) -> None:
    for name, recorded in wide.by_name.items():
        found = max(distance(recorded, truth.by_name[name]), summary_distance(recorded, truth.by_name[name]))
        bound = wide_bound(distance(recorded, narrow.by_name[name])).bound(recorded.largest)
        if not found <= bound:
            raise Unrecordable(
                f"{case.name}: {name}: {case.sides.reference} is {found:.1e} away from the NumPy witness, bound "
                f"{bound:.1e}, so there is no truth to record. Run mixer-align on it first."
            )


def _point_record(name: str, narrow: Sketches, wide: Sketches, truth: Sketches) -> PointRecord:
    kept = wide.by_name[name]
    return PointRecord(
        sketch=kept,
        float64_noise=distance(kept, truth.by_name[name]),
        float32_noise=distance(kept, narrow.by_name[name]),
    )


def _tensor_records(expected: StateDict) -> tuple[TensorRecord, ...]:
    return tuple(
        TensorRecord(name=key, dtype=expected[key].dtype.name, shape=expected[key].shape, sha256=sha256)
        for key, sha256 in tensor_sha256s(expected).items()
    )


def case_of_trace(trace: GoldenTrace, alignment: Alignment, candidate: StateDict | None) -> Case:
    """Return the case of a recorded trace, whose reference will not be run.

    Args:
        trace: The record.
        alignment: Of its family.
        candidate: Weights in Paddle's layout; None: the seeded ones, drawn and converted again.

    Raises:
        IntegrityProblem: The weights drawn again are not the recorded ones.
        UsageProblem: There is no candidate, and the weights were not seeded.
    """
    settings = Settings(batch=trace.batch, input_seed=trace.input_seed, inputs=trace.inputs)
    source = _drawn(trace, alignment) if candidate is None else None
    return alignment.case_of_config(trace.config, settings, source=source, candidate=candidate)


def check(
    trace: GoldenTrace, case: Case, *, atol: float = LOGITS_ATOL, progress: Progress = lambda _: None
) -> TraceResult:
    """Return how Paddle compares with a recorded trace.

    Args:
        trace: The record.
        case: Its candidate is judged; see `case_of_trace`.
        atol: Bound on the float32 logits.
        progress: Is told what is about to run.

    Raises:
        IntegrityProblem: The images drawn again are not the recorded ones.
    """
    _same(images_sha256(case.inputs), trace.input_sha256, "images", trace.input_seed)
    expected, held = expected_hashes(trace.weights), case.candidate.state_dict
    structure, weights = structure_findings(expected, held, case.place), None
    points: tuple[TraceRow, ...] = ()
    logits = None
    if not structure:
        progress("building the Paddle model")
        model = case.candidate.build()
        weights = weight_findings(expected, held, case.candidate.probe.parameters(model), case.place)
        structure, points, logits = _measure(trace, case, model, atol, progress)
    headline = logits and logits.headline(case.headline)
    judged = judge(
        Evidence(structure=structure, weights=weights, rows=points, headline=headline or None, whose="the recorded")
    )
    return TraceResult(
        name=trace.name,
        gates=judged.gates,
        points=points,
        logits=logits,
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
    """Return the points at fault, the figures of all points shown, and those of the float32 logits."""
    side, probe = case.sides.candidate, case.candidate.probe
    narrow, wide = Sketches(case, side, "float32"), Sketches(case, side, "float64")
    with probe.tapped(model, {point.name: point.candidate for point in case.points}) as run:
        progress(f"float32: {side}")
        findings = narrow.run(walk(partial(run, case.inputs)))
        probe.cast(model, "float64")
        progress(f"float64: {side}")
        findings += wide.run(walk(partial(run, case.inputs.astype(np.float64))))
    if findings:
        return findings, (), None
    rows = tuple(_row(point, narrow.by_name, wide.by_name) for point in trace.points)
    return narrow.not_finite() or wide.not_finite(), rows, _logits(trace, case, narrow, atol)


def _row(point: PointRecord, narrow: Mapping[str, Sketch], wide: Mapping[str, Sketch]) -> TraceRow:
    name = point.sketch.name
    return TraceRow(
        name=name,
        shape=point.sketch.shape,
        float64=compare_sketch(point, wide[name], "float64"),
        float32=compare_sketch(point, narrow[name], "float32"),
    )


def _logits(trace: GoldenTrace, case: Case, narrow: Sketches, atol: float) -> LogitsDiff:
    recorded = np.array(trace.logits)
    found = float(np.abs(narrow.logits - recorded).max())
    return LogitsDiff(
        max_abs_diff=found,
        bound=atol,
        recorded=len(recorded),
        num_elements=trace.batch * case.classes,
        passed=found <= atol,
    )


def _drawn(trace: GoldenTrace, alignment: Alignment) -> StateDict:
    if trace.source["kind"] != "random":
        raise UsageProblem(
            f"{trace.name}: the trace was recorded with {trace.source['file']} (SHA-256 {trace.source['sha256']}). "
            "Convert that file with mixer-convert and pass the result as --candidate."
        )
    source = alignment.draw(trace.config, trace.source["seed"])
    _same(fingerprint(tensor_sha256s(source)), trace.source_fingerprint, "weights", trace.source["seed"])
    return source


def _same(found: str, recorded: str, what: str, seed: int) -> None:
    if found != recorded:
        raise IntegrityProblem(
            f"seed {seed}: the {what} drawn are not those that were recorded (SHA-256 {found[:16]}… against "
            f"{recorded[:16]}…), so NumPy {np.__version__} draws otherwise. Record the trace again with this NumPy."
        )
