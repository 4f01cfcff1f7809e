"""What a check against a recorded trace found: gates, verdict, first divergence. Pure; bounds are `value <= bound`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.core.bounds import Accepted, Precision, explained_by, wide_bound
from align.core.judgement import Headline, nan_last
from align.core.result import Divergence, Gate, Verdict
from align.core.sketch import Sketch, distance, summary_distance
from convert.arrays import Shape

IDLE = "its difference is accepted, and there is none beyond rounding. Take it out of [accepted], and record again"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRecord:
    """What a trace keeps of one comparison point.

    sketch: Of the reference's float64 value. float64_noise: The distance between it and the NumPy witness; None without
    one. float32_noise: The distance to the reference in float32. Both say how large rounding is at this point.
    """

    sketch: Sketch
    float64_noise: float | None
    float32_noise: float

    def bound(self, precision: Precision) -> float:
        """Return the greatest passing distance: what rounding explains, in float64 at most the full gate's bound."""
        noise = self.float64_noise if precision == "float64" else self.float32_noise
        if noise is None:
            return self.summary_bound
        bound = explained_by(noise, precision).bound(self.sketch.largest)
        return min(bound, self.summary_bound) if precision == "float64" else bound

    @property
    def summary_bound(self) -> float:
        """The greatest difference in minimum, maximum or rms that passes in float64: the full gate's bound."""
        return wide_bound(self.float32_noise).bound(self.sketch.largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SketchDiff:
    """How far the candidate's sketch of a point, in one precision, lies from the recorded one.

    distance: The root mean square of the projections' differences. summary: The greatest difference in minimum, maximum
    or rms, judged in float64 only.
    """

    distance: float
    bound: float
    summary: float
    summary_bound: float
    passed: bool

    @property
    def said(self) -> str:
        """In words, the figure at fault (the distance if both or neither are) and its bound."""
        if self.distance <= self.bound and not self.summary <= self.summary_bound:
            return f"extrema or norm {self.summary:.2e} away, exceeds {self.summary_bound:.1e}"
        sign = "≤" if self.distance <= self.bound else "exceeds"
        return f"projections {self.distance:.2e} away, {sign} {self.bound:.1e}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """One point in both precisions, an `align.core.judgement.Row`; Paddle ran on its own activations.

    accepted: The bound of the difference accepted here, if any. idle: A difference is accepted, but nothing needs it.
    """

    name: str
    shape: Shape
    float64: SketchDiff
    float32: SketchDiff
    accepted: float | None = None
    idle: bool = False

    def passed(self, precision: Precision) -> bool:
        """Return whether the point is within its bounds."""
        return self._in(precision).passed

    def severity(self, precision: Precision) -> float:
        """Return the point's distance as a multiple of its bound; NaN counts as infinite."""
        found = self._in(precision)
        if found.bound == 0:  # where every value is 0, so nothing is rounded
            return 0.0 if found.distance == 0 else math.inf
        return nan_last(found.distance / found.bound)

    def figure(self, precision: Precision) -> str:
        """Return the point's figure and its bound, as a gate's sentence has them."""
        return f"worst {self._in(precision).said} at {self.name}".removeprefix(
            "worst " if precision == "float64" else ""
        )

    def placed(self, precision: Precision) -> str | None:
        """Return in words what went wrong at this point; None where nothing did."""
        if self.idle and precision == "float64":
            return IDLE
        return None if self.passed(precision) else f"{precision} {self._in(precision).said}"

    def not_finite(self) -> None:
        """Return None: a value that is not finite is reported as a finding instead."""

    def beyond(self) -> None:
        """Return None: there is no other evidence."""

    def _in(self, precision: Precision) -> SketchDiff:
        return self.float64 if precision == "float64" else self.float32


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsDiff:
    """The candidate's float32 logits against the recorded ones: max_abs_diff, and how many of all were recorded."""

    max_abs_diff: float
    bound: float
    recorded: int
    num_elements: int
    passed: bool

    def headline(self, name: str) -> Headline:
        """Return the difference as the headline to be judged."""
        sign = "≤" if self.passed else "exceeds"
        sentence = (
            f"{name} {self.max_abs_diff:.2e} {sign} {self.bound:.1e} ({self.recorded} of {self.num_elements} recorded)"
        )
        return Headline(name=name, passed=self.passed, sentence=sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceResult:
    """The whole outcome of one check; true where the verdict is `aligned`, or is `rounding` and that is accepted.

    headline: The point that the models exist to compute. witness: Whether a witness confirmed the reference when it was
    recorded. left_out: The points that the candidate does not show, and why. accepted: Points whose difference is
    accepted.
    """

    name: str
    gates: tuple[Gate, ...]
    points: tuple[TraceRow, ...]
    logits: LogitsDiff | None
    headline: str
    witness: bool
    left_out: Mapping[str, str]
    accepted: Mapping[str, Accepted]
    verdict: Verdict
    first_divergence: Divergence | None
    input_sha256: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    accept_rounding: bool = False

    def __bool__(self) -> bool:
        """Return whether the verdict is `aligned`, or is `rounding` and that is accepted."""
        return not self.failed(accept_rounding=self.accept_rounding)

    def failed(self, *, accept_rounding: bool = False) -> bool:
        """Return whether a CI job has to stop."""
        return self.verdict != "aligned" and not (self.verdict == "rounding" and accept_rounding)


def compare_sketch(recorded: PointRecord, candidate: Sketch, precision: Precision, accepted: float = 0.0) -> SketchDiff:
    """Return how far the candidate's sketch lies from the recorded one; a value that is not finite does not pass.

    Args:
        recorded: The point's record, made from the reference.
        candidate: The candidate's sketch, of the same shape.
        precision: The candidate's precision.
        accepted: An absolute difference that passes in any case.
    """
    found, summary = distance(recorded.sketch, candidate), summary_distance(recorded.sketch, candidate)
    bound = max(recorded.bound(precision), accepted)
    summary_bound = max(recorded.summary_bound, accepted) if precision == "float64" else math.inf
    return SketchDiff(
        distance=found,
        bound=bound,
        summary=summary,
        summary_bound=summary_bound,
        passed=found <= bound and summary <= summary_bound and math.isfinite(summary),
    )
