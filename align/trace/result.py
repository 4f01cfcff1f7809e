"""What a check against a recorded trace found: gates, verdict, first divergence. Pure; bounds are `value <= bound`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.core.bounds import Precision, explained_by, wide_bound
from align.core.judgement import Headline, nan_last
from align.core.result import Divergence, Gate, Verdict
from align.core.sketch import Sketch, distance, summary_distance
from convert.arrays import Shape


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
        """Return the greatest distance that passes: what the rounding explains, in float64 at most the full gate's."""
        noise = self.float64_noise if precision == "float64" else self.float32_noise
        bound = explained_by(noise, precision).bound(self.sketch.largest)
        return min(bound, self.summary_bound) if precision == "float64" else bound

    @property
    def summary_bound(self) -> float:
        """The greatest difference of minimum, maximum and rms that passes in float64: the full gate's bound."""
        return wide_bound(self.float32_noise).bound(self.sketch.largest)


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

    @property
    def said(self) -> str:
        """What is worst about it, and the bound."""
        if self.distance <= self.bound and not self.summary <= self.summary_bound:
            return f"extrema or norm {self.summary:.2e} away, exceeds {self.summary_bound:.1e}"
        sign = "≤" if self.distance <= self.bound else "exceeds"
        return f"projections {self.distance:.2e} away, {sign} {self.bound:.1e}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """One point in both precisions, a `align.core.judgement.Row`; Paddle ran on its own activations."""

    name: str
    shape: Shape
    float64: SketchDiff
    float32: SketchDiff

    def passed(self, precision: Precision) -> bool:
        """Return whether it is within its bounds."""
        return self._in(precision).passed

    def severity(self, precision: Precision) -> float:
        """Return its distance over the bound."""
        return nan_last(self._in(precision).distance / self._in(precision).bound)

    def figure(self, precision: Precision) -> str:
        """Return its distance in words."""
        return f"worst {self._in(precision).said} at {self.name}".removeprefix(
            "worst " if precision == "float64" else ""
        )

    def placed(self, precision: Precision) -> str | None:
        """Return what is over."""
        return None if self.passed(precision) else f"{precision} {self._in(precision).said}"

    def not_finite(self) -> None:
        """Return nothing: where a side is not finite, no row is made."""

    def beyond(self) -> None:
        """Return nothing: there is no other evidence."""

    def _in(self, precision: Precision) -> SketchDiff:
        return self.float64 if precision == "float64" else self.float32


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsDiff:
    """The recorded logits against Paddle's in float32: the greatest difference, and how many of all were recorded."""

    max_abs_diff: float
    bound: float
    recorded: int
    num_elements: int
    passed: bool

    def headline(self, name: str) -> Headline:
        """Return it as what is judged."""
        sign = "≤" if self.passed else "exceeds"
        sentence = (
            f"{name} {self.max_abs_diff:.2e} {sign} {self.bound:.1e} ({self.recorded} of {self.num_elements} recorded)"
        )
        return Headline(name=name, passed=self.passed, sentence=sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceResult:
    """The whole outcome of one check."""

    name: str
    gates: tuple[Gate, ...]
    points: tuple[TraceRow, ...]
    logits: LogitsDiff | None
    verdict: Verdict
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
