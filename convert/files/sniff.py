"""What a file is by its first bytes, so that a wrong file is named for what it is and not for how its reader failed."""

from __future__ import annotations

from pathlib import Path

from convert.errors import Unreadable, WrongFileKind

EXPECTED = {
    ".safetensors": {"a safetensors file"},
    ".pdparams": {"a pickle"},
    ".pth": {"a zip archive", "a pickle"},
    ".pt": {"a zip archive", "a pickle"},
    ".npz": {"a zip archive"},
    ".json": {"JSON"},
}
"""The kinds a suffix may hold. torch.save writes a zip archive since 1.6 and a bare pickle before that."""

ADVICE = {
    "a Git LFS pointer": "Fetch the real file with `git lfs pull`.",
    "an HTML page": "A web server answered with a page instead of the file; download the raw file.",
    "empty": "Download it again.",
}


def kind_of(head: bytes) -> str:
    """Return what a file is, judged by its first bytes (256 are enough)."""
    text = head.lstrip().lower()
    if not head:
        return "empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML page"
    if text.startswith(b"{"):
        return "JSON"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "a zip archive"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return "a safetensors file"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "a pickle"
    return "of no kind we know"


def check_kind(path: Path) -> None:
    """Check that the file holds what its suffix says.

    Raises:
        WrongFileKind: It holds something else, which the error names.
        Unreadable: It is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise Unreadable(path, "it is not a regular file", "Name a checkpoint file.")
    with path.open("rb") as stream:
        found = kind_of(stream.read(256))
    expected = EXPECTED[path.suffix]
    if found not in expected:
        advice = ADVICE.get(found, "Name it by what it is, or get the right file.")
        raise WrongFileKind(path, found, " or ".join(sorted(expected)), advice)
