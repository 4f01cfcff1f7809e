"""The members of a .pth or .npz, which are zip archives: views of the file, every size and checksum checked."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from convert.arrays import Stored
from convert.disk.mapped import mapped
from convert.errors import Unreadable
from convert.files.zips.zip_directory import find_directory

EXPANSION = 100
"""How many times its size an archive may unpack to. Trained weights hardly shrink; a bomb of zeros reaches 1,000."""
FREE = 128 * 2**20
"""Further bytes that it may unpack to, such as the zeros of a fresh head: 67 million in B/16 with 21,843 classes."""
LOCAL_HEADER = struct.Struct("<4s2xHH16xHH")
"""Signature, flags, method, (time, date, CRC-32, sizes,) lengths of the name and of the extra field."""
LOCAL_SIGNATURE = b"PK\x03\x04"
DESCRIPTOR = 24
"""Bytes that may follow a member: a signature, its CRC-32 again, and its two sizes again, 8 bytes each."""
READ_BYTES = 1 << 20
FLAGS = 0x80E
"""The flags a member may have: how hard it was packed, sizes after it, a name in UTF-8. Not: that it is encrypted."""
UTF8 = 0x800
FOLDER = 0x10
"""DOS's attribute of a folder. torch reads nothing of such a member, and goes on with whatever was in memory."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_members(path: Path, content: bytes | None = None) -> Mapping[str, memoryview]:
    """Return the content of each member by name, in the archive's order; a view of the mapped file if stored unpacked.

    An archive whose checksums are all zero was written without any, as torch can do, and they are not checked.

    Args:
        path: The archive, or only its name when its content is given.
        content: Its bytes, if they have been read already.

    Raises:
        Unreadable: It is no complete zip archive, a member occurs twice, is encrypted or overlaps another, a declared
            size is wrong or far too large, or a checksum does not match.
    """
    data = mapped(path) if content is None else memoryview(content)
    try:
        directory = find_directory(path, data)
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            infos = archive.infolist()
        _check(path, infos, len(data))
        places = {info.filename: _place(data, info) for info in infos}
        _check_places(path, sorted(places.items(), key=lambda place: place[1]), directory.start)
        checked = any(info.CRC for info in infos)
        return {info.filename: _content(path, data, info, places[info.filename], checked=checked) for info in infos}
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        OverflowError,
        EOFError,
        struct.error,
        zlib.error,
    ) as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error


def _check(path: Path, infos: list[zipfile.ZipInfo], size: int) -> None:
    seen = set[str]()
    for info in infos:
        if info.filename in seen:
            raise Unreadable(path, f"it holds a member twice ({info.filename})")
        seen.add(info.filename)
        if info.filename.endswith("/") or info.external_attr & FOLDER:
            raise Unreadable(path, f"member {info.filename} is a folder, of which torch reads whatever was in memory")
        if info.volume:
            raise Unreadable(path, f"member {info.filename} is on another disk")
        if not info.filename or info.orig_filename != info.filename:
            raise Unreadable(path, f"member {info.filename} has a name that other programs read as another")
        if info.flag_bits & ~FLAGS or info.compress_type not in METHODS:
            raise Unreadable(path, f"member {info.filename} is encrypted or packed in a way that is not read here")
    unpacked, limit = sum(info.file_size for info in infos), EXPANSION * size + FREE
    if unpacked > limit:
        raise Unreadable(path, f"it would unpack to {unpacked:,} bytes, {limit:,} at most are plausible for its size")


def _place(data: memoryview, info: zipfile.ZipInfo) -> tuple[int, int, int]:
    """Return where a member begins, where its data begins and where both end; its header must match the directory."""
    if not 0 <= info.header_offset <= len(data):
        raise ValueError(f"member {info.filename} would begin at byte {info.header_offset:,}")
    signature, flags, method, name_length, extra_length = LOCAL_HEADER.unpack_from(data, info.header_offset)
    name_at = info.header_offset + LOCAL_HEADER.size
    name = bytes(data[name_at : name_at + name_length])
    expected = info.orig_filename.encode("utf-8" if flags & UTF8 else "cp437")
    if signature != LOCAL_SIGNATURE or (flags, method) != (info.flag_bits, info.compress_type) or name != expected:
        raise ValueError(f"member {info.filename} disagrees with the directory")
    begin = name_at + name_length + extra_length
    return info.header_offset, begin, begin + info.compress_size


def _check_places(path: Path, places: list[tuple[str, tuple[int, int, int]]], directory: int) -> None:
    """Check that each member begins where the one before it ends, and the directory where the last one ends."""
    end = 0
    for name, (start, _, next_end) in [*places, ("", (directory, 0, 0))]:
        if start < end:
            raise Unreadable(path, f"member {name} lies over another")
        if start > end + DESCRIPTOR:
            raise Unreadable(path, "there is something between its members that its directory does not name")
        end = next_end


def _content(
    path: Path, data: memoryview, info: zipfile.ZipInfo, place: tuple[int, int, int], *, checked: bool
) -> memoryview:
    content = data[place[1] : place[2]]
    if info.compress_type == zipfile.ZIP_DEFLATED:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        content = memoryview(unpacker.decompress(content, info.file_size + 1))
    if len(content) != info.file_size:
        raise ValueError(f"member {info.filename} has not the size that the directory says")
    stored = data.obj if info.compress_type == zipfile.ZIP_STORED else None
    if checked and (_crc32_in(stored, place) if isinstance(stored, Stored) else zlib.crc32(content)) != info.CRC:
        raise Unreadable(
            path, f"the checksum of member {info.filename} does not match: the file was altered or damaged"
        )
    return content


def _crc32_in(stored: Stored, place: tuple[int, int, int]) -> int:
    """Return the CRC-32 of a member's data, read from its file because a view's pages count as memory once touched."""
    _, begin, end = place
    buffer, checksum = memoryview(bytearray(min(READ_BYTES, end - begin))), 0
    for start in range(begin, end, READ_BYTES):
        block = buffer[: end - start]
        stored.read_into(block, start)
        checksum = zlib.crc32(block, checksum)
    return checksum
