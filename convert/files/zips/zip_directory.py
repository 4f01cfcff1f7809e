"""The end of a zip archive, which says where its directory is: found in the last bytes, and checked before it is read.

Archives not written by torch or NumPy may have a comment at the end, or something before the first member: readers
disagree about what such an archive holds. Source: APPNOTE.TXT 6.3.10, 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from convert.errors import Unreadable

MEMBER_LIMIT = 20_000
"""A training checkpoint of a Mixer of 24 blocks has 1,000 members; each takes a kilobyte once the directory is read."""
DIRECTORY_LIMIT = 16 * 2**20
ENTRY_SIGNATURE = b"PK\x01\x02"
ENTRY, ENTRY_SIZE = struct.Struct("<4s24x3H"), 46
"""Signature, (the member's facts,) lengths of the name, the extra field and the comment, which follow the entry."""
END = struct.Struct("<4s4H2IH")
"""Signature, this disk, the directory's disk, entries here and in all, directory's size and place, comment's length."""
END64 = struct.Struct("<4sQ2H2I4Q")
"""Signature, size of the rest, versions, then the fields of END, but wider and without the comment's length."""
LOCATOR = struct.Struct("<4sIQI")
"""Signature, the disk that END64 is on, its place, the number of disks."""
END_SIGNATURE, END64_SIGNATURE, LOCATOR_SIGNATURE = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"


class Directory(NamedTuple):
    """Where the directory begins, its bytes, and how many entries it should have."""

    start: int
    size: int
    entries: int


def find_directory(path: Path, data: memoryview) -> Directory:
    """Return where the directory is, having looked at nothing but the end of the file and the directory.

    Raises:
        Unreadable: The directory is too large, or would have too many entries.
        ValueError: The file does not end as an archive does.
    """
    end = len(data) - END.size
    if end < 0 or bytes(data[end : end + 4]) != END_SIGNATURE:
        raise ValueError("it does not end with a directory")
    _, *disks, here, entries, size, start, comment = END.unpack(data[end:])
    directory = Directory(start, size, entries)
    if any(disks) or here != entries or comment:
        raise ValueError("its directory is on several disks or has a comment")
    if (at := end - LOCATOR.size) >= 0 and bytes(data[at : at + 4]) == LOCATOR_SIGNATURE:
        end, directory = _wide(data, at, directory)
    if directory.start + directory.size != end:
        raise ValueError("its directory does not lie where it ends")
    _check_entries(path, data, directory)
    return directory


def _wide(data: memoryview, locator: int, narrow: Directory) -> tuple[int, Directory]:
    """Return where the 64-bit record begins and what it says, which must agree with the narrow one."""
    _, disk, at, disks = LOCATOR.unpack_from(data, locator)
    if disk or disks > 1 or at != locator - END64.size or at < 0:
        raise ValueError("its directory is on several disks or not where it says")
    signature, rest, _, _, *of_disks, here, entries, size, start = END64.unpack_from(data, at)
    wide = Directory(start, size, entries)
    if signature != END64_SIGNATURE or rest != END64.size - 12 or any(of_disks) or here != entries:
        raise ValueError("its directory is on several disks or not where it says")
    if narrow != (min(start, 2**32 - 1), min(size, 2**32 - 1), min(entries, 2**16 - 1)):
        raise ValueError("it says two things of its directory")
    return at, wide


def _check_entries(path: Path, data: memoryview, directory: Directory) -> None:
    """Check, before zipfile reads all of the directory, that it has as many entries as it says, and not too many."""
    if directory.size > DIRECTORY_LIMIT:
        raise Unreadable(
            path, f"its directory would have {directory.size:,} bytes, {DIRECTORY_LIMIT:,} at most are plausible"
        )
    at, found = directory.start, 0
    while at < directory.start + directory.size:
        signature, name, extra, comment = ENTRY.unpack_from(data, at)
        if signature != ENTRY_SIGNATURE:
            raise ValueError("something in its directory is no entry")
        at, found = at + ENTRY_SIZE + name + extra + comment, found + 1
        if found > MEMBER_LIMIT:
            raise Unreadable(path, f"it has more than {MEMBER_LIMIT:,} members")
    if at != directory.start + directory.size or found != directory.entries:
        raise ValueError(f"its directory has {found} entries and says {directory.entries}, or ends elsewhere")
