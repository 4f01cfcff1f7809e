"""Forwards side by side, one comparison point at a time, so that no side's activations have to be kept."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Literal

from align.core.result import Finding
from align.mixer.points import Layer
from convert.arrays import Array, Shape

Point = tuple[str, Array]
"""A name and the value that a side shows there."""

Walk = Generator[Point, Array | None, object]
"""The points of one side, each computed when it is asked for; what is sent back takes the place of the value."""

Tap = Callable[[str, Array], Array | None]
"""Is shown each point; the forward goes on with what it returns, or unchanged for None."""

Answer = Array | None | Literal["stop"]


KEPT_BYTES = 2**30
"""As much as the witness's values of B/16 at a batch of 4 take; those of L/16 take 1.5 GB at a batch of 2."""
FLOAT64_BYTES = 8


class Abandoned(BaseException):
    """Ends a forward that nobody follows any more; no model's `except Exception` takes it for an error of its own."""


class WrongPoint(Exception):
    """A side did not show what was expected of it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.sentence)
        self.finding = finding


def walk(forward: Callable[[Tap], object]) -> Generator[Point, Array | None]:
    """Yield each point that a forward shows to its tap; what is sent back takes the place of the point's value.

    The forward runs in a thread of its own, because a framework's stack cannot be suspended like a generator's. It
    waits at each point until the caller goes on, and has ended when the generator has. An exception of the forward is
    raised here.
    """
    shown: SimpleQueue[Point | BaseException | None] = SimpleQueue()
    answers: SimpleQueue[Answer] = SimpleQueue()
    thread = Thread(target=_run, args=(forward, shown, answers), daemon=True)
    thread.start()
    try:
        while (point := shown.get()) is not None:
            if isinstance(point, BaseException):
                raise point
            answers.put((yield point))
    finally:
        answers.put("stop")
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """Where each model's forwards compute ahead: one thing at a time in each, so no model runs twice at once."""

    witness: Executor
    reference: Executor
    candidate: Executor


@contextlib.contextmanager
def lanes() -> Iterator[Lanes]:
    """Give lanes, whose threads have ended at the end."""
    with ThreadPoolExecutor(1) as witness, ThreadPoolExecutor(1) as reference, ThreadPoolExecutor(1) as candidate:
        yield Lanes(witness=witness, reference=reference, candidate=candidate)


class Side:
    """One side on its way through the forward, checked against the point expected at each step.

    With a lane it computes a point ahead, from when it is told to go on.
    """

    def __init__(self, name: str, points: Walk, dtype: str, lane: Executor | None = None) -> None:
        self._name, self._points, self._dtype, self._lane = name, points, dtype, lane
        self._replacement: Array | None = None
        self._ahead: Future[Point | None] | None = None

    def close(self) -> None:
        """End the forward, wherever it is."""
        if self._ahead is not None:
            self._ahead.exception()
        self._points.close()

    def go_on(self) -> None:
        """Begin to compute the next point, where there is a lane for it."""
        if self._lane is not None:
            self._ahead = self._lane.submit(self._compute)

    def at(self, layer: Layer) -> Array:
        """Return the value at the next point.

        Raises:
            WrongPoint: The next point is not this layer, or its shape or dtype are others, or there is none.
        """
        shown = self._next()
        if shown is None:
            raise WrongPoint(Finding(layer=layer.name, sentence=f"{self._name} never shows {layer.name}"))
        name, value = shown
        found, wanted = (name, value.shape, value.dtype.name), (layer.name, layer.shape, self._dtype)
        if found != wanted:
            sentence = f"{self._name} shows {_text(*found)}, not {_text(*wanted)}"
            raise WrongPoint(Finding(layer=layer.name, sentence=sentence))
        return value

    def replace(self, value: Array) -> None:
        """Let the forward go on with this in place of the value last shown."""
        self._replacement = value

    def end(self) -> None:
        """Let the forward end.

        Raises:
            WrongPoint: There is another point.
        """
        shown = self._next()
        if shown is not None:
            raise WrongPoint(Finding(layer=shown[0], sentence=f"{self._name} shows {shown[0]} after its last point"))

    def _next(self) -> Point | None:
        ahead, self._ahead = self._ahead, None
        return self._compute() if ahead is None else ahead.result()

    def _compute(self) -> Point | None:
        answer, self._replacement = self._replacement, None
        try:
            return self._points.send(answer)
        except StopIteration:
            return None


class Kept:
    """A walk that is taken twice: its values are kept for the second time where they are small, else computed again."""

    def __init__(self, compute: Callable[[], Walk], points: Sequence[Layer]) -> None:
        self._compute = compute
        self._small = sum(math.prod(point.shape) for point in points) * FLOAT64_BYTES <= KEPT_BYTES
        self._points: deque[Point] = deque()
        self._complete = False

    def first(self) -> Generator[Point, Array | None]:
        """Yield what is computed."""
        for point in self._compute():
            if self._small:
                self._points.append(point)
            yield point
        self._complete = self._small

    def again(self) -> Generator[Point, Array | None]:
        """Yield the same, letting go of each; what was not kept to the end is computed from the beginning."""
        if not self._complete:
            self._points.clear()
            yield from self._compute()
        while self._points:
            yield self._points.popleft()


def _run(
    forward: Callable[[Tap], object],
    shown: SimpleQueue[Point | BaseException | None],
    answers: SimpleQueue[Answer],
) -> None:
    """Run the forward, the tap of which waits for an answer to each point."""

    def tap(name: str, value: Array) -> Array | None:
        shown.put((name, value))
        answer = answers.get()
        if isinstance(answer, str):
            answers.put("stop")
            raise Abandoned
        return answer

    try:
        forward(tap)
        shown.put(None)
    except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
        shown.put(error)


def _text(name: str, shape: Shape, dtype: str) -> str:
    return f"{name} {dtype} {shape}"
