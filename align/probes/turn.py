"""One alignment at a time in a process: models are cast in place, and the number of threads is process-wide."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from align.probes.knobs import usual_threads


class _Turn:
    """A lock that a forked process renews, and whether this process was forked from one with the frameworks loaded."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Forget who holds the lock: that thread does not exist in the child."""
        self.lock = threading.RLock()
        self.forked = self.forked or bool({"torch", "paddle"} & sys.modules.keys())


_turn = _Turn()


@contextlib.contextmanager
def taken() -> Iterator[None]:
    """Run the body once earlier turns are over, while later ones wait."""
    with _turn.lock:
        yield


def threads() -> int:
    """Return how many threads the frameworks may compute with.

    OpenMP's threads are missing in a process forked after they started: more than one would wait for them for ever.
    """
    return 1 if _turn.forked else usual_threads()


def is_forked() -> bool:
    """Return whether this process was forked from one with the frameworks loaded."""
    return _turn.forked
