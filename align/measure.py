"""All sides in one precision. Activations are compared as they come; only the reference's and the witness's stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from align import paddle_probe
from align.compare import FLOAT64, UNBOUNDED, LayerDiff, Tolerance, cancellation_of, float32_introduced
from align.layers import Layer
from align.result import LOGITS, Differences, Finding
from align.trace import Points, Trace
from convert.arrays import Array
from convert.variants import TIMM_LAYER_NORM_EPS

Precision = Literal["float32", "float64"]
Figures = dict[str, LayerDiff]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sides:
    """The two models under comparison, and the probe that knows the reference's framework."""

    reference: Any
    candidate: Any
    probe: ModuleType

    def cast(self, precision: Precision) -> None:
        """Cast both models' parameters in place; float32 to float64 changes no value."""
        self.probe.cast(self.reference, precision)
        paddle_probe.cast(self.candidate, precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What passes at one point in one precision: between the sides, of the layer's own making, against the witness."""

    inherited: Tolerance
    introduced: Tolerance
    witness: Tolerance


def bounds_of(point: Layer, precision: Precision, atol: float, truth: Trace) -> Bounds:
    """Return the bounds of a point. In float32 only the logits and what each layer introduces are judged."""
    if precision == "float64":
        return Bounds(inherited=FLOAT64, introduced=FLOAT64, witness=FLOAT64)
    inherited = Tolerance(atol=atol, rtol=0.0) if point.name == LOGITS else UNBOUNDED
    cancellation = 1.0
    if point.normalises:
        cancellation = cancellation_of(truth.values[point.normalises][..., -point.shape[-1] :], TIMM_LAYER_NORM_EPS)
    return Bounds(inherited=inherited, introduced=float32_introduced(point.terms, cancellation), witness=UNBOUNDED)


class Measurement:
    """One precision's run: reference, candidate on its own activations, candidate on the reference's."""

    def __init__(self, points: Sequence[Layer], precision: Precision, truth: Trace, atol: float) -> None:
        self.points, self.precision, self.truth = points, precision, truth
        self.bounds = {point.name: bounds_of(point, precision, atol, truth) for point in points}
        self.reference = Trace()
        self.findings: list[Finding] = []
        self.inherited: Figures = {}
        self.introduced: Figures = {}
        self.reference_vs_witness: Figures = {}
        self.candidate_vs_witness: Figures = {}

    def run(self, sides: Sides, images: Array, progress: Callable[[str], None]) -> Mapping[str, Differences]:
        """Return the figures of every point; none where a side did not show the points expected (see `findings`)."""
        names = [point.name for point in self.points]
        progress(f"{self.precision}: the reference")
        self._watch(
            "the reference",
            self._on_reference,
            lambda tap: sides.probe.forward(sides.reference, images, names, tap),
        )
        progress(f"{self.precision}: Paddle on its own activations")
        self._watch("Paddle", self._on_own, lambda tap: paddle_probe.forward(sides.candidate, images, tap))
        progress(f"{self.precision}: Paddle on the reference's activations")
        self._watch("Paddle", self._on_forced, lambda tap: paddle_probe.forward(sides.candidate, images, tap))
        return {} if self.findings else {name: self._differences(name) for name in names}

    def _watch(self, side: str, on_point: paddle_probe.Tap, forward: Callable[[paddle_probe.Tap], None]) -> None:
        points = Points(self.points, side, self.precision)

        def tap(name: str, value: Array) -> Array | None:
            points.show(name, value)
            return on_point(name, value) if name in self.truth.values else None

        forward(tap)
        self.findings += points.findings()

    def _on_reference(self, name: str, value: Array) -> None:
        self.reference.record(name, value)
        self.reference_vs_witness[name] = self.truth.compare(name, value, self.bounds[name].witness)

    def _on_own(self, name: str, value: Array) -> None:
        if name in self.reference.values:
            self.inherited[name] = self.reference.compare(name, value, self.bounds[name].inherited)
        self.candidate_vs_witness[name] = self.truth.compare(name, value, self.bounds[name].witness)

    def _on_forced(self, name: str, value: Array) -> Array | None:
        if name not in self.reference.values:
            return None
        self.introduced[name] = self.reference.compare(name, value, self.bounds[name].introduced)
        return self.reference.values[name]

    def _differences(self, name: str) -> Differences:
        return Differences(
            inherited=self.inherited[name],
            introduced=self.introduced[name],
            reference_vs_witness=self.reference_vs_witness[name],
            candidate_vs_witness=self.candidate_vs_witness[name],
        )
