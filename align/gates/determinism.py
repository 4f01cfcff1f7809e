"""Whether each side repeats itself: a second float32 forward alongside the measured one, and a short one on one thread.

A side that does not repeat itself proves nothing either way. On another number of threads sums are taken in another
order, which is rounding: that difference is shown but not judged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from types import TracebackType
from typing import Self

from align.core.bounds import UNBOUNDED
from align.core.case import Case
from align.core.compare import compare, largest
from align.core.lockstep import Abandoned, ForwardFailed, Side, Tap, WrongPoint, walk
from align.core.point import Point
from align.core.probe import Probe
from align.core.result import Check, Divergence, Gate, Section
from align.figures.sections import REPEATS, good_sentence
from align.gates.forward import Tapping
from convert.arrays import Array, describe_difference, same_bits

ADVICE = "Nothing is proved either way. Is a model in training mode, or a kernel of it non-deterministic?"
NOT_RUN = Section(gate=Gate(name="determinism", passed=None, sentence="not run"))


class Repeat:
    """A second run of one side, compared with the first bit for bit, a point at a time."""

    def __init__(self, probe: Probe, sample: str, forward: Callable[[Tap], object], lane: Executor) -> None:
        self.side, self.changed = probe.name, 0
        self.first: tuple[str, str] | None = None
        self._probe, self._sample, self._forward = probe, sample, forward
        self._value: Array | None = None
        self._again = Side(probe.name, walk(forward), lane)
        self._followed = True

    def at(self, point: Point, value: Array) -> None:
        """Compare the second run with the first at a point, unless the second failed to show an earlier one."""
        if point.name == self._sample:
            self._value = value
        if not self._followed:
            return
        try:
            again = self._again.at(point.name)
            self._again.go_on()
        except WrongPoint as wrong:
            self._followed = False
            self._note(point, wrong.finding.sentence)
            return
        if not same_bits(value, again):
            self._note(point, describe_difference(value, again))

    def check(self) -> Check:
        """Return the check of how many points changed: none may."""
        layer, detail = self.first or ("", "")
        subject = f"{self.side}, {REPEATS}"
        return Check(
            subject=subject, layer=layer, figure=float(self.changed), bound=0.0, detail=detail, passed=not self.changed
        )

    def single_threaded(self) -> Iterator[Check]:
        """Yield how far a single thread moves the sample, if there are several and the framework lets us choose."""
        if self._value is None:
            return
        with self._probe.one_thread() as threads:
            single = _value_at(self._sample, self._forward) if threads > 1 else None
        if single is None:
            return
        moved = compare(self._sample, self._value, single, UNBOUNDED, largest(self._value))
        subject = f"{self.side}, 1 thread for {threads}: {self._sample} moves by"
        yield Check(subject=subject, layer=self._sample, figure=moved.max_abs_diff, bound=None, detail="", passed=True)

    def close(self) -> None:
        """End the second run, wherever it is."""
        self._again.close()

    def _note(self, point: Point, detail: str) -> None:
        self.changed += 1
        self.first = self.first or (point.name, detail)


class Repetition:
    """The second runs of both sides, alongside the measured one; used as its observer, within a `with`."""

    def __init__(self, case: Case, tapping: Tapping) -> None:
        self._sides = case.sides
        self._repeats = (
            Repeat(case.reference.probe, case.sample, partial(tapping.reference, case.inputs), tapping.lanes.reference),
            Repeat(case.candidate.probe, case.sample, partial(tapping.candidate, case.inputs), tapping.lanes.candidate),
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End both runs, wherever they are."""
        for repeat in self._repeats:
            repeat.close()

    def observe(self, point: Point, reference: Array, candidate: Array) -> None:
        """Compare both second runs with the measured one at a point."""
        for repeat, value in zip(self._repeats, (reference, candidate), strict=True):
            repeat.at(point, value)

    def section(self) -> Section:
        """Return the gate: both sides' second runs, then what a single thread changes, for the record."""
        again = [repeat.check() for repeat in self._repeats]
        single = [check for repeat in self._repeats for check in repeat.single_threaded()]
        changed = [
            f"{repeat.side} does not repeat itself: {check.layer}: on the same images, {check.detail}"
            for repeat, check in zip(self._repeats, again, strict=True)
            if not check.passed
        ]
        checks = (*again, *single)
        sentence = "; ".join(changed) or good_sentence("determinism", checks, self._sides)
        where = next((check.layer for check in again if not check.passed), "")
        divergence = Divergence(layer=where, sentence=f"{sentence}. {ADVICE}") if changed else None
        gate = Gate(name="determinism", passed=not changed, sentence=sentence)
        return Section(gate=gate, checks=checks, divergence=divergence)


def _value_at(name: str, forward: Callable[[Tap], object]) -> Array | None:
    """Return what a forward shows at a point, abandoning it there; None if it never reaches the point."""
    found: list[Array] = []

    def tap(shown: str, value: Array) -> None:
        if shown == name:
            found.append(value)
            raise Abandoned

    with contextlib.suppress(Abandoned, ForwardFailed):
        forward(tap)
    return found[0] if found else None
