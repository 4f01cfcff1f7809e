"""All sides run in lockstep in one precision: each point's values are compared as they arrive, and not kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from align.core.bounds import UNBOUNDED, Precision, Roundings, Tolerance
from align.core.case import Case
from align.core.compare import compare, largest
from align.core.inputs import in_precision
from align.core.lockstep import Lanes, Shown, Side, Walk, WrongPoint, check_form, walk
from align.core.point import Point
from align.core.probe import Forward
from align.core.result import Differences, Finding
from align.probes.heap import give_back
from convert.arrays import Array, total_bytes

POINTS_PER_TIDY = 10
"""Points between tidyings: a Mixer's block. Each side's thread has a heap, which would keep 0.8 GB in all for L/16."""

TIDY_FROM = 2**29
"""Bytes of weights from which that is worth it: for B/16 (304 MB) it would save 0.2 GB of 3.6 and take 2 s of 22."""


def saves_memory(case: Case) -> bool:
    """Return whether to give freed memory back on the way, and to hold other weights for one side at a time.

    Without a witness, models may be convolutional, with maps large beside their weights: 0.5 GB of 1.8 for ResNet-50.
    """
    return case.witness is None or total_bytes(case.reference.state_dict.values()) >= TIDY_FROM


Progress = Callable[[str], None]
Observe = Callable[[Point, Array, Array], object]
"""Called with a point and the values of the reference and the candidate, each on its own activations."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Models:
    """A case's two models, built, and the lanes in which they compute ahead."""

    case: Case
    reference: Any
    candidate: Any
    lanes: Lanes

    @contextlib.contextmanager
    def widened(self) -> Iterator[None]:
        """Cast the reference to float64 in the background while the body runs, then the candidate; no value changes."""
        give_back()  # before memory peaks: one model in both precisions beside the other one
        wide = self.lanes.reference.submit(self.case.reference.probe.cast, self.reference, "float64")
        try:
            yield
        finally:
            wide.result()  # a model that is lent may go back only when nothing uses it any more
        give_back()
        self.case.candidate.probe.cast(self.candidate, "float64")

    @contextlib.contextmanager
    def tapped(self) -> Iterator[Tapping]:
        """Yield both forwards, which show the case's points while the context lasts."""
        case = self.case
        on_reference = {point.name: point.reference for point in case.points}
        on_candidate = {point.name: point.candidate for point in case.points}
        with (
            case.reference.probe.tapped(self.reference, on_reference) as reference,
            case.candidate.probe.tapped(self.candidate, on_candidate) as candidate,
        ):
            yield Tapping(reference=reference, candidate=candidate, lanes=self.lanes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tapping:
    """Both forwards, tapped, and the lanes in which they compute ahead."""

    reference: Forward
    candidate: Forward
    lanes: Lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of every point, in forward order; points that the candidate never shows; what was not as expected.

    If there are findings, there are no figures. idle_acceptances: Accepted differences that do not occur.
    """

    figures: Mapping[str, Differences]
    never_shown: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    idle_acceptances: tuple[Finding, ...] = ()


def wide_reference(case: Case) -> Generator[Shown, Array | None]:
    """Return what a separate float64 copy of the reference shows: the truth if there is no witness."""
    model, probe = case.reference.build(), case.reference.probe  # built now: with hooks it could not be copied
    probe.cast(model, "float64")

    def shown() -> Generator[Shown, Array | None]:
        with probe.tapped(model, {point.name: point.reference for point in case.points}) as run:
            yield from walk(partial(run, in_precision(case.inputs, "float64")))

    return shown()


class Measurement:
    """One precision's run: truth, reference, candidate on its own activations, candidate on the reference's."""

    def __init__(self, case: Case, precision: Precision, atol: float, roundings: Roundings) -> None:
        self._case, self._precision, self._atol, self._roundings = case, precision, atol, roundings
        self._needed: dict[str, bool] = {}
        self._tidies = saves_memory(case)

    def run(
        self, tapping: Tapping, truth: Walk | None, progress: Progress, observe: Observe = lambda *_: None
    ) -> Measured:
        """Return the figures of every point.

        Args:
            tapping: Both forwards, in this precision.
            truth: The float64 values of the points; may be None for a run in float64.
            progress: Called with the precision and name of each point.
            observe: Called with each point's values.
        """
        inputs, lanes, names = in_precision(self._case.inputs, self._precision), tapping.lanes, self._case.sides
        measured = Measured(figures={})
        with contextlib.ExitStack() as stack:

            def side(name: str, shown: Walk, lane: Any) -> Side:
                return stack.enter_context(closing(Side(name, shown, lane)))

            true = side("the witness", truth, lanes.witness) if truth is not None else None
            reference = side(names.reference, walk(partial(tapping.reference, inputs)), lanes.reference)
            own = side(names.candidate, walk(partial(tapping.candidate, inputs)), lanes.candidate)
            forced = side(names.candidate, walk(partial(tapping.candidate, inputs)), lanes.candidate)
            try:
                measured = self._in_step((own, forced, reference, true), progress, observe)
            except WrongPoint as wrong:
                measured = Measured(figures={}, findings=(wrong.finding,))
        return measured

    def _in_step(self, sides: tuple[Side, Side, Side, Side | None], progress: Progress, observe: Observe) -> Measured:
        """Measure each point in the candidate's order, which is the reference's unless branches are swapped."""
        own, forced, reference, true = sides
        left = {point.name: point for point in self._case.points}
        figures: dict[str, Differences] = {}
        while left and (shown := own.next(next(iter(left)))) is not None:
            name, own_value = shown
            nothing_skipped = next(iter(left)) == name
            point = left.pop(name) if nothing_skipped else left.pop(name).behind_a_gap
            if self._tidies and len(figures) % POINTS_PER_TIDY == 0:
                give_back()
            progress(f"{self._precision}: {name}")
            introduced, reference_value = forced.at(name), reference.at(name)
            truth = true.at(name) if true else None
            self._check_forms(point, reference_value, {own.name: own_value, forced.name: introduced}, truth)
            forced.replace(reference_value)
            if name in self._case.accepted and self._precision == "float64":
                own.replace(reference_value)  # nothing after it inherits what is accepted, so that all of it is judged
            for side in sides:
                if side is not None:
                    side.go_on()
            figures[name] = self._differences(point, truth, (reference_value, own_value, introduced))
            observe(point, reference_value, own_value)
        for point in left.values():
            if not point.optional:
                raise WrongPoint(point.name, f"{own.name} never shows {point.name}")
        for side in sides:
            if side is not None:
                side.end(self._case.headline)
        in_order = {point.name: figures[point.name] for point in self._case.points if point.name in figures}
        return Measured(figures=in_order, never_shown=tuple(left), idle_acceptances=tuple(self._idle_acceptances()))

    def _idle_acceptances(self) -> Iterator[Finding]:
        """Yield the acceptances that no point needs; one shared by several points is idle only if none needs it."""
        needed = {id(self._case.accepted[name]) for name, is_needed in self._needed.items() if is_needed}
        for name in self._needed:
            if id(self._case.accepted[name]) not in needed:
                said = (
                    f"{name}: its difference is accepted, and there is none beyond rounding. Take it out of [accepted]"
                )
                yield Finding(layer=name, sentence=said)

    def _check_forms(
        self, point: Point, reference: Array, candidates: Mapping[str, Array], truth: Array | None
    ) -> None:
        shape = reference.shape if point.shape is None else point.shape
        check_form(self._case.sides.reference, point, reference, shape, self._precision)
        for side, value in candidates.items():
            check_form(side, point, value, shape, self._precision)
        if truth is not None:
            check_form("the witness", point, truth, shape, "float64")

    def _differences(self, point: Point, truth: Array | None, values: tuple[Array, Array, Array]) -> Differences:
        """Return the figures of a point. In float32 only the headline and what each layer introduces are judged."""
        (reference, own, forced), name, wide = values, point.name, self._precision == "float64"
        whole = self._roundings.whole(name) if wide else UNBOUNDED
        scale = largest(reference)
        from_truth = [None if truth is None else compare(name, truth, one, whole, scale) for one in (reference, own)]
        if not wide and from_truth[0] is not None:
            self._roundings.note_found(name, from_truth[0].max_abs_diff, reference.size)
        headline = Tolerance(atol=self._atol, rtol=0.0) if name == self._case.headline else UNBOUNDED
        introduced = self._roundings.introduced(name, self._precision, follows=point.follows)
        if (accepted := self._case.accepted.get(name)) is not None:
            if wide:
                self._needed[name] = not compare(name, reference, forced, introduced, scale).passed
                whole = Tolerance(atol=max(whole.bound(scale), accepted.bound), rtol=0.0)
                from_truth[1:] = [None if truth is None else compare(name, truth, own, whole, scale)]
            introduced = Tolerance(atol=max(introduced.bound(scale), accepted.bound), rtol=0.0)
        return Differences(
            inherited=compare(name, reference, own, whole if wide else headline, scale),
            introduced=compare(name, reference, forced, introduced, scale),
            reference_vs_witness=from_truth[0],
            candidate_vs_witness=from_truth[1],
        )
