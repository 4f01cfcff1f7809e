"""SIGTERM and SIGINT: a request to stop soon while a model trains; before and after that, the end, with a sentence."""

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
"""What a shell adds to a signal's number for the exit code of a program that it ended."""


@dataclass(slots=True)
class Stop:
    """The signal that came, if one did."""

    signal: int | None = None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Note the first of SIGNALS instead of dying of it; a second one kills. Outside the main thread, note none."""
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
    """The signal came; no handler of an error takes it."""


@contextlib.contextmanager
def ended_by_signals(sentence: str) -> Iterator[None]:
    """Let the first of SIGNALS end what runs in here, which cleans up behind itself.

    Args:
        sentence: What there is then, and what to do.

    Raises:
        EndedBySignal: One came.
    """
    came: list[int] = []

    def end(number: int) -> None:
        came.append(number)
        raise _Came

    with _handling(end):
        try:
            yield
        except BaseException:  # in the middle of an import, C++ code makes an ImportError of it
            if came:
                raise EndedBySignal(came[0], sentence) from None
            raise


@contextlib.contextmanager
def _handling(act: Callable[[int], None]) -> Iterator[None]:
    """Have the first of SIGNALS act; a second one kills. Outside the main thread, change nothing."""
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
