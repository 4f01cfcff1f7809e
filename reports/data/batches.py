"""Preprocessed batches, made by a thread or by processes of their own ahead of the engine."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict

from convert.arrays import Array
from reports.data.making import Making
from reports.data.preprocess import Preprocessing
from reports.data.workers import made_batches


def batches(
    images: Array, preprocessing: Preprocessing, parts: list[slice], *, workers: int = 0
) -> Generator[tuple[slice, Array], None, None]:
    """Yield (which images, preprocessed batch), in order; the batch is good until the next is asked for.

    Args:
        images: (n, height, width, 3) uint8.
        preprocessing: What to do to them; gives (batch, 3, image_size, image_size) float32.
        parts: Which images make which batch.
        workers: How many processes make them; 0: a thread of this one does.
    """
    size, largest = preprocessing.image_size, max((part.stop - part.start for part in parts), default=1)
    making = Making(
        function="reports.data.preprocess:part_maker",
        settings={"preprocessing": asdict(preprocessing)},
        shape=(largest, 3, size, size),
    )
    with closing(made_batches(making, images, [(0, part) for part in parts], workers=workers)) as made:
        for (_, part), batch in made:
            yield part, batch


def parts_of(count: int, batch_size: int, *, rank: int = 0, processes: int = 1) -> list[slice]:
    """Return which of so many images make which batch; the last one may be smaller, and none is left out.

    Args:
        count: How many images there are.
        batch_size: Images per batch.
        rank: Of the processes that share the batches, which one this is; each batch goes to one of them, whole.
        processes: How many share them.
    """
    parts = [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    return parts[rank::processes]
