"""Record what a reference computes, and check Paddle alone against the record: no torch, no timm, one small file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from align.core.compare import FLOAT64, LOGITS_ATOL
from align.core.inputs import images_sha256, seeded_images
from align.core.lockstep import Side, Walk, WrongPoint, walk
from align.core.result import FRAMEWORKS, LOGITS, Finding
from align.core.sketch import Sketch, distance, sketch, summary_distance
from align.core.weights import in_float32
from align.mixer import witness
from align.mixer.points import Layer, layers_of
from align.probes import paddle_probe
from align.probes.environment import environment
from align.trace.result import LogitsDiff, PointRecord, Precision, TraceResult, TraceRow, compare_sketch, judge
from align.trace.trace_file import GoldenTrace, TensorRecord, logits_kept
from align.trace.weights import held_findings, structure_findings, weight_findings
from convert.arrays import Array, StateDict, fingerprint, tensor_sha256s
from convert.errors import IntegrityProblem, MixerConvertError, UsageProblem
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict

if TYPE_CHECKING:
    from align.run import Settings, Subject

RECORDED_SOURCE = ("kind", "seed", "file", "sha256", "repo_id", "revision")
RECORDED_VERSIONS = ("mixer-convert", "numpy", "torch", "timm", "flax")
Progress = Callable[[str], None]


class Unrecordable(MixerConvertError):
    """A reference that is not the function it should be, so that there is no truth to record (exit 1)."""

    exit_code: ClassVar[int] = 1


class Sketches:
    """One side's run in one precision: a sketch a point, the logits, and where it did not show what was expected."""

    def __init__(self, layers: Sequence[Layer], side: str, precision: Precision) -> None:
        self._layers, self._side, self._precision = layers, side, precision
        self.by_name: dict[str, Sketch] = {}
        self.logits = np.empty(0)

    def run(self, points: Walk) -> list[Finding]:
        """Sketch each point as it comes; return where they are not those expected."""
        with closing(Side(self._side, points, self._precision)) as side:
            try:
                for layer in self._layers:
                    self._keep(layer.name, side.at(layer))
                side.end()
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
        if name == LOGITS:
            self.logits = logits_kept(value).astype(np.float64)


def record(subject: Subject, settings: Settings, *, progress: Progress = lambda _: None) -> GoldenTrace:
    """Return what the reference computes on one seeded batch.

    Args:
        subject: The weights; a candidate in it plays no part.
        settings: Batch and seed of the images.
        progress: Is told what is about to run.

    Raises:
        Unrecordable: The reference leaves the NumPy witness in float64, or does not show the points expected.
    """
    images = seeded_images(subject.config, settings.batch, settings.input_seed, settings.inputs)
    narrow, wide, truth = _run(subject, images, progress)
    _refuse_to_leave(subject.name, FRAMEWORKS[subject.reference], wide, truth)
    provenance = subject.provenance or {"kind": "file"}
    versions = environment()["versions"]
    return GoldenTrace(
        name=subject.name,
        config=subject.config,
        reference=subject.reference,
        source={key: provenance.get(key) for key in RECORDED_SOURCE},
        source_fingerprint=fingerprint(tensor_sha256s(subject.source)),
        batch=settings.batch,
        input_seed=settings.input_seed,
        inputs=settings.inputs,
        input_sha256=images_sha256(images),
        versions={key: versions[key] for key in RECORDED_VERSIONS if key in versions},
        logits=tuple(wide.logits.tolist()),
        weights=_tensor_records(subject),
        points=tuple(_point_record(name, narrow, wide, truth) for name in wide.by_name),
    )


def _run(subject: Subject, images: Array, progress: Progress) -> tuple[Sketches, Sketches, Sketches]:
    """Return the sketches of the reference in float32 and in float64, and those of the witness."""
    from align.run import PROBES, reference_model

    layers, probe = layers_of(subject.config, len(images)), PROBES[subject.reference]
    names, side = [layer.name for layer in layers], FRAMEWORKS[subject.reference]
    narrow, wide = Sketches(layers, side, "float32"), Sketches(layers, side, "float64")
    truth = Sketches(layers, "the NumPy witness", "float64")
    progress("building the reference")
    model = reference_model(subject)
    progress("float32: the reference")
    findings = narrow.run(walk(lambda tap: probe.forward(model, images, names, tap)))
    probe.cast(model, "float64")
    progress("float64: the reference, then the NumPy witness")
    findings += wide.run(walk(lambda tap: probe.forward(model, images.astype(np.float64), names, tap)))
    findings += truth.run(witness.forward(subject.config, subject.source, images))
    findings += narrow.not_finite() + wide.not_finite()
    if findings:
        raise Unrecordable(f"{subject.name}: {findings[0].sentence}. There is nothing to record.")
    return narrow, wide, truth


def _refuse_to_leave(subject: str, side: str, wide: Sketches, truth: Sketches) -> None:
    for name, recorded in wide.by_name.items():
        found = max(distance(recorded, truth.by_name[name]), summary_distance(recorded, truth.by_name[name]))
        bound = FLOAT64.bound(recorded.largest)
        if not found <= bound:
            raise Unrecordable(
                f"{subject}: {name}: {side} is {found:.1e} away from the NumPy witness, bound {bound:.1e}, so there is "
                "no truth to record. Run mixer-align on it first."
            )


