"""Check that an input is still the file that was opened, and handle one that is cut short in the meantime.

A command reads weights as views of a mapped file. When another program cuts that file short, touching the missing pages
raises SIGBUS, which Python cannot turn into an exception: the process would die without a word. A command then ends
with an error sentence. In anybody else's process, whose signals are not ours to handle, files are held in memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from convert.errors import IntegrityProblem

ADVICE = "Nothing was written from it. Run again when no other program writes to it."
_ended_by: list[object] = []
"""The SIGBUS handlers in place; while there is one, files may be mapped."""

_ours: ContextVar[bool] = ContextVar("ours", default=False)

MAPS = Path("/proc/self/maps")
"""What the process has mapped: addresses, mode, offset, device, inode, path. Source: proc_pid_maps(5)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file as it was found: device, inode, size in bytes, and when its content and its inode were last changed."""

    path: Path
    status: tuple[int, int, int, int, int]


def check_unchanged(snapshots: Iterable[Snapshot]) -> None:
    """Check that files are as they were found; the change time (ctime) cannot be set back, so it reveals any write.

    Raises:
        IntegrityProblem: One was replaced, written to or removed.
    """
    for before in snapshots:
        try:
            same = _status(before.path) == before.status
        except OSError:
            same = False
        if not same:
            raise IntegrityProblem(f"{before.path}: it changed while it was being read. {ADVICE}")


@contextlib.contextmanager
def unchanged(*paths: Path) -> Iterator[tuple[Snapshot, ...]]:
    """Yield snapshots of files that are about to be read; check them on exit, and also when the reading failed.

    Raises:
        IntegrityProblem: One changed meanwhile, which may be why it could not be read.
    """
    snapshots = tuple(Snapshot(path, _status(path)) for path in paths)
    try:
        yield snapshots
    except Exception:
        check_unchanged(snapshots)
        raise
    check_unchanged(snapshots)


@contextlib.contextmanager
def a_cut_input_ends_the_command() -> Iterator[None]:
    """Run the body so that a mapped input that is cut short ends the process with a sentence and exit code 5.

    The handler runs at the faulting access, in NumPy, hashlib or torch, never inside an allocation; it does not return,
    since the access would only fault again. The temporary output stays for the next writer to sweep.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end)
    before = libc.signal(signal.SIGBUS, ctypes.cast(handler, ctypes.c_void_p))
    _ended_by.append(handler)
    try:
        yield
    finally:
        _ended_by.remove(handler)
        libc.signal(signal.SIGBUS, before)


def a_cut_is_told() -> bool:
    """Return whether files may be mapped: one that is cut short ends the process with a sentence, or is ours."""
    return bool(_ended_by) or _ours.get()


@contextlib.contextmanager
def files_of_ours() -> Iterator[None]:
    """Run the body with files mapped in this thread: they are our own and do not have their final names yet."""
    before = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(before)


def cut_short(path: Path | None = None) -> IntegrityProblem:
    """Return the error for a file that was cut short, by default the first one found shorter than its mapping."""
    name = "an input" if path is None else str(path)
    if path is None:
        with contextlib.suppress(OSError, ValueError):
            name = next(_shorter_than_mapped(), name)
    return IntegrityProblem(f"{name}: it was cut short while it was being read. {ADVICE}")


def _end(_signal: int) -> None:
    with contextlib.suppress(Exception):
        os.write(2, f"Error: {cut_short()}\n".encode(errors="surrogateescape"))
    os._exit(IntegrityProblem.exit_code)


def _shorter_than_mapped() -> Iterator[str]:
    """Yield the mapped files that end before their mapping does, except libraries, whose last segment may."""
    page = os.sysconf("SC_PAGE_SIZE")
    lines = [line.split(maxsplit=5) for line in MAPS.read_text(errors="surrogateescape").splitlines()]
    mapped = [fields for fields in lines if len(fields) == 6 and fields[5].startswith("/")]
    libraries = {name for _, mode, *_, name in mapped if "x" in mode}
    for addresses, _, offset, _, _, name in mapped:
        begin, end = (int(address, 16) for address in addresses.split("-"))
        with contextlib.suppress(OSError):
            pages = -(-Path(name).stat().st_size // page)
            if name not in libraries and pages * page < int(offset, 16) + end - begin:
                yield name


def _status(path: Path) -> tuple[int, int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
