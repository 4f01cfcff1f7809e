"""One alignment at a time in a process: models are cast in place, and how many threads compute is the process's."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from align.probes.knobs import usual_threads


class _Turn:
    """A lock that a forked process has anew, and whether this process was forked from one that had the frameworks."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Forget who holds the lock: that thread is not in the child."""
        self.lock = threading.RLock()
        self.forked = self.forked or bool({"torch", "paddle"} & sys.modules.keys())


_turn = _Turn()


@contextlib.contextmanager
def taken() -> Iterator[None]:
    """Wait for those before, and let those behind wait."""
    with _turn.lock:
        yield


def threads() -> int:
    """Return how many threads the frameworks may compute with.

    OpenMP's are not there in a process that was forked when they were: more than one would wait for them for ever.
    """
    return 1 if _turn.forked else usual_threads()


def is_forked() -> bool:
    """Return whether this process was forked from one in which the frameworks were."""
    return _turn.forked