def _point_record(name: str, narrow: Sketches, wide: Sketches, truth: Sketches) -> PointRecord:
    kept = wide.by_name[name]
    return PointRecord(
        sketch=kept,
        float64_noise=distance(kept, truth.by_name[name]),
        float32_noise=distance(kept, narrow.by_name[name]),
    )


def _tensor_records(subject: Subject) -> tuple[TensorRecord, ...]:
    converted = convert_state_dict(subject.source, subject.config).state_dict
    return tuple(
        TensorRecord(name=key, dtype=converted[key].dtype.name, shape=converted[key].shape, sha256=sha256)
        for key, sha256 in tensor_sha256s(converted).items()
    )


def check(
    trace: GoldenTrace,
    candidate: StateDict | None = None,
    *,
    atol: float = LOGITS_ATOL,
    build_candidate: Callable[..., Any] = paddle_probe.build,
    progress: Progress = lambda _: None,
) -> TraceResult:
    """Return how Paddle compares with a recorded trace.

    Args:
        trace: The record.
        candidate: Weights in Paddle's layout; by default the seeded ones, drawn and converted again.
        atol: Bound on the float32 logits.
        build_candidate: Builds the Paddle model from a config and a float32 state dict.
        progress: Is told what is about to run.

    Raises:
        IntegrityProblem: The images or weights drawn again are not the recorded ones.
        UsageProblem: There is no candidate, and the weights were not seeded.
    """
    images = seeded_images(trace.config, trace.batch, trace.input_seed, trace.inputs)
    _same(images_sha256(images), trace.input_sha256, "images", trace.input_seed)
    held = _seeded(trace) if candidate is None else candidate
    structure, weights = structure_findings(trace.weights, held), None
    points: tuple[TraceRow, ...] = ()
    logits = None
    if not structure:
        progress("building the Paddle model")
        model = build_candidate(trace.config, in_float32(held))
        weights = weight_findings(trace.weights, held) or held_findings(held, paddle_probe.parameters(model))
        structure, points, logits = _measure(trace, model, images, atol, progress)
    gates, verdict, first_divergence = judge(structure, weights, points, logits)
    return TraceResult(
        name=trace.name,
        gates=gates,
        points=points,
        logits=logits,
        verdict=verdict,
        first_divergence=first_divergence,
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
    trace: GoldenTrace, model: Any, images: Array, atol: float, progress: Progress
) -> tuple[list[Finding], tuple[TraceRow, ...], LogitsDiff | None]:
    """Return the points at fault, the figures of all points shown, and those of the float32 logits."""
    layers = layers_of(trace.config, trace.batch)
    narrow, wide = Sketches(layers, "Paddle", "float32"), Sketches(layers, "Paddle", "float64")
    progress("float32: Paddle")
    findings = narrow.run(walk(lambda tap: paddle_probe.forward(model, images, tap)))
    paddle_probe.cast(model, "float64")
    progress("float64: Paddle")
    findings += wide.run(walk(lambda tap: paddle_probe.forward(model, images.astype(np.float64), tap)))
    if findings:
        return findings, (), None
    rows = tuple(_row(point, narrow.by_name, wide.by_name) for point in trace.points)
    return narrow.not_finite() or wide.not_finite(), rows, _logits(trace, narrow, atol)


def _row(point: PointRecord, narrow: Mapping[str, Sketch], wide: Mapping[str, Sketch]) -> TraceRow:
    name = point.sketch.name
    return TraceRow(
        name=name,
        shape=point.sketch.shape,
        float64=compare_sketch(point, wide[name], "float64"),
        float32=compare_sketch(point, narrow[name], "float32"),
    )


def _logits(trace: GoldenTrace, narrow: Sketches, atol: float) -> LogitsDiff:
    recorded = np.array(trace.logits)
    found = float(np.abs(narrow.logits - recorded).max())
    return LogitsDiff(
        max_abs_diff=found,
        bound=atol,
        recorded=len(recorded),
        num_elements=trace.batch * trace.config.num_classes,
        passed=found <= atol,
    )


def _seeded(trace: GoldenTrace) -> StateDict:
    if trace.source["kind"] != "random":
        raise UsageProblem(
            f"{trace.name}: the trace was recorded with {trace.source['file']} (SHA-256 {trace.source['sha256']}). "
            "Convert that file with mixer-convert and pass the result as --candidate."
        )
    source = init_state_dict(trace.config, trace.source["seed"])
    _same(fingerprint(tensor_sha256s(source)), trace.source_fingerprint, "weights", trace.source["seed"])
    return convert_state_dict(source, trace.config).state_dict


def _same(found: str, recorded: str, what: str, seed: int) -> None:
    if found != recorded:
        raise IntegrityProblem(
            f"seed {seed}: the {what} drawn are not those that were recorded (SHA-256 {found[:16]}… against "
            f"{recorded[:16]}…), so NumPy {np.__version__} draws otherwise. Record the trace again with this NumPy."
        )
