"""The .npz format, in which Google published its Mixers. Read without pickles; not written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convert.arrays import Array, StateDict
from convert.errors import Unreadable


def read(path: Path) -> StateDict:
    """Return the arrays of a NumPy archive.

    Raises:
        Unreadable: The archive is damaged, holds a member twice, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if len(set(archive.files)) != len(archive.files):
                raise Unreadable(path, "it holds a member twice")
            return {name: _native(path, name, archive[name]) for name in archive.files}
    except Unreadable:
        raise
    except Exception as error:  # a damaged archive can raise anything in zipfile and NumPy
        raise Unreadable(path, f"it is truncated, damaged or no NumPy archive ({error})") from error


def _native(path: Path, name: str, member: object) -> Array:
    if not isinstance(member, np.ndarray):
        raise Unreadable(path, f"member {name} is no array")
    return member.astype(member.dtype.newbyteorder("="), copy=False)
