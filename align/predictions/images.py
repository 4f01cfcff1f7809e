"""A user's own images: picture files, preprocessed as the variant needs, and arrays that are used as they are."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.arrays import Array, Shape, StateDict
from convert.errors import BadInput, Unreadable, UsageProblem
from convert.files import npy, npz

ARRAYS = (".npy", ".npz")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """One normalised image (in_chans, image_size, image_size), float32, and what to call it."""

    name: str
    pixels: Array


def batches(
    paths: Sequence[Path], shape: Shape, read_picture: Callable[[Path], Array] | None, batch_size: int
) -> Iterator[tuple[Image, ...]]:
    """Yield the images of all files in order, `batch_size` at a time.

    Args:
        paths: Picture files, or .npy and .npz files with arrays (images, in_chans, image_size, image_size), float32,
            normalised.
        shape: Shape of one image that the model takes: (in_chans, height, width).
        read_picture: Resizes, crops and normalises a picture; None: only arrays are read.
        batch_size: Number of images at a time; the last batch may be smaller.

    Raises:
        Unreadable: A file is no image or array of this kind.
        UsageProblem: A picture is given, but no function that reads pictures.
    """
    pictures = [path for path in paths if path.suffix not in ARRAYS]
    if pictures and read_picture is None:
        raise UsageProblem(
            f"{pictures[0]}: only a variant says how pictures are preprocessed. Pass --variant, or arrays (.npy, .npz)."
        )
    images = itertools.chain.from_iterable(_images(path, shape, read_picture) for path in paths)
    while batch := tuple(itertools.islice(images, batch_size)):
        yield batch


def count(paths: Sequence[Path]) -> int | None:
    """Return how many images the files hold; None if one cannot be read, which `batches` reports."""
    with contextlib.suppress(BadInput, OSError, TypeError):
        return sum(map(_count, paths))
    return None


def _count(path: Path) -> int:
    if path.suffix not in ARRAYS:
        return 1
    return sum(map(len, npz.read(path).values())) if path.suffix == ".npz" else len(npy.read(path))


def _images(path: Path, shape: Shape, read_picture: Callable[[Path], Array] | None) -> Iterable[Image]:
    if read_picture is not None and path.suffix not in ARRAYS:
        return [_checked(path, str(path), read_picture(path))]
    with path.open("rb"):  # so that a missing file raises an error of its own, not that of a damaged one
        pass
    members = npz.read(path) if path.suffix == ".npz" else {"": npy.read(path)}
    return _rows(path, members, shape)


def _rows(path: Path, members: StateDict, wanted: Shape) -> Iterator[Image]:
    for member, array in members.items():
        name = f"{path}:{member}" if member else str(path)
        if array.ndim != 4 or array.shape[1:] != wanted or len(array) == 0 or array.dtype != np.float32:
            size = ", ".join(map(str, wanted))
            raise Unreadable(
                path,
                f"{member or 'it'} is {array.dtype.name} {array.shape}, not float32 (images, {size})",
                "Save normalised images, channels first, as float32.",
            )
        for i, row in enumerate(array):
            yield _checked(path, f"{name}[{i}]", np.asarray(row))


def _checked(path: Path, name: str, pixels: Array) -> Image:
    if not np.isfinite(pixels).all():
        raise Unreadable(path, f"{name} holds a value that is not finite", "Leave that image out.")
    return Image(name=name, pixels=pixels)
