"""Make things in a thread, ahead of the code that consumes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 3
"""Batches that are ready or being made while the consumer works on one."""
Part = TypeVar("Part")
Made = TypeVar("Made")


def made_ahead(
    make: Callable[[Part], Made], parts: Iterable[Part], *, ahead: int
) -> Generator[tuple[Part, Made], None, None]:
    """Yield (part, make(part)) in order, made in a thread while the caller works on earlier ones.

    Args:
        make: Makes the result of a part.
        parts: The parts, in order.
        ahead: How many results are ready or being made while the caller works on one.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        pending: deque[tuple[Part, Future[Made]]] = deque()
        try:
            for part in parts:
                pending.append((part, pool.submit(make, part)))
                if len(pending) > ahead:
                    yield _taken(pending)
            while pending:
                yield _taken(pending)
        finally:
            for _, future in pending:
                future.cancel()


def _taken(pending: deque[tuple[Part, Future[Made]]]) -> tuple[Part, Made]:
    part, future = pending.popleft()
    return part, future.result()
