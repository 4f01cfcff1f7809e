"""Write a folder of small files that appears whole or not at all, if possible replacing an older one in one step."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from convert.disk.atomic import refusal
from convert.disk.temporary import sync_folder, temporary_folder

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Source: Linux, include/uapi/linux/fcntl.h and include/uapi/linux/fs.h."""


def write_folder_atomically(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files, in order, to a folder beside the path, then move it there; an older folder is removed.

    Raises:
        IOProblem: The parent folder or the disk refused; the path holds what it held before.
    """
    try:
        with temporary_folder(path.parent) as temporary:
            for name, content in files.items():
                _write(temporary / name, content)
            sync_folder(temporary)
            _take_place(temporary, path)
            sync_folder(path.parent)
    except OSError as error:
        raise refusal(path, error) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _take_place(temporary: Path, path: Path) -> None:
    """Move the new folder to the path; an older one gets the temporary name, under which it is removed."""
    if not path.exists():
        temporary.rename(path)
    elif not _exchange(temporary, path):
        _step_aside(temporary, path)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; return whether the system and the file system can."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def _step_aside(temporary: Path, path: Path) -> None:
    """Replace the folder in two steps. A kill between them leaves the old one whole beside it, `<name>.replaced`."""
    aside = path.with_name(f"{path.name}.replaced")
    path.rename(aside)
    try:
        temporary.rename(path)
    except OSError:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
