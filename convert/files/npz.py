"""The .npz format, in which Google published its Mixers. Read without pickles; not written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from convert.arrays import StateDict
from convert.errors import Unreadable
from convert.files.npy import array_of
from convert.files.zips.zip_archive import read_members

SUFFIX = ".npy"


def read(path: Path, content: bytes | None = None) -> StateDict:
    """Return the arrays of a NumPy archive.

    Args:
        path: The archive, or only its name when its content is given.
        content: Its bytes, if they have been read already.

    Raises:
        Unreadable: The archive is damaged, holds a member twice, or holds Python objects.
    """
    return arrays_of(path, read_members(path, content))


def arrays_of(path: Path, members: Mapping[str, memoryview]) -> StateDict:
    """Return the arrays that the members of an archive hold, by name without suffix.

    Raises:
        Unreadable: A member is no array, or holds Python objects.
    """
    arrays = {}
    for name, member in members.items():
        if not name.endswith(SUFFIX):
            raise Unreadable(path, f"member {name} is no array")
        try:
            arrays[name.removesuffix(SUFFIX)] = array_of(member)
        except ValueError as error:
            raise Unreadable(path, f"member {name}: {error}") from error
    return arrays
