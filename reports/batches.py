"""Preprocessed batches, made in a thread of their own ahead of the engine, which therefore never waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from convert.arrays import Array
from reports.preprocess import Preprocessing

Part = TypeVar("Part")
Made = TypeVar("Made")

AHEAD = 3
"""Batches that are ready or in the making while the engine works on one."""


def batches(
    images: Array, preprocessing: Preprocessing, batch_size: int, *, rank: int = 0, processes: int = 1
) -> Iterator[tuple[slice, Array]]:
    """Yield (which images, preprocessed batch), in order; the last batch may be smaller, and none is left out.

    Args:
        images: (n, height, width, 3) uint8.
        preprocessing: What to do to them; gives (batch, 3, image_size, image_size) float32.
        batch_size: Images per batch.
        rank: Of the processes that share the batches, which one this is; each batch goes to one of them, whole.
        processes: How many share them.
    """
    parts = [slice(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    return made_ahead(lambda part: preprocessing.apply(images[part]), parts[rank::processes])


def made_ahead(make: Callable[[Part], Made], parts: Iterable[Part]) -> Generator[tuple[Part, Made], None, None]:
    """Yield (part, what is made of it), in order, made in a thread while the caller works on earlier ones."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="preprocess") as pool:
        pending: deque[tuple[Part, Future[Made]]] = deque()
        try:
            for part in parts:
                pending.append((part, pool.submit(make, part)))
                if len(pending) > AHEAD:
                    yield _taken(pending)
            while pending:
                yield _taken(pending)
        finally:
            for _, future in pending:
                future.cancel()


def _taken(pending: deque[tuple[Part, Future[Made]]]) -> tuple[Part, Made]:
    part, future = pending.popleft()
    return part, future.result()
