"""Pass the progress of slow work from the code that does it to the code that shows it, by default to none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Told = Callable[[str, float | None], None]
"""Called with what is under way and the share of it that is done; None: unknown."""

_told: ContextVar[Told | None] = ContextVar("told", default=None)


def tell(what: str, done: int, total: int | None) -> None:
    """Report how many bytes are done, and out of how many; None: the total is unknown."""
    if (told := _told.get()) is not None:
        size = f" of {total / 1e6:,.0f}" if total else ""
        told(f"{what}, {done / 1e6:,.0f}{size} MB", done / total if total else None)


@contextlib.contextmanager
def telling(told: Told) -> Iterator[None]:
    """Run the body with this function called for all progress that this thread reports."""
    before = _told.set(told)
    try:
        yield
    finally:
        _told.reset(before)
