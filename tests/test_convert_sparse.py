"""A sparse file of 100 GB that begins like an archive is refused by its end, without a look at what is between."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forge import npy, plain, tensor, torch_zip, weight, zipped

from convert import files
from convert.errors import BadInput

SIZE = 100 * 10**9
SECONDS = 1.0
"""To look through 100 GB takes longer at the speed of any memory."""
PROCESS_SECONDS = 15.0
"""With the interpreter's start. To look through the file takes more than a minute."""


def end(size: int, start: int, entries: int = 1) -> bytes:
    """Return the end of an archive that says so of its directory."""
    return struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, entries, entries, size, start, 0)


def wide_end(size: int, start: int, entries: int, at: int) -> bytes:
    """Return the end of an archive in its wide form, to be written at a place."""
    wide = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    return wide + locator + end(min(size, 2**32 - 1), min(start, 2**32 - 1), min(entries, 2**16 - 1))


WIDE = 56 + 20 + 22
ENDS = {
    "zeros": (b"\0" * 22, "does not end with a directory"),
    "a directory of 4 GB": (end(2**32 - 2, 0), "does not lie where it ends"),
    "a wide directory that is the file": (wide_end(SIZE - WIDE, 0, 1, SIZE - WIDE), "its directory would have"),
    "a wide directory with many entries": (
        wide_end(10**6, SIZE - WIDE - 10**6, 2**40, SIZE - WIDE),
        "something in its directory is no entry",
    ),
    "a wide directory elsewhere": (wide_end(100, 0, 1, 0), "not where it says"),
}


@pytest.fixture(params=[".pth", ".npz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of 100 GB of which a kilobyte is on the disk."""
    begin = (
        torch_zip(weight(tensor(), protocol=2))
        if request.param == ".pth"
        else zipped({"a.npy": npy(plain(), bytes(8))})
    )
    path = tmp_path / f"x{request.param}"
    path.write_bytes(begin)
    try:
        with path.open("r+b") as stream:
            stream.truncate(SIZE)
    except OSError as error:
        pytest.skip(f"this file system has no sparse files of 100 GB ({error})")
    if path.stat().st_blocks * 512 > 2**20:
        path.unlink()
        pytest.skip("this file system has no sparse files")
    return path


def finish(path: Path, tail: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(SIZE - len(tail))
        stream.write(tail)


@pytest.mark.parametrize("name", ENDS)
def test_a_sparse_archive_is_refused_at_once(path: Path, name: str) -> None:
    tail, reason = ENDS[name]
    finish(path, tail)
    began = time.monotonic()
    with pytest.raises(BadInput, match=reason):
        files.read(path)
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("name", ["zeros", "a wide directory that is the file"])
def test_the_command_refuses_a_sparse_archive_soon(path: Path, name: str) -> None:
    finish(path, ENDS[name][0])
    began = time.monotonic()
    code = "import sys; from convert.commands.cli import main; sys.exit(main(['inspect', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - began < PROCESS_SECONDS


def test_a_conversion_refuses_a_sparse_archive_soon(path: Path, tmp_path: Path) -> None:
    """Its hash is computed beside the reading, and given up when that fails."""
    began = time.monotonic()
    code = "import sys; from convert.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["--checkpoint", path, "--out", tmp_path / "out.safetensors"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - began < PROCESS_SECONDS


def test_the_wide_end_is_one_that_is_read(tmp_path: Path) -> None:
    """So the ends above are refused for what they say, not for their form."""
    plain_archive = zipped({"a.npy": npy(plain(), bytes(8))})
    body, (entries, size, start) = plain_archive[:-22], struct.unpack("<H2I", plain_archive[-12:-2])
    (tmp_path / "x.npz").write_bytes(body + wide_end(size, start, entries, len(body)))
    assert list(files.read(tmp_path / "x.npz")) == ["a"]
    for tail in (
        wide_end(size, start, entries + 1, len(body)),
        wide_end(size, start, entries, len(body))[:-22] + end(1, 1),
    ):
        (tmp_path / "x.npz").write_bytes(body + tail)
        with pytest.raises(BadInput, match=r"entries|two things"):
            files.read(tmp_path / "x.npz")
