"""Temporary files and folders of our own: locked while their writer lives, swept by the next one when it was killed.

The kernel drops a lock (flock) with the process that holds it, however that ends. So a name of ours that can be locked
belongs to nobody, and one that cannot belongs to a writer at work.
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
"""The names that are ours to sweep. The suffix is the output's, which readers go by."""


@contextlib.contextmanager
def temporary_file(folder: Path, suffix: str, mode: int = 0o666) -> Iterator[tuple[Path, int]]:
    """Give the path and the descriptor of a new, locked file, with a mode less the umask; it is gone at the end.

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
    """Give the path of a new, locked folder inside a folder; it is gone at the end, with all that is in it."""
    sweep(folder)

    def create(path: Path) -> int:
        path.mkdir()
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    with _claimed(lambda: folder / f".mixer-tmp-{secrets.token_hex(8)}", create) as (path, _):
        yield path


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of a path among our writers: a file of its own, so a user's `flock FOLDER …` is no deadlock."""
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
    """Give a file the owner, the group and the mode of the one that it is to replace, as far as the system lets us.

    Where it does not, nobody may do more with the new file than with the old one: without the owner there is no setuid
    or setgid bit, and without the group neither its rights nor more for others than those it had.
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
    """Wait until the disk has the names of a folder, where it may be read and its file system knows how to."""
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
    """Give what `_claim` returns; it is gone at the end."""
    path, handle = _claim(name, create)
    try:
        yield path, handle
    finally:
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        shutil.rmtree(path, ignore_errors=True) if folder else path.unlink(missing_ok=True)
        os.close(handle)


def _claim(name: Callable[[], Path], create: Callable[[Path], int]) -> tuple[Path, int]:
    """Return the path and the descriptor of what was created and locked, and was not swept in between."""
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
