"""What takes time is told here, by whoever does it, to whoever shows it; by default to nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Told = Callable[[str, float | None], None]
"""Is told what is under way, and the share of it that is done; None: nobody knows."""

_told: ContextVar[Told | None] = ContextVar("told", default=None)


def tell(what: str, done: int, total: int | None) -> None:
    """Tell that so many bytes of so many are done; None: nobody knows of how many."""
    if (told := _told.get()) is not None:
        size = f" of {total / 1e6:,.0f}" if total else ""
        told(f"{what}, {done / 1e6:,.0f}{size} MB", done / total if total else None)


@contextlib.contextmanager
def telling(told: Told) -> Iterator[None]:
    """Have this told of what this thread does, for as long as the context lasts."""
    before = _told.set(told)
    try:
        yield
    finally:
        _told.reset(before)
