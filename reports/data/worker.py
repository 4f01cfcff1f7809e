"""A process that makes parts of batches: it imports NumPy and Pillow, and no framework.

Images and batches lie in memory that it shares with its parent, the process that started it. The parent sends requests
on standard input, a line each, and gets a line in answer to each. The process ends when its standard input does, as
when the parent is killed.
"""

from __future__ import annotations

import mmap
import pkgutil
import signal
import sys
from math import prod
from typing import Any

import numpy as np

from convert.arrays import Array
from convert.files import strict_json

DONE = b"done\n"


def main(given: dict[str, Any]) -> None:
    """Answer requests, each a slot, a place in it, the index of a batch, and where its part starts and stops.

    Args:
        given: images and batches, each a descriptor, a shape and a dtype; function and settings, those of a Making.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when the parent is gone
    images, batches = (shared(*given[name]) for name in ("images", "batches"))
    make = pkgutil.resolve_name(given["function"])(images, **given["settings"])
    for line in sys.stdin.buffer:
        slot, at, index, start, stop = map(int, line.split())
        try:
            batches[slot, at : at + stop - start] = make(index, slice(start, stop))
            answer = DONE
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent has to report it
            answer = f"{type(error).__name__}: {error}".replace("\n", " ").encode() + b"\n"
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


def shared(descriptor: int, shape: list[int], dtype: str) -> Array:
    """Return an array in the memory of a descriptor, shared by every process that has the descriptor."""
    size = prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(descriptor, size), dtype).reshape(shape)


if __name__ == "__main__":
    main(strict_json.parse(sys.argv[1]))
