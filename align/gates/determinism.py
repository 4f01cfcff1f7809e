"""Whether each side repeats itself: a second float32 forward beside the measured one, and a short one on one thread.

A side that does not repeat itself proves nothing either way. On another number of threads sums are taken in another
order, which is rounding: that difference is shown and not judged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Self

from align.core.compare import UNBOUNDED, compare, largest
from align.core.lockstep import Abandoned, Side, Tap, WrongPoint, walk
from align.core.result import FRAMEWORKS, Check, Divergence, Gate, Reference, Section
from align.gates.forward import Sides
from align.mixer.points import Layer
from align.probes import paddle_probe, torch_probe
from convert.arrays import Array, describe_difference, same_bits

UP_TO = "blocks.0"
"""How far the run on one thread goes: every kind of layer is before this point, and it costs a twelfth of a B/16."""

ADVICE = "Nothing is proved either way. Is a model in training mode, or a kernel of it non-deterministic?"
NOT_RUN = Section(gate=Gate(name="determinism", passed=None, sentence="not run"), checks=())
ONE_THREAD: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "torch": torch_probe.one_thread,
    "Paddle": paddle_probe.one_thread,
}
"""How to give a side a single thread. Flax is not here: JAX fixes the number when the process starts."""


class Repeat:
    """A second run of one side, compared with the first bit for bit, a point at a time."""

    def __init__(self, side: str, forward: Callable[[Tap], object], lane: Executor) -> None:
        self.side, self._forward = side, forward
        self.compared = self.changed = 0
        self.first: tuple[str, str] | None = None
        self.value: Array | None = None
        self._again = Side(side, walk(forward), "float32", lane)
        self._followed = True

    def at(self, point: Layer, value: Array) -> None:
        """Compare the second run with the first at a point, as long as it shows the points expected."""
        self.compared += 1
        if point.name == UP_TO:
            self.value = value
        if not self._followed:
            return
        try:
            again = self._again.at(point)
            self._again.go_on()
        except WrongPoint as wrong:
            self._followed = False
            self._note(point, wrong.finding.sentence)
            return
        if not same_bits(value, again):
            self._note(point, describe_difference(value, again))

    def check(self) -> Check:
        """Return how many points changed: none may."""
        layer, detail = self.first or ("", "")
        name = f"{self.side}, second run: points with other bits"
        return Check(name=name, layer=layer, figure=self.changed, bound=0, detail=detail, passed=self.changed <= 0)

    def single_threaded(self) -> Iterator[Check]:
        """Yield how far a single thread moves the first block, where there are several and a side lets us choose."""
        if self.side not in ONE_THREAD or self.value is None:
            return
        with ONE_THREAD[self.side]() as threads:
            single = _value_at(UP_TO, self._forward) if threads > 1 else None
        if single is None:
            return
        moved = compare(UP_TO, self.value, single, UNBOUNDED, largest(self.value))
        name = f"{self.side}, 1 thread for {threads}: {UP_TO} moves by"
        yield Check(name=name, layer=UP_TO, figure=moved.max_abs_diff, bound=None, detail="", passed=True)

    def close(self) -> None:
        """End the second run, wherever it is."""
        self._again.close()

    def _note(self, point: Layer, detail: str) -> None:
        self.changed += 1
        self.first = self.first or (point.name, detail)


class Repetition:
    """The second runs of both sides, beside the measured one; to be used as its observer, within a `with`."""

    def __init__(self, sides: Sides, images: Array, points: Sequence[Layer], reference: Reference) -> None:
        self._points = len(points)
        self._repeats = (
            Repeat(FRAMEWORKS[reference], partial(sides.forward_reference, images, points), sides.lanes.reference),
            Repeat("Paddle", partial(sides.forward_candidate, images), sides.lanes.candidate),
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End both runs, wherever they are."""
        for repeat in self._repeats:
            repeat.close()

    def observe(self, point: Layer, reference: Array, candidate: Array) -> None:
        """Compare both second runs with the measured one at a point."""
        for repeat, value in zip(self._repeats, (reference, candidate), strict=True):
            repeat.at(point, value)

    def section(self) -> Section:
        """Return the gate: both sides' second runs, then what a single thread changes, for the record.

        It is not run where the measured run broke off.
        """
        if any(repeat.compared < self._points for repeat in self._repeats):
            return NOT_RUN
        again = [repeat.check() for repeat in self._repeats]
        single = [check for repeat in self._repeats for check in repeat.single_threaded()]
        changed = [
            f"{repeat.side} does not repeat itself: {check.layer}: on the same images, {check.detail}"
            for repeat, check in zip(self._repeats, again, strict=True)
            if not check.passed
        ]
        moved = "; ".join(f"{check.name} {check.figure:.1e}" for check in single)
        sentence = "; ".join(changed) or "both sides repeat every point bit for bit" + (f"; {moved}" if moved else "")
        divergence = Divergence(layer=_first(again), sentence=f"{sentence}. {ADVICE}") if changed else None
        gate = Gate(name="determinism", passed=not changed, sentence=sentence)
        return Section(gate=gate, checks=(*again, *single), divergence=divergence)


def _value_at(name: str, forward: Callable[[Tap], object]) -> Array | None:
    """Return what a forward shows at a point, behind which it is abandoned; None where it never gets there."""
    found: list[Array] = []

    def tap(shown: str, value: Array) -> None:
        if shown == name:
            found.append(value)
            raise Abandoned

    with contextlib.suppress(Abandoned):
        forward(tap)
    return found[0] if found else None


def _first(checks: Sequence[Check]) -> str:
    return next(check.layer for check in checks if not check.passed)
