"""Progress and time left, shown in a terminal or a notebook once a run has taken a second; nothing elsewhere.

A terminal is one on standard error when `CI` is not set; standard output is left alone. An overnight run may ask for a
line now and then instead of a bar, for its log.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

AFTER = 1.0
"""Seconds that pass before anything is shown."""
EVERY = 30.0
"""Seconds between two lines: the log of an overnight run stays short, and still shows whether the run goes on."""
AGAIN = 0.25
"""Seconds between two updates in a notebook, each of which is a message."""

Update = Callable[[str, float | None], None]
"""Called with what is under way and the share of the whole that is done; None: unknown."""
Show = Callable[[int, str], None]
"""Called with the number of images done and further text to show beside it."""


class Screen(Protocol):
    """A place where progress is shown."""

    def update(self, text: str, share: float | None) -> None:
        """Show what is under way and the share of the whole that is done."""

    def close(self) -> None:
        """Remove what is shown."""


@contextlib.contextmanager
def display() -> Iterator[Update]:
    """Yield a function that shows a run's progress if anybody can see it, until the context ends."""
    screen: Screen | None = _Terminal() if on_terminal() else _Notebook() if in_notebook() else None
    if screen is None:
        yield lambda *_: None
        return
    try:
        yield screen.update
    finally:
        screen.close()


@contextlib.contextmanager
def staged(weights: Mapping[str, tuple[float, int]]) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows how far a run is, to be called as each stage, or `stage: part`, begins.

    Args:
        weights: By the name of a stage, the share of the time it takes and the number of its parts.
    """
    course = Course(weights)
    with display() as update:
        yield lambda text: update(text, course.share(text))


def counted(total: int, begin: str) -> contextlib.AbstractContextManager[Show]:
    """Return a context manager that shows how many images are done; if it writes lines, begin is the first of them."""
    return _bar(total) if on_terminal() or in_notebook() else _lines(total, begin)


def on_terminal() -> bool:
    """Return whether somebody sees standard error as it is written; not so in the terminal of a notebook's `!`."""
    dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    nobody = bool(os.environ.get("CI")) or "JPY_PARENT_PID" in os.environ
    return sys.stderr.isatty() and not dumb and not nobody


def in_notebook() -> bool:
    """Return whether this is a notebook's own process."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def say(what: str) -> None:
    """Print what is about to run, if standard error is a terminal."""
    if on_terminal():
        print(what, file=sys.stderr, flush=True)


class Course:
    """The stages of a run, by which the share done is known when a stage, or a part of one, begins."""

    def __init__(self, weights: Mapping[str, tuple[float, int]]) -> None:
        self._weights, self._seen = weights, dict.fromkeys(weights, 0)

    def share(self, text: str) -> float | None:
        """Count the stage or part that begins; return the share done before it, or None for an unknown stage."""
        stage = text if text in self._weights else text.partition(":")[0]
        if stage not in self._weights:
            return None
        self._seen[stage] += 1
        before = 0.0
        for name, (weight, parts) in self._weights.items():
            if name == stage:
                before += weight * min(1.0, (self._seen[stage] - 1) / max(1, parts))
                break
            before += weight
        return before / sum(weight for weight, _ in self._weights.values())


class Pace:
    """How fast a run goes, measured from the first note: what was done before that belongs to an earlier run."""

    def __init__(self, total: float) -> None:
        self.total, self._done, self._seconds = total, 0.0, 0.0
        self._began: tuple[float, float] | None = None

    def note(self, done: float) -> None:
        """Note how much is done by now."""
        now = time.monotonic()
        self._began = self._began or (done, now)
        self._done, self._seconds = done, now - self._began[1]

    @property
    def rate(self) -> float | None:
        """Amount done per second; None: not known yet."""
        fresh = self._done - self._began[0] if self._began else 0
        return fresh / self._seconds if fresh > 0 and self._seconds else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes, less those since the last note; None: not known, or nothing is left."""
        if self.rate is None or self._began is None or self._done >= self.total:
            return None
        since = time.monotonic() - self._began[1] - self._seconds
        return max(0.0, (self.total - self._done) / self.rate - since)


