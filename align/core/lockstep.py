"""Forwards side by side, one comparison point at a time, so that no side's activations have to be kept."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Literal

from align.core.point import Point
from align.core.result import Finding
from convert.arrays import Array, Shape

Shown = tuple[str, Array]
"""A point's name and the value that a side shows there."""

Walk = Generator[Shown, Array | None, object]
"""What one side shows, each value computed when it is asked for; what is sent back takes its place."""

Tap = Callable[[str, Array], Array | None]
"""Is shown each point; the forward goes on with what it returns, or unchanged for None."""

Note = Callable[[str, float, float], None]
"""Is told a point, the size of the numbers that are rounded there, and its slack (`align.core.bounds.Roundings`)."""

Answer = Array | None | Literal["stop"]


PATIENCE = 600.0
"""Seconds from one point to the next; a block of the largest Mixer takes 2 on two cores."""

AHEAD_FROM = 2**16
"""Bytes of a value behind which the next is worth two switches of threads; they are a tenth of a small model's gate."""

KEPT_BYTES = 2**30
"""As much as the witness's values of B/16 at a batch of 4 take; those of L/16 take 1.5 GB at a batch of 2."""


class Abandoned(BaseException):
    """Ends a forward that nobody follows any more; no model's `except Exception` takes it for an error of its own."""


class WrongPoint(Exception):
    """A side did not show what was expected of it."""

    def __init__(self, layer: str, sentence: str) -> None:
        super().__init__(sentence)
        self.finding = Finding(layer=layer, sentence=sentence)


class ForwardFailed(Exception):
    """A model's forward raised, or shows something that is no tensor; the text says what."""


def walk(forward: Callable[[Tap], object], patience: float = PATIENCE) -> Generator[Shown, Array | None]:
    """Yield what a forward shows to its tap; what is sent back takes the place of the value.

    The forward runs in a thread of its own, because a framework's stack cannot be suspended like a generator's. It
    waits at each point until the caller goes on, and has ended when the generator has. An exception of the forward is
    raised here.

    Args:
        forward: Is given the tap.
        patience: Seconds that it may take from one point to the next; a forward that waits for ever is left behind.

    Raises:
        TimeoutError: It took longer.
    """
    shown: SimpleQueue[Shown | BaseException | None] = SimpleQueue()
    answers: SimpleQueue[Answer] = SimpleQueue()
    thread = Thread(target=_run, args=(forward, shown, answers), daemon=True)
    thread.start()
    hangs = False
    try:
        while (point := _within(shown, patience)) is not None:
            if isinstance(point, BaseException):
                raise point
            answers.put((yield point))
    except TimeoutError:
        hangs = True
        raise
    finally:
        answers.put("stop")
        thread.join(0 if hangs else patience)


def _within(shown: SimpleQueue[Shown | BaseException | None], patience: float) -> Shown | BaseException | None:
    try:
        return shown.get(timeout=patience)
    except Empty as error:
        raise TimeoutError(f"it shows nothing for {patience:g} s") from error


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
    """One side on its way through the forward. With a lane it computes a point ahead, where that takes a while."""

    def __init__(self, name: str, shown: Walk, lane: Executor | None = None) -> None:
        self.name = name
        self._shown, self._lane = shown, lane
        self._passed: dict[str, Array] = {}
        self._replacement: Array | None = None
        self._ahead: Future[Shown | None] | None = None
        self._is_large = False

    def close(self) -> None:
        """End the forward, wherever it is."""
        if self._ahead is not None:
            self._ahead.exception()
        self._shown.close()

    def go_on(self) -> None:
        """Begin to compute the next value, where there is a lane for it and the last was no small one."""
        if self._lane is not None and self._is_large and self._ahead is None:
            self._ahead = self._lane.submit(self._compute)

    def next(self, expected: str) -> Shown | None:
        """Return what the side shows next; None at its end.

        Raises:
            WrongPoint: Its forward fails; the finding is about the point expected.
        """
        ahead, self._ahead = self._ahead, None
        try:
            return self._compute() if ahead is None else ahead.result()
        except (ForwardFailed, TimeoutError) as error:
            raise WrongPoint(expected, f"{self.name}: {error}") from error

    def at(self, name: str) -> Array:
        """Return the value at a point; those shown before it are kept until they are asked for.

        Raises:
            WrongPoint: It is never shown.
        """
        while name not in self._passed:
            shown = self.next(name)
            if shown is None:
                raise WrongPoint(name, f"{self.name} never shows {name}")
            self._passed[shown[0]] = shown[1]
        return self._passed.pop(name)

    def replace(self, value: Array) -> None:
        """Let the forward go on with this in place of the value last shown."""
        self._replacement = value

    def end(self, expected: str) -> None:
        """Let the forward run to its end; what it shows on the way is passed over."""
        while self.next(expected) is not None:
            pass

    def _compute(self) -> Shown | None:
        answer, self._replacement = self._replacement, None
        try:
            shown = self._shown.send(answer)
        except StopIteration:
            return None
        self._is_large = shown[1].nbytes >= AHEAD_FROM
        return shown


def check_form(side: str, point: Point, value: Array, shape: Shape, dtype: str) -> None:
    """Check that a value is of the shape and dtype that it has to have.

    Raises:
        WrongPoint: It is not.
    """
    if (value.shape, value.dtype.name) != (shape, dtype):
        found, wanted = f"{value.dtype.name} {value.shape}", f"{dtype} {shape}"
        raise WrongPoint(point.name, f"{side} shows {point.name} {found}, not {wanted}")


class Kept:
    """A walk that is taken twice: its values are kept for the second time where they are small, else computed again."""

    def __init__(self, compute: Callable[[], Walk]) -> None:
        self._compute = compute
        self._points: deque[Shown] = deque()
        self._bytes = 0
        self._complete = False

    def first(self) -> Generator[Shown, Array | None]:
        """Yield what is computed."""
        for point in self._compute():
            self._bytes += point[1].nbytes
            if self._bytes <= KEPT_BYTES:
                self._points.append(point)
            else:
                self._points.clear()
            yield point
        self._complete = self._bytes <= KEPT_BYTES

    def again(self) -> Generator[Shown, Array | None]:
        """Yield the same, letting go of each; what was not kept to the end is computed from the beginning."""
        if not self._complete:
            self._points.clear()
            yield from self._compute()
        while self._points:
            yield self._points.popleft()


def _run(
    forward: Callable[[Tap], object],
    shown: SimpleQueue[Shown | BaseException | None],
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
