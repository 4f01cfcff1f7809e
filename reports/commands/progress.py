"""How far a run is: a bar on a terminal, elsewhere a line at the begin, every so often, and at the end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from reports.score.evaluate import Progress
    from reports.train.finetune import Progress as TrainingProgress

EVERY = 30.0
"""Seconds between two lines: a log of a night's run stays short, and who looks sees whether it goes on."""
Show = Callable[[int, str], None]
"""Is told how many images are done, and what else there is to say."""


@contextlib.contextmanager
def evaluating(total: int) -> Iterator[Progress]:
    """Show on standard error images done, accuracy so far, images/s and time left of an evaluation."""
    with shown(total, f"evaluating {total:,} images") as show:
        yield lambda done, right: show(done, f"{100 * right / done:.2f} % right")


@contextlib.contextmanager
def training(steps: int, total: int) -> Iterator[TrainingProgress]:
    """Show on standard error images done, step, loss, images/s and time left of a training."""
    with shown(total, f"training, {steps:,} steps, {total:,} images") as show:
        yield lambda line, done: show(done, f"step {line['step']:,} of {steps:,}, loss {line['loss']:.4f}")


def shown(total: int, begin: str) -> contextlib.AbstractContextManager[Show]:
    """Return what shows how many of so many images are done; begin says what begins, where there is no bar."""
    return _bar(total) if sys.stderr.isatty() else _lines(total, begin)


@contextlib.contextmanager
def _lines(total: int, begin: str) -> Iterator[Show]:
    pace = Pace(total)
    said = time.monotonic()
    last = ""

    def show(done: int, text: str) -> None:
        nonlocal said, last
        pace.note(done)
        last = ", ".join([f"{done:,} of {total:,} images", text, *pace.said])
        if time.monotonic() - said >= EVERY:
            said = time.monotonic()
            click.echo(last, err=True)
            last = ""

    click.echo(begin, err=True)
    yield show
    if last:
        click.echo(last, err=True)


class Pace:
    """How fast images go, from the first that were noted on: those of a run that is resumed were there before."""

    def __init__(self, total: int) -> None:
        self.total, self._done, self._seconds = total, 0, 0.0
        self._began: tuple[int, float] | None = None

    def note(self, done: int) -> None:
        """Note how many are done by now."""
        now = time.monotonic()
        self._began = self._began or (done, now)
        self._done, self._seconds = done, now - self._began[1]

    @property
    def said(self) -> Iterator[str]:
        """The pace, and how long the rest takes at it."""
        fresh = self._done - self._began[0] if self._began else 0
        if fresh and self._seconds:
            rate = fresh / self._seconds
            yield f"{rate:.1f} images/s"
            if self._done < self.total:
                yield f"{duration((self.total - self._done) / rate)} left"


def duration(seconds: float) -> str:
    """Return a time in its largest unit and the one below."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, rate="", text="")

        def show(done: int, text: str) -> None:
            bar.update(task, completed=done, text=text)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f} images/s" if speed else "")

        yield show


def say(what: str) -> None:
    """Say on a terminal what is about to run."""
    if sys.stderr.isatty():
        click.echo(what, err=True)
