"""The .npz format, in which Google published its Mixers. Read without pickles; not written."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from convert.arrays import StateDict
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
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise Unreadable(path, f"it is truncated, damaged or no NumPy archive ({error})") from error
