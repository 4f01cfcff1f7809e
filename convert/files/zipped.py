"""A zip archive, torch's or NumPy's, told apart by its suffix and its members' names."""

from __future__ import annotations

from pathlib import Path

from convert.files import npz, pth
from convert.files.content import Content
from convert.files.zips.zip_archive import read_members


def load(path: Path) -> Content:
    """Return what the archive holds.

    Raises:
        Unreadable: It is damaged, or neither torch's nor NumPy's.
    """
    members = read_members(path)
    if path.suffix.lower() == ".npz" or any(name.endswith(npz.SUFFIX) for name in members):
        return Content(tree=npz.arrays_of(path, members))
    return pth.content_of(path, members)
