"""Write files that appear whole or not at all: each is written beside its place, read back, synced, then moved there.

The toolkit writes in this way alone. Whatever happens, a full disk or a kill at any moment, an output is the old file
or the complete new one, and what a kill left behind is swept by the next writer in the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

from convert.disk.temporary import exclusive, keep_access, sync_folder, temporary_file
from convert.disk.unchanged import cut_short
from convert.errors import BadInput, IntegrityProblem, IOProblem, OutputRefused

Fill = Callable[[BinaryIO], None]
Beside = tuple[Path, Callable[[], bytes]]
"""A file that describes another: its path, and a function that returns its content once the other is complete."""

ADVICE = {
    errno.ENOSPC: "The disk is full: make room, or choose another folder.",
    errno.EDQUOT: "The quota is used up: make room, or choose another folder.",
    errno.EFBIG: "It is larger than files may be here: see `ulimit -f`, or choose another disk.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.EACCES: "Check the folder's permissions, or choose another.",
    errno.EPERM: "Check the folder's permissions, or choose another.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of link(2) on file systems without hard links (FAT, some network and user-space ones)."""


def refuse_overwrite(path: Path, *, force: bool, inputs: tuple[Path, ...] = (), option: str = "--out") -> None:
    """Check that the path that an option names may be written.

    Raises:
        OutputRefused: It is one of the inputs (under any name), a symlink or not a regular file, or it exists and
            force is off.
        IOProblem: Its folder does not exist or is not writable, or the path itself is impossible.
    """
    exists = _is_there(path)
    for source in inputs if exists else ():
        if path.exists() and source.exists() and path.samefile(source):
            raise OutputRefused(path, "it is the input itself", f"Choose another {option}.")
    if exists and (path.is_symlink() or not path.is_file()):
        raise OutputRefused(path, "it is not a regular file", f"Choose another {option}.")
    if exists and not force:
        raise _exists(path, option)
    if not path.parent.is_dir():
        raise IOProblem(f"{path.parent}: there is no such folder to write {path.name} to. Create it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        why = errno.EROFS if os.statvfs(path.parent).f_flag & os.ST_RDONLY else errno.EACCES
        raise refusal(path, OSError(why, os.strerror(why)))


def write_atomically(
    path: Path,
    fill: Fill,
    check: Callable[[Path], None] | None = None,
    *,
    force: bool = True,
    beside: Beside | None = None,
) -> None:
    """Fill a temporary file beside the path, check it, and only then move it to the path.

    After any failure the path holds what it held before, and the temporary file is gone. With `beside`, both files are
    complete before either is moved, and concurrent writers move their pairs one after the other, so that no two are
    mixed. A kill between the two moves leaves the new file with the old description. Removing that first would cost the
    old file its description if the kill came a moment earlier; as it is, `mixer-convert verify FILE` reports it.

    A file that replaces another takes over its mode and, where the system permits it, its owner and group; until then
    nobody else can read it. Access control lists and extended attributes are not carried over.

    Args:
        path: Where the file is to appear.
        fill: Writes the content to a binary stream.
        check: Reads the complete temporary file (of the same suffix) and raises if it is not as it should be.
        force: Whether to replace a file that is there already or appears meanwhile.
        beside: A file that describes this one, moved last.

    Raises:
        OutputRefused: Something is there and force is off.
        IntegrityProblem: What was written cannot be read back, or an input was cut short.
        IOProblem: The folder or the disk refused.
    """
    try:
        with contextlib.ExitStack() as temporaries:
            moves = [(_written(temporaries, path, fill, check), path)]
            if beside is not None:
                place, content = beside[0], beside[1]()
                moves.append((_written(temporaries, place, lambda stream: _write(stream, content), None), place))
            with exclusive(path) if beside is not None else contextlib.nullcontext():
                _move(moves, force=force)
            sync_folder(path.parent)
    except OSError as error:
        if error.errno == errno.EFAULT:  # the data to write is in a mapped file that lost these pages
            raise cut_short() from error
        raise refusal(path, error) from error


def check_report(path: Path, option: str, inputs: tuple[Path, ...] = ()) -> None:
    """Check, before there is anything to write, that `write_report` will be able to write it.

    Raises:
        OutputRefused, IOProblem: As `refuse_overwrite` says.
    """
    if path.is_dir() or not _is_stream(path):
        refuse_overwrite(path.resolve() if path.is_symlink() else path, force=True, inputs=inputs, option=option)


def write_report(path: Path, content: bytes) -> None:
    """Write a report whole or not at all, in place of an older one; a symlink stays one, its target is replaced.

    What is not a regular file (a pipe, /dev/stdout) is written to directly: it must not be replaced by one.

    Raises:
        IOProblem: The folder or the disk refused.
    """
    if _is_stream(path):
        path.write_bytes(content)
        return
    path = path.resolve() if path.is_symlink() else path
    refuse_overwrite(path, force=True)
    write_atomically(path, lambda stream: _write(stream, content))


def refusal(path: Path, error: OSError) -> IOProblem:
    """Return the error that says why the system refused to write a file, and what to do."""
    advice = ADVICE.get(error.errno or 0, "Check the disk and the folder.")
    return IOProblem(f"{path}: cannot be written ({error.strerror or error}). {advice}")


def _written(temporaries: contextlib.ExitStack, path: Path, fill: Fill, check: Callable[[Path], None] | None) -> Path:
    """Return the temporary file for a path: filled, then read back and synced at the same time."""
    replaced = _regular(path)
    mode = 0o666 if replaced is None else 0o600
    temporary, handle = temporaries.enter_context(temporary_file(path.parent, path.suffix, mode))
    with os.fdopen(handle, "wb", closefd=False) as stream, ThreadPoolExecutor(1) as beside:
        fill(cast("BinaryIO", stream))
        stream.flush()
        synced = beside.submit(os.fsync, handle)
        try:
            if check is not None:
                check(temporary)
        except BadInput as error:
            raise IntegrityProblem(
                f"{path}: what was written cannot be read back ({error}). Check the disk."
            ) from error
        synced.result()
    if replaced is not None:
        keep_access(handle, replaced)
    return temporary


def _regular(path: Path) -> os.stat_result | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _move(moves: list[tuple[Path, Path]], *, force: bool) -> None:
    for _, path in moves:
        if not force and os.path.lexists(path):
            raise _exists(path)
    for temporary, path in moves:
        if force or not _link(temporary, path):
            temporary.replace(path)


def _link(temporary: Path, path: Path) -> bool:
    """Link the file to its path in one step, unless that exists by now; return whether the file system can do that."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        if error.errno in NO_LINKS:
            return False
        raise
    return True


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise refusal(path, error) from error
    return True


def _exists(path: Path, option: str = "--out") -> OutputRefused:
    return OutputRefused(path, "it exists", f"Pass --force to replace it, or choose another {option}.")


def _is_stream(path: Path) -> bool:
    named_stream = path.is_symlink() and path.absolute().parts[1:2] in (("dev",), ("proc",))
    return named_stream or (path.exists() and not path.is_file())


def _write(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
