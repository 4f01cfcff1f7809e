"""The audit's bundle: a folder of plain files and their checksums, written whole or not at all, read without trust."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.disk.atomic_folder import write_folder_atomically
from convert.errors import BadInput, IntegrityProblem, IOProblem, OutputRefused

SUMS = "SHA256SUMS"
"""Name of the checksum file, in the format of sha256sum of GNU coreutils. Source: its manual, section 6.4."""
ENVELOPE = "statement.dsse.json"
"""Name of a signed bundle's envelope: the Statement with its signature. Only the checksum file lists it."""
LINE = re.compile(r"([0-9a-f]{64})  (.+)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""File names that no shell, file system or checksum tool reads as anything else."""
LIMIT = 2**26
"""Most bytes of all files that are not attached. Those of a 24-block model have about a million each."""
SUMS_LIMIT = 2**20

Files = dict[str, bytes]


def check_bundle_target(path: Path, *, force: bool) -> None:
    """Check, before the work is done, that a bundle can be written to a path.

    Raises:
        OutputRefused: It exists and force is off, or it is something other than a bundle, which is never replaced.
        IOProblem: The parent folder does not exist.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputRefused(path, "it is not a folder", "Choose another --out.")
    if path.exists() and not force:
        raise OutputRefused(path, "it exists", "Pass --force to replace it, or choose another --out.")
    if path.exists() and any(path.iterdir()) and not (path / SUMS).is_file():
        raise OutputRefused(path, f"it is a folder without {SUMS}, no bundle", "Choose another --out.")
    if not path.parent.is_dir():
        raise IOProblem(f"{path.parent}: there is no such folder to write {path.name} to. Create it first.")


def write_bundle(path: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write the files and, last, their checksums to a temporary folder, which then takes the path's place.

    Raises:
        OutputRefused, IOProblem: As in `check_bundle_target`, or the disk refused.
    """
    check_bundle_target(path, force=force)
    write_folder_atomically(path, {**files, SUMS: sums_of(files)})


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """Return the content of the checksum file for these files, sorted by name."""
    return "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()


def as_json(data: Any) -> bytes:
    """Return data as the content of a JSON file.

    Raises:
        ValueError: A number is not finite.
    """
    return json.dumps(data, indent=1, allow_nan=False).encode() + b"\n"


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFiles:
    """A bundle's contents: the SHA-256 of each of its files, by name, and the content of those asked for."""

    sha256s: Mapping[str, str]
    files: Files


def read_bundle(path: Path, wanted: Collection[str]) -> HeldFiles:
    """Return a bundle's contents, after reading each file once and checking it against its checksum.

    The checksums are read first, and only files that they list. Only the wanted files, which are small, and a piece of
    one other file are in memory at a time.

    Raises:
        IOProblem: There is no such folder.
        BadInput: It is not a bundle, something in it is a symlink or not a plain file, the checksums name a path
            outside of it, or the wanted files are far too large.
        IntegrityProblem: A file was changed, removed or added.
    """
    found = _names_in(path)
    if not found & set(wanted):
        raise BadInput(f"{path}: it is no bundle. Pass the folder that `mixer-report audit` wrote.")
    if SUMS not in found:
        raise IntegrityProblem(f"{path}: {SUMS} is missing. The bundle is not whole; get it again.")
    listed = _parse(path, _content(path, SUMS, SUMS_LIMIT))
    for name in sorted(found - {SUMS} - listed.keys()):
        raise IntegrityProblem(f"{path}: {name} was added; {SUMS} does not list it. Get the bundle again.")
    left, files = LIMIT, Files()
    for name, expected in listed.items():
        if name not in found:
            raise IntegrityProblem(f"{path}: {name} is missing. The bundle is not whole; get it again.")
        if name in wanted:
            files[name] = _content(path, name, left)
            left -= len(files[name])
        if (sha256(files[name]) if name in wanted else _sha256_of(path, name)) != expected:
            raise IntegrityProblem(f"{path}: {name} was changed, or its line of {SUMS}. Get the bundle again.")
    return HeldFiles(sha256s=listed, files=files)


def _names_in(path: Path) -> set[str]:
    if not path.exists():
        raise IOProblem(f"{path}: there is no such folder. Pass the folder that `mixer-report audit` wrote.")
    if not path.is_dir():
        raise BadInput(f"{path}: it is a file, no bundle. Pass the folder that `mixer-report audit` wrote.")
    with os.scandir(path) as entries:
        return {entry.name for entry in entries}


def _parse(path: Path, content: bytes) -> dict[str, str]:
    """Return the SHA-256s by name from a checksum file that is, byte for byte, as `sums_of` writes it."""
    listed: dict[str, str] = {}
    for line in content.decode("utf-8", errors="replace").splitlines():
        match = LINE.fullmatch(line)
        name = match[2] if match else ""
        if "/" in name or "\\" in name or name in (".", ".."):
            raise BadInput(f"{path}: {SUMS} names {name!r}, which lies outside of the bundle. Do not trust it.")
        if not match or not NAME.fullmatch(name) or name in listed:
            raise IntegrityProblem(f"{path}: {SUMS} was changed: {line!r} is no line of it. Get the bundle again.")
        listed[name] = match[1]
    if content != "".join(f"{listed[name]}  {name}\n" for name in sorted(listed)).encode():
        raise IntegrityProblem(f"{path}: {SUMS} was changed: its lines are not as they were written. Get it again.")
    return listed


def _open(path: Path, name: str) -> io.BufferedReader:
    """Open a file of a bundle, which has to be a plain file."""
    status = (path / name).lstat()
    if stat.S_ISDIR(status.st_mode):
        raise IntegrityProblem(f"{path}: the folder {name} was added. Get the bundle again.")
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{path}: {name} is a symlink or a special file. Do not trust the bundle.")
    return (path / name).open("rb")


def _content(path: Path, name: str, limit: int) -> bytes:
    with _open(path, name) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise BadInput(f"{path}: {name} is larger than any bundle's, {limit:,} bytes. Do not trust it.")
    return content


def _sha256_of(path: Path, name: str) -> str:
    with _open(path, name) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
