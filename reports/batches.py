"""Preprocessed batches, made in a thread of their own ahead of the engine, which therefore never waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from convert.arrays import Array
from reports.preprocess import Preprocessing

AHEAD = 3
"""Batches that are ready or in the making while the engine works on one."""


def batches(images: Array, preprocessing: Preprocessing, batch_size: int) -> Iterator[tuple[slice, Array]]:
    """Yield (which images, preprocessed batch), in order; the last batch may be smaller, and none is left out.

    Args:
        images: (n, height, width, 3) uint8.
        preprocessing: What to do to them; gives (batch, 3, image_size, image_size) float32.
        batch_size: Images per batch.
    """
    parts = [slice(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="preprocess") as pool:
        pending: deque[tuple[slice, Future[Array]]] = deque()
        try:
            for part in parts:
                pending.append((part, pool.submit(preprocessing.apply, images[part])))
                if len(pending) > AHEAD:
                    yield _taken(pending)
            while pending:
                yield _taken(pending)
        finally:
            for _, future in pending:
                future.cancel()


def _taken(pending: deque[tuple[slice, Future[Array]]]) -> tuple[slice, Array]:
    part, future = pending.popleft()
    return part, future.result()
