"""Temporary files and folders: locked while their writer lives, swept by the next writer if it was killed.

The kernel drops a lock (flock) with the process that holds it, however it ends. So a temporary name that can be locked
belongs to nobody, and one that cannot be belongs to a writer at work.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

OWN = re.compile(r"\.mixer-(tmp|lock)-[0-9a-f]{16}(\..*)?")
"""Names that this module gives, and may sweep. The suffix is the output's, because readers go by it."""


@contextlib.contextmanager
def temporary_file(folder: Path, suffix: str, mode: int = 0o666) -> Iterator[tuple[Path, int]]:
    """Yield the path and the descriptor of a new, locked file with a mode less the umask; remove it on exit.

    What an earlier, killed writer left in the folder is swept first.

    Raises:
        OSError: The folder refused.
    """
    sweep(folder)

    def create(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    with _claimed(lambda: folder / f".mixer-tmp-{secrets.token_hex(8)}{suffix}", create) as claimed:
        yield claimed


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Yield the path of a new, locked folder inside a folder; remove it on exit, with all that is in it."""
    sweep(folder)

    def create(path: Path) -> int:
        path.mkdir()
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    with _claimed(lambda: folder / f".mixer-tmp-{secrets.token_hex(8)}", create) as (path, _):
        yield path


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Run the body holding our writers' lock on a path: its own file, so a user's `flock FOLDER …` cannot block it."""
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]

    def create(lock: Path) -> int:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)

    with _claimed(lambda: path.with_name(f".mixer-lock-{name}"), create):
        yield


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder; what cannot be removed is left alone."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if OWN.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_unless_held(folder / name)


def keep_access(handle: int, replaced: os.stat_result) -> None:
    """Set a file's owner, group and mode to those of the file it is to replace, as far as the system permits.

    Where it does not, nobody may do more with the new file than with the old one: unless owner and group are the same,
    there is no setuid or setgid bit; if the group is another, it has no rights, others none that the old one lacked.
    """
    mode = stat.S_IMODE(replaced.st_mode)
    for owner in (replaced.st_uid, -1):
        with contextlib.suppress(OSError):
            os.fchown(handle, owner, replaced.st_gid)
            break
    ours = os.fstat(handle)
    if ours.st_uid != replaced.st_uid or ours.st_gid != replaced.st_gid:
        mode &= ~(stat.S_ISUID | stat.S_ISGID)
    if ours.st_gid != replaced.st_gid:
        mode &= ~stat.S_IRWXG & ~stat.S_IRWXO | (mode >> 3 & stat.S_IRWXO)
    with contextlib.suppress(OSError):  # a file system without modes
        os.fchmod(handle, mode)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the entries of a folder, if we may read it and its file system supports that."""
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        finally:
            os.close(handle)


@contextlib.contextmanager
def _claimed(name: Callable[[], Path], create: Callable[[Path], int]) -> Iterator[tuple[Path, int]]:
    """Yield what `_claim` returns; remove it on exit."""
    path, handle = _claim(name, create)
    try:
        yield path, handle
    finally:
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        shutil.rmtree(path, ignore_errors=True) if folder else path.unlink(missing_ok=True)
        os.close(handle)


def _claim(name: Callable[[], Path], create: Callable[[Path], int]) -> tuple[Path, int]:
    """Create and lock a file or folder that was not swept in between; return its path and descriptor."""
    while True:
        path = name()
        handle = create(path)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: nobody can sweep it there either
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(path, handle):
                return path, handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _remove_unless_held(path: Path) -> None:
    mode = path.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, handle):
            shutil.rmtree(path) if stat.S_ISDIR(mode) else path.unlink()
    finally:
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False
