"""Files that appear whole or not at all: written beside their place, synced, then moved there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

from convert.errors import IOProblem, OutputRefused


def refuse_overwrite(path: Path, *, force: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Check that the path may be written.

    Raises:
        OutputRefused: It is one of the inputs, a symlink or no regular file, or it exists and force is off.
        IOProblem: Its folder does not exist or cannot be written.
    """
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise OutputRefused(path, "it is the input itself", "Choose another --out.")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputRefused(path, "it is not a regular file", "Choose another --out.")
    if path.exists() and not force:
        raise OutputRefused(path, "it exists", "Pass --force to replace it, or choose another --out.")
    if not path.parent.is_dir():
        raise IOProblem(f"{path.parent}: there is no such folder to write {path.name} to. Create it first.")


def write_atomically(path: Path, fill: Callable[[BinaryIO], None], check: Callable[[Path], None] | None = None) -> None:
    """Fill a temporary file beside the path, check it, and only then move it to the path.

    After any failure the path holds what it held before, and the temporary file is gone.

    Args:
        path: Where the file is to appear.
        fill: Writes the content to a binary stream.
        check: Reads the complete temporary file (of the same suffix) and raises if it is not as it should be.

    Raises:
        IOProblem: The folder or the disk refused.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise IOProblem(f"{path}: cannot be written ({error.strerror}). Check the folder's permissions.") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream, ThreadPoolExecutor(1) as beside:
            fill(cast("BinaryIO", stream))
            stream.flush()
            synced = beside.submit(os.fsync, stream.fileno())
            if check is not None:
                check(temporary)
            synced.result()
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise IOProblem(f"{path}: cannot be written ({error.strerror}). Is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_report(path: Path, content: bytes) -> None:
    """Write a report whole or not at all, in place of an older one.

    What is no regular file (a pipe, /dev/stdout) is written to as it is: it must not be replaced by one.

    Raises:
        IOProblem: The folder or the disk refused.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_bytes(content)
        return
    refuse_overwrite(path, force=True)
    write_atomically(path, lambda stream: _write(stream, content))


def _write(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
