"""The files of a CIFAR-10 archive or folder, in memory: nothing is unpacked to disk, only known names are read."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from convert.errors import BadInput, IntegrityProblem, IOProblem

MEMBER_LIMIT = 64 * 2**20
"""Most bytes of one file. A batch of 10,000 images has 31 million."""
ARCHIVE_LIMIT = 2**30
"""Most bytes of an archive, uncompressed. The canonical archives have 180 million."""
DEPTH = 2
"""Most components of a file's path: it lies at the top or in one folder, as in cifar-10-batches-py/test_batch."""
GET_AGAIN = "Get it again from https://www.cs.toronto.edu/~kriz/cifar.html."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Files:
    """Known files by name, and the SHA-256 of the archive they came from (None: a folder)."""

    content: dict[str, bytes]
    sha256: str | None


def read_files(path: Path, known: Collection[str]) -> Files:
    """Return the known files of a .tar.gz or of a folder, read once and hashed as they are read.

    Args:
        path: The archive, the folder, or the folder above it.
        known: The names to look for; others are passed over unread.

    Raises:
        IOProblem: There is no such path.
        BadInput: It is not an archive, or a known file is not a plain file, is in it twice, or is far too large.
        IntegrityProblem: The archive is truncated or altered.
    """
    if path.is_dir():
        return Files(content=_from_folder(path, known), sha256=None)
    if not path.exists():
        raise IOProblem(f"{path}: there is no such file or folder. Get it from https://www.cs.toronto.edu/~kriz/.")
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            raise BadInput(f"{path}: it is no .tar.gz. Pass the CIFAR-10 archive or the folder it unpacks to.")
        stream.seek(0)
        try:
            return _from_archive(path, stream, known)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise IntegrityProblem(f"{path}: it is truncated or altered ({error}). {GET_AGAIN}") from error


class _Hashing(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.digest = stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


def _from_archive(path: Path, stream: BinaryIO, known: Collection[str]) -> Files:
    hashing, content = _Hashing(stream), dict[str, bytes]()
    with gzip.GzipFile(fileobj=cast("BinaryIO", hashing)) as unzipped:
        with tarfile.open(fileobj=unzipped, mode="r|") as tar:
            for member in tar:
                if unzipped.tell() + member.size > ARCHIVE_LIMIT:
                    raise BadInput(f"{path}: it unpacks to more than {ARCHIVE_LIMIT:,} bytes. {GET_AGAIN}")
                name = _known_name(member.name, known)
                if name is not None:
                    _check_member(path, member, name, content)
                    content[name] = _read_member(path, tar, member)
        while unzipped.read(2**20):  # to the end, where the checksum is
            if unzipped.tell() > ARCHIVE_LIMIT:
                raise BadInput(f"{path}: it unpacks to more than {ARCHIVE_LIMIT:,} bytes. {GET_AGAIN}")
    return Files(content=content, sha256=hashing.digest.hexdigest())


def _known_name(member: str, known: Collection[str]) -> str | None:
    parts = [part for part in PurePosixPath(member).parts if part != "."]
    return parts[-1] if parts and len(parts) <= DEPTH and parts[-1] in known else None


def _check_member(path: Path, member: tarfile.TarInfo, name: str, content: dict[str, bytes]) -> None:
    if not member.isreg():
        raise BadInput(f"{path}: {member.name} is a link or a special file. {GET_AGAIN}")
    if name in content:
        raise BadInput(f"{path}: it holds {name} twice. {GET_AGAIN}")
    _check_size(f"{path}: {member.name}", member.size)


def _read_member(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    data = stream.read() if stream else b""
    if len(data) != member.size:
        raise IntegrityProblem(f"{path}: {member.name} is truncated. {GET_AGAIN}")
    return data


def _from_folder(path: Path, known: Collection[str]) -> dict[str, bytes]:
    folders = [path, *sorted(child for child in path.iterdir() if child.is_dir())]
    folder = next((folder for folder in folders if any((folder / name).exists() for name in known)), path)
    files = [folder / name for name in known if (folder / name).exists()]
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file}: it is not a file. {GET_AGAIN}")
        _check_size(str(file), file.stat().st_size)
    return {file.name: file.read_bytes() for file in files}


def _check_size(what: str, size: int) -> None:
    if size > MEMBER_LIMIT:
        raise BadInput(f"{what}: {size:,} bytes are more than a batch has ({MEMBER_LIMIT:,}). {GET_AGAIN}")
