"""All sides in one precision, in step: each point's values are compared as they come, and not kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Literal

from align.core.compare import FLOAT64, UNBOUNDED, Tolerance, cancellation_of, compare, float32_introduced, largest
from align.core.lockstep import Lanes, Side, Tap, Walk, WrongPoint, walk
from align.core.result import LOGITS, Differences, Finding
from align.mixer.points import Layer
from align.probes import paddle_probe
from align.probes.heap import give_back
from convert.arrays import Array
from convert.mixer.variants import TIMM_LAYER_NORM_EPS

Precision = Literal["float32", "float64"]
POINTS_PER_TIDY = 10
"""A Mixer's block. Each side's thread has a heap of its own, where what it freed would stay: 0.8 GB in all for L/16."""

Observe = Callable[[Layer, Array, Array], object]
"""Is shown a point and what the reference and the candidate, each on its own activations, have there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sides:
    """The two models under comparison, the probe that knows the reference's framework, and where they compute ahead."""

    reference: Any
    candidate: Any
    probe: ModuleType
    lanes: Lanes

    def cast(self, precision: Precision) -> None:
        """Cast both models' parameters in place; float32 to float64 changes no value."""
        give_back()  # before the greatest need of memory: one model in both precisions beside the other one
        self.probe.cast(self.reference, precision)
        give_back()
        paddle_probe.cast(self.candidate, precision)

    def forward_reference(self, images: Array, points: Sequence[Layer], tap: Tap) -> None:
        """Run the reference on images and show each point to the tap."""
        self.probe.forward(self.reference, images, [point.name for point in points], tap)

    def forward_candidate(self, images: Array, tap: Tap) -> None:
        """Run the candidate on images and show each point to the tap."""
        paddle_probe.forward(self.candidate, images, tap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What passes at one point in one precision: between the sides, of the layer's own making, against the witness."""

    inherited: Tolerance
    introduced: Tolerance
    witness: Tolerance


def bounds_of(point: Layer, precision: Precision, atol: float, cancellation: float) -> Bounds:
    """Return the bounds of a point. In float32 only the logits and what each layer introduces are judged."""
    if precision == "float64":
        return Bounds(inherited=FLOAT64, introduced=FLOAT64, witness=FLOAT64)
    inherited = Tolerance(atol=atol, rtol=0.0) if point.name == LOGITS else UNBOUNDED
    return Bounds(inherited=inherited, introduced=float32_introduced(point.terms, cancellation), witness=UNBOUNDED)


class Measurement:
    """One precision's run: witness, reference, candidate on its own activations, candidate on the reference's."""

    def __init__(self, points: Sequence[Layer], precision: Precision, atol: float) -> None:
        self.points, self.precision, self.atol = points, precision, atol
        self.findings: list[Finding] = []
        self._norm_after = {point.normalises: point for point in points if point.normalises}
        self._cancellation: dict[str, float] = {}

    def run(
        self,
        sides: Sides,
        images: Array,
        witness: Walk,
        progress: Callable[[str], None],
        observe: Observe = lambda *_: None,
    ) -> Mapping[str, Differences]:
        """Return the figures of every point; none where a side did not show the points expected (see `findings`).

        Args:
            sides: Both models, in this precision.
            images: In this precision.
            witness: The witness's points, float64.
            progress: Is told each point.
            observe: Is shown each point's values.
        """
        figures = {}
        on_reference = partial(sides.forward_reference, images, self.points)
        on_candidate = partial(sides.forward_candidate, images)
        lanes = sides.lanes
        with (
            closing(Side("the witness", witness, "float64", lanes.witness)) as truth,
            closing(Side("the reference", walk(on_reference), self.precision, lanes.reference)) as reference,
            closing(Side("Paddle", walk(on_candidate), self.precision, lanes.candidate)) as own,
            closing(Side("Paddle", walk(on_candidate), self.precision, lanes.candidate)) as forced,
        ):
            together = (truth, reference, own, forced)
            try:
                for i, point in enumerate(self.points):
                    if i % POINTS_PER_TIDY == 0:
                        give_back()
                    progress(f"{self.precision}: {point.name}")
                    true, there, here, introduced = (side.at(point) for side in together)
                    forced.replace(there)
                    for side in together:
                        side.go_on()
                    figures[point.name] = self._differences(point, true, there, here, introduced)
                    observe(point, there, here)
                for side in together:
                    side.end()
            except WrongPoint as wrong:
                self.findings.append(wrong.finding)
                return {}
        return figures

    def _differences(self, point: Layer, truth: Array, reference: Array, own: Array, forced: Array) -> Differences:
        bounds = bounds_of(point, self.precision, self.atol, self._cancellation.get(point.name, 1.0))
        self._note_cancellation(point, truth)
        scale, true_scale = largest(reference), largest(truth)
        return Differences(
            inherited=compare(point.name, reference, own, bounds.inherited, scale),
            introduced=compare(point.name, reference, forced, bounds.introduced, scale),
            reference_vs_witness=compare(point.name, truth, reference, bounds.witness, true_scale),
            candidate_vs_witness=compare(point.name, truth, own, bounds.witness, true_scale),
        )

    def _note_cancellation(self, point: Layer, truth: Array) -> None:
        """Note what cancels in the LayerNorm behind this point, while its true value is at hand."""
        norm = self._norm_after.get(point.name)
        if norm is not None and self.precision == "float32":
            rows = truth[..., -norm.shape[-1] :]
            self._cancellation[norm.name] = cancellation_of(rows, TIMM_LAYER_NORM_EPS)
