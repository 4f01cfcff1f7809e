"""Batches made by worker processes, ahead of the code that consumes them.

Workers are separate programs, not forks: a fork of a process whose frameworks have threads may hang, and a program
that imports no framework starts in half a second. Batches are passed in shared memory, since one of 512 images of
224 px has 308 MB; the memory has no name, so it is freed when the processes end, however they do.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from math import prod

import numpy as np

from convert.arrays import Array
from reports.data.ahead import AHEAD, made_ahead
from reports.data.making import Making
from reports.data.worker import shared
from reports.data.worker_process import WorkerProcess

SLOTS = 3
"""Batches in memory: the one being worked on, and those that are ready or being made."""
Part = tuple[int, slice]
"""The index of a batch, and which of its images are wanted."""


def made_batches(
    making: Making, images: Array, parts: Iterable[Part], *, workers: int
) -> Generator[tuple[Part, Array], None, None]:
    """Yield (part, its images as made) in order; the array is valid until the next is asked for.

    Args:
        making: How to make them.
        images: (n, height, width, 3) uint8.
        parts: The parts, in order.
        workers: How many processes make them; 0: a thread of this process does.

    Raises:
        IOProblem: A process failed, or was killed.
    """
    if not workers:
        make = making.of(images)
        yield from made_ahead(lambda part: make(*part), parts, ahead=AHEAD)
        return
    with _working(making, images, workers) as (batches, processes):
        pending: deque[tuple[int, slice, Part]] = deque()
        for number, part in enumerate(parts):
            slot = number % SLOTS
            for process, start, stop in _shares(processes, part[1]):
                process.ask(slot, start - part[1].start, part[0], start, stop)
            pending.append((slot, part[1], part))
            if len(pending) == SLOTS:
                yield _taken(batches, processes, *pending.popleft())
        while pending:
            yield _taken(batches, processes, *pending.popleft())


def _taken(batches: Array, processes: list[WorkerProcess], slot: int, which: slice, part: Part) -> tuple[Part, Array]:
    for process, _, _ in _shares(processes, which):
        process.wait()
    return part, batches[slot, : which.stop - which.start]


def _shares(processes: list[WorkerProcess], part: slice) -> Iterator[tuple[WorkerProcess, int, int]]:
    """Yield (process, start, stop) for each process that makes images of a part."""
    length, count = part.stop - part.start, len(processes)
    bounds = [part.start + length * number // count for number in range(count + 1)]
    for process, (start, stop) in zip(processes, itertools.pairwise(bounds), strict=True):
        if start < stop:
            yield process, start, stop


@contextmanager
def _working(making: Making, images: Array, count: int) -> Iterator[tuple[Array, list[WorkerProcess]]]:
    """Yield the memory of SLOTS batches and the processes that make them, which are killed on exit."""
    with ExitStack() as ended:
        with _memory(images.nbytes) as seen, _memory(4 * SLOTS * prod(making.shape)) as made:
            places: dict[str, tuple[int, list[int], str]] = {
                "images": (seen, list(images.shape), "uint8"),
                "batches": (made, [SLOTS, *making.shape], "float32"),
            }
            np.copyto(shared(*places["images"]), images)
            batches = shared(*places["batches"])
            told = json.dumps({**places, "function": making.function, "settings": making.settings})
            processes = []
            for _ in range(count):
                processes.append(WorkerProcess(told, (seen, made)))
                ended.callback(processes[-1].end)
        yield batches, processes


@contextmanager
def _memory(size: int) -> Iterator[int]:
    """Yield a descriptor of this many bytes of memory, closed on exit; mappings made before then stay valid."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("mixer-report")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)