def duration(seconds: float) -> str:
    """Return a time as text, in its largest unit and the next smaller one."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Show]:
    pace = Pace(total)
    with display() as update:

        def show(done: int, text: str) -> None:
            pace.note(done)
            rate = [f"{pace.rate:.1f} images/s"] if pace.rate else []
            update(", ".join([f"{done:,} of {total:,} images", text, *rate]), done / total)

        yield show


@contextlib.contextmanager
def _lines(total: int, begin: str) -> Iterator[Show]:
    pace, said, last = Pace(total), time.monotonic(), ""

    def show(done: int, text: str) -> None:
        nonlocal said, last
        pace.note(done)
        speed = [f"{pace.rate:.1f} images/s"] if pace.rate else []
        left = [f"{duration(pace.left)} left"] if pace.left is not None else []
        last = ", ".join([f"{done:,} of {total:,} images", text, *speed, *left])
        if time.monotonic() - said >= EVERY:
            said = time.monotonic()
            print(last, file=sys.stderr, flush=True)
            last = ""

    print(begin, file=sys.stderr, flush=True)
    yield show
    if last:
        print(last, file=sys.stderr, flush=True)


class _Terminal:
    """A line at the foot of a terminal, drawn by rich from a thread of its own, so that the time left counts on."""

    def __init__(self) -> None:
        self._lock, self._pace, self._closed = threading.Lock(), Pace(1.0), False
        self._bar: Progress | None = None
        self._now: dict[str, Any] = {"description": "", "completed": 0.0, "total": None}
        self._timer: threading.Timer | None = None

    def update(self, text: str, share: float | None) -> None:
        """Show what is under way and the share of the whole that is done."""
        with self._lock:
            if self._timer is None:  # not earlier: the caller may show something of its own first
                self._timer = threading.Timer(AFTER, self._begin)
                self._timer.daemon = True
                self._timer.start()
            if share is not None:
                self._pace.note(share)
                self._now |= {"completed": share, "total": 1.0}
            self._now["description"] = text
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], **self._now)

    def close(self) -> None:
        """Remove what is shown."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._closed, bar = True, self._bar
        if bar is not None:
            bar.stop()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        with self._lock:
            if self._closed:
                return
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), _left_column(self._pace))
            console = Console(stderr=True, force_jupyter=False)
            self._bar = Progress(*columns, console=console, transient=True, redirect_stdout=False)
            self._bar.add_task(**self._now)
            self._bar.start()


def _left_column(pace: Pace) -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:  # noqa: ARG002  # rich calls it with the task
            left = pace.left
            return Text("" if left is None else f"{duration(max(1.0, left))} left")

    return Left()


class _Notebook:
    """An HTML progress bar in the cell's output, which needs no widgets."""

    def __init__(self) -> None:
        self._pace = Pace(1.0)
        self._handle: Any = None
        self._shown = time.monotonic() - AGAIN + AFTER

    def update(self, text: str, share: float | None) -> None:
        """Show what is under way and the share of the whole that is done."""
        if share is not None:
            self._pace.note(share)
        if time.monotonic() - self._shown < AGAIN:
            return
        import html

        self._shown, left = time.monotonic(), self._pace.left
        said = text if left is None else f"{text}, {duration(max(1.0, left))} left"
        value = "" if share is None else f' value="{share:.3f}"'
        self._put({"text/plain": said, "text/html": f"<progress{value}></progress> {html.escape(said)}"})

    def close(self) -> None:
        """Clear what is shown; the output itself stays, empty."""
        if self._handle is not None:
            self._put({"text/plain": "", "text/html": ""})

    def _put(self, bundle: dict[str, str]) -> None:
        if self._handle is None:
            put = importlib.import_module("IPython.display").display
            self._handle = put(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
