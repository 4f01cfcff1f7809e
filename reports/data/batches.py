"""Preprocessed batches, made ahead of the engine by a thread or by worker processes."""

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
    """Yield (slice of the images, preprocessed batch) in order; a batch is valid until the next is asked for.

    Args:
        images: (n, height, width, 3) uint8.
        preprocessing: How to preprocess them; gives (batch, 3, image_size, image_size) float32.
        parts: The slice of the images for each batch.
        workers: How many processes make the batches; 0: a thread of this process does.
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
    """Return the slices of count images that make the batches; the last may be smaller, and no image is left out.

    Args:
        count: How many images there are.
        batch_size: Images per batch.
        rank: This process's number among those that share the batches; each batch goes whole to one of them.
        processes: How many processes share the batches.
    """
    parts = [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    return parts[rank::processes]
