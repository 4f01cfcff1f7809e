"""Forwards run side by side, one comparison point at a time, so that no side's activations have to be kept."""

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
"""A point's name and the value that a side shows at it."""

Walk = Generator[Shown, Array | None, object]
"""A generator of what one side shows, each value computed on demand; a value sent back replaces it."""

Tap = Callable[[str, Array], Array | None]
"""Called with each point's name and value; the forward continues with what it returns, or unchanged for None."""

Note = Callable[[str, float, float], None]
"""Called with a point, the size of the numbers rounded at it, and its slack (`align.core.bounds.Roundings`)."""

Answer = Array | None | Literal["stop"]


PATIENCE = 600.0
"""Seconds to wait from one point to the next; a block of the largest Mixer takes 2 on two cores."""

AHEAD_FROM = 2**16
"""Bytes of a value from which computing ahead pays off; its two thread switches are a tenth of a small model's gate."""

KEPT_BYTES = 2**30
"""Maximum bytes of values kept: as many as the witness's for B/16 at a batch of 4; for L/16 at 2 they take 1.5 GB."""


class Abandoned(BaseException):
    """Raised to end a forward that nobody follows any more; no model's `except Exception` catches it."""


class WrongPoint(Exception):
    """A side did not show what was expected of it."""

    def __init__(self, layer: str, sentence: str) -> None:
        super().__init__(sentence)
        self.finding = Finding(layer=layer, sentence=sentence)


class ForwardFailed(Exception):
    """A model's forward raised, or showed something that is not a tensor; the text says what."""


def walk(forward: Callable[[Tap], object], patience: float = PATIENCE) -> Generator[Shown, Array | None]:
    """Yield what a forward shows to its tap; a value sent back replaces the one shown.

    The forward runs in a thread of its own, because a framework's stack cannot be suspended like a generator's. It
    waits at each point until the caller continues, and has ended when the generator has. An exception of the forward
    is raised here.

    Args:
        forward: Called with the tap.
        patience: Seconds that it may take from one point to the next; a forward that hangs is left behind.

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
    """The executors in which forwards compute ahead: each runs one task at a time, so no model runs twice at once."""

    witness: Executor
    reference: Executor
    candidate: Executor


@contextlib.contextmanager
def lanes() -> Iterator[Lanes]:
    """Yield one single-thread executor per side, joined on exit."""
    with ThreadPoolExecutor(1) as witness, ThreadPoolExecutor(1) as reference, ThreadPoolExecutor(1) as candidate:
        yield Lanes(witness=witness, reference=reference, candidate=candidate)


class Side:
    """One side on its way through its forward. With a lane, it computes one point ahead where values are large."""

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
        """Start computing the next value if there is a lane for it and the last value was large."""
        if self._lane is not None and self._is_large and self._ahead is None:
            self._ahead = self._lane.submit(self._compute)

    def next(self, expected: str) -> Shown | None:
        """Return what the side shows next; None at its end.

        Raises:
            WrongPoint: Its forward fails or hangs; the finding is about the expected point.
        """
        ahead, self._ahead = self._ahead, None
        try:
            return self._compute() if ahead is None else ahead.result()
        except (ForwardFailed, TimeoutError) as error:
            raise WrongPoint(expected, f"{self.name}: {error}") from error

    def at(self, name: str) -> Array:
        """Return the value at a point; those shown before it are kept until they are asked for.

        Raises:
            WrongPoint: It is never shown, or the forward fails.
        """
        while name not in self._passed:
            shown = self.next(name)
            if shown is None:
                raise WrongPoint(name, f"{self.name} never shows {name}")
            self._passed[shown[0]] = shown[1]
        return self._passed.pop(name)

    def replace(self, value: Array) -> None:
        """Make the forward continue with this value in place of the one last shown."""
        self._replacement = value

    def end(self, expected: str) -> None:
        """Run the forward to its end, ignoring what it shows on the way."""
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
    """Check that a value has the required shape and dtype.

    Raises:
        WrongPoint: It does not have them.
    """
    if (value.shape, value.dtype.name) != (shape, dtype):
        found, wanted = f"{value.dtype.name} {value.shape}", f"{dtype} {shape}"
        raise WrongPoint(point.name, f"{side} shows {point.name} {found}, not {wanted}")


class Kept:
    """A walk taken twice: its values are kept for the second time if they fit in KEPT_BYTES, else computed again."""

    def __init__(self, compute: Callable[[], Walk]) -> None:
        self._compute = compute
        self._points: deque[Shown] = deque()
        self._bytes = 0
        self._complete = False

    def first(self) -> Generator[Shown, Array | None]:
        """Yield the values as they are computed."""
        for point in self._compute():
            self._bytes += point[1].nbytes
            if self._bytes <= KEPT_BYTES:
                self._points.append(point)
            else:
                self._points.clear()
            yield point
        self._complete = self._bytes <= KEPT_BYTES

    def again(self) -> Generator[Shown, Array | None]:
        """Yield the same values, releasing each; if not all were kept, compute them again from the beginning."""
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
    """Run the forward with a tap that waits for an answer at each point."""

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
