"""Preprocessed batches, made in a thread of their own ahead of the engine, which therefore never waits for them."""

from __future__ import annotations

from collections.abc import Iterator

from convert.arrays import Array
from reports.data.ahead import made_ahead
from reports.data.preprocess import Preprocessing

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
    parts = _own_parts(len(images), batch_size, rank, processes)
    return made_ahead(lambda part: preprocessing.apply(images[part]), parts, ahead=AHEAD)


def own_images(count: int, batch_size: int, rank: int, processes: int) -> int:
    """Return how many of so many images one of the processes that share the batches gets."""
    return sum(part.stop - part.start for part in _own_parts(count, batch_size, rank, processes))


def _own_parts(count: int, batch_size: int, rank: int, processes: int) -> list[slice]:
    parts = [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    return parts[rank::processes]
