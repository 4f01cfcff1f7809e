"""What a check against a recorded trace found: gates, verdict, first divergence. Pure; bounds are `value <= bound`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from align.core.compare import FLOAT32_ULP, FLOAT64, Tolerance
from align.core.result import Divergence, Finding, Gate
from align.core.sketch import Sketch, distance, summary_distance
from convert.arrays import Shape

Precision = Literal["float64", "float32"]
TraceVerdict = Literal["aligned", "rounding", "diverged"]

MARGIN = 16.0
"""How many times the reference's own rounding at a point Paddle's may be; right ports measure up to 3.4 in float32."""

FLOORS: dict[Precision, Tolerance] = {
    "float64": Tolerance(atol=1e-14, rtol=1e-14),
    "float32": Tolerance(atol=0.0, rtol=FLOAT32_ULP),
}
"""The least rounding that is granted to the reference, which may by chance have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRecord:
    """What a trace keeps of one comparison point.

    sketch: the reference's float64 value. float64_noise, float32_noise: the distance from it of the NumPy witness, and
    of the reference itself in float32; they say how large rounding is at this point.
    """

    sketch: Sketch
    float64_noise: float
    float32_noise: float

    def bound(self, precision: Precision) -> float:
        """Return the greatest distance that passes: MARGIN times the rounding, in float64 at most the full gate's."""
        noise = self.float64_noise if precision == "float64" else self.float32_noise
        bound = MARGIN * max(noise, FLOORS[precision].bound(self.sketch.largest))
        return min(bound, self.summary_bound) if precision == "float64" else bound

    @property
    def summary_bound(self) -> float:
        """The greatest difference of minimum, maximum and rms that passes in float64: the full gate's bound."""
        return FLOAT64.bound(self.sketch.largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SketchDiff:
    """How far Paddle's sketch of a point in one precision lies from the recorded one.

    distance: the root mean square over the projections. summary: the greatest of minimum, maximum and rms, judged in
    float64 only.
    """

    distance: float
    bound: float
    summary: float
    summary_bound: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """One comparison point in both precisions; Paddle ran on its own activations."""

    name: str
    shape: Shape
    float64: SketchDiff
    float32: SketchDiff


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsDiff:
    """The recorded logits against Paddle's in float32: the greatest difference, and how many of all were recorded."""

    max_abs_diff: float
    bound: float
    recorded: int
    num_elements: int
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceResult:
    """The whole outcome of one check."""

    name: str
    gates: tuple[Gate, ...]
    points: tuple[TraceRow, ...]
    logits: LogitsDiff | None
    verdict: TraceVerdict
    first_divergence: Divergence | None
    input_sha256: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]

    def failed(self, *, accept_rounding: bool = False) -> bool:
        """Return whether a CI job has to stop."""
        return self.verdict != "aligned" and not (self.verdict == "rounding" and accept_rounding)


def compare_sketch(recorded: PointRecord, candidate: Sketch, precision: Precision) -> SketchDiff:
    """Return how far a candidate's sketch lies from the recorded one; what is not finite does not pass."""
    found, summary = distance(recorded.sketch, candidate), summary_distance(recorded.sketch, candidate)
    bound, summary_bound = recorded.bound(precision), recorded.summary_bound if precision == "float64" else math.inf
    return SketchDiff(
        distance=found,
        bound=bound,
        summary=summary,
        summary_bound=summary_bound,
        passed=found <= bound and summary <= summary_bound and math.isfinite(summary),
    )


def judge(
    structure: Sequence[Finding],
    weights: Sequence[Finding] | None,
    points: tuple[TraceRow, ...],
    logits: LogitsDiff | None,
) -> tuple[tuple[Gate, ...], TraceVerdict, Divergence | None]:
    """Return the gates, the verdict and the first divergence.

    Args:
        structure: Findings about keys, points, shapes, dtypes and values that are not finite, in forward order.
        weights: Parameters whose bits are not the recorded ones, in forward order; None when they were not compared.
        points: The measured points, in forward order; empty when the structure left nothing to compare.
        logits: The float32 logits; None with no points.
    """
    over32 = [row for row in points if not row.float32.passed]
    gates = (
        _findings_gate("structure", structure, f"{len(points)} points, all finite", ran=bool(points)),
        _findings_gate("weights", weights, "every parameter holds the recorded bits", ran=True),
        _float64_gate(points),
        _float32_gate(points, over32, logits),
    )
    sound = all(gate.passed for gate in gates[:3]) and not over32 and logits is not None
    verdict: TraceVerdict = "diverged" if not sound else "aligned" if gates[3].passed else "rounding"
    return gates, verdict, _first_divergence(structure, weights or [], points) if verdict == "diverged" else None


def _findings_gate(
    name: Literal["structure", "weights"], findings: Sequence[Finding] | None, good: str, *, ran: bool
) -> Gate:
    if findings is None:
        return Gate(name=name, passed=None, sentence="not run")
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        return Gate(name=name, passed=False, sentence=findings[0].sentence + more)
    return Gate(name=name, passed=ran, sentence=good if ran else "nothing was compared")


def _float64_gate(points: tuple[TraceRow, ...]) -> Gate:
    if not points:
        return Gate(name="float64", passed=None, sentence="not run")
    over = [row for row in points if not row.float64.passed]
    worst = max(points, key=lambda row: _nan_last(row.float64.distance / row.float64.bound))
    sentence = f"{len(over)} of {len(points)} points over; worst {_figure(worst.float64)} at {worst.name}"
    return Gate(name="float64", passed=not over, sentence=sentence)


def _float32_gate(points: tuple[TraceRow, ...], over: list[TraceRow], logits: LogitsDiff | None) -> Gate:
    if not points or logits is None:
        return Gate(name="float32", passed=None, sentence="not run")
    worst = max(points, key=lambda row: _nan_last(row.float32.distance / row.float32.bound))
    sign = "≤" if logits.passed else "exceeds"
    sentence = (
        f"logits {logits.max_abs_diff:.2e} {sign} {logits.bound:.1e} ({logits.recorded} of {logits.num_elements} "
        f"recorded); {len(over)} of {len(points)} points over; worst {_figure(worst.float32)} at {worst.name}"
    )
    return Gate(name="float32", passed=logits.passed and not over, sentence=sentence)


def _first_divergence(
    structure: Sequence[Finding], weights: Sequence[Finding], points: tuple[TraceRow, ...]
) -> Divergence | None:
    """Return the first point over in float64, else the first with any other evidence."""
    over = next((row for row in points if not row.float64.passed), None)
    if over is not None:
        cause = next((f"; {finding.sentence}" for finding in weights if finding.layer == over.name), "")
        return Divergence(layer=over.name, sentence=f"{over.name}: float64 {_figure(over.float64)}{cause}")
    for finding in (*structure, *weights):
        return Divergence(layer=finding.layer, sentence=f"{finding.layer}: {finding.sentence}")
    narrow = next((row for row in points if not row.float32.passed), None)
    if narrow is None:
        return None
    return Divergence(layer=narrow.name, sentence=f"{narrow.name}: float32 {_figure(narrow.float32)}")


def _figure(diff: SketchDiff) -> str:
    if diff.distance <= diff.bound and not diff.summary <= diff.summary_bound:
        return f"extrema or norm {diff.summary:.2e} away, exceeds {diff.summary_bound:.1e}"
    return f"projections {diff.distance:.2e} away, {'≤' if diff.distance <= diff.bound else 'exceeds'} {diff.bound:.1e}"


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
