"""SIGTERM and SIGINT: while a model trains, a request to stop soon; before and after, the end, with a sentence."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from convert.errors import MixerConvertError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
BY_SIGNAL = 128
"""Number to which a shell adds a signal's for the exit code of a program that the signal ended."""


@dataclass(slots=True)
class Stop:
    """The signal that came, if one did."""

    signal: int | None = None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Run the body, noting the first of SIGNALS instead of dying; a second kills. Off the main thread, note none."""
    stop = Stop()

    def note(number: int) -> None:
        stop.signal = number

    with _handling(note):
        yield stop


class EndedBySignal(MixerConvertError):
    """A signal ended the command (exit 128 and the signal's number)."""

    def __init__(self, number: int, sentence: str) -> None:
        self.exit_code = BY_SIGNAL + number  # type: ignore[misc]  # a class variable elsewhere
        super().__init__(f"Ended by {signal.Signals(number).name}. {sentence}")


class _Came(BaseException):
    """The signal came; no `except Exception` catches this."""


@contextlib.contextmanager
def ended_by_signals(sentence: str) -> Iterator[None]:
    """Run the body until its end or the first of SIGNALS, which ends it by an exception so that it can clean up.

    Args:
        sentence: What is left after a signal, and what to do.

    Raises:
        EndedBySignal: A signal came.
    """
    came: list[int] = []

    def end(number: int) -> None:
        came.append(number)
        raise _Came

    with _handling(end):
        try:
            yield
        except BaseException:  # in the middle of an import, C++ code turns it into an ImportError
            if came:
                raise EndedBySignal(came[0], sentence) from None
            raise


@contextlib.contextmanager
def _handling(act: Callable[[int], None]) -> Iterator[None]:
    """Run the body, calling act on the first of SIGNALS; a second kills. Outside the main thread, change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        act(number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
