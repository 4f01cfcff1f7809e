"""Which tensor names are accepted: here they are only keys, but other tools turn them into paths and lines of text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from convert.errors import Unreadable

NAME_LIMIT = 512
PATH_LIKE = re.compile(r"[/\\~]|.:[/\\]|(.*[/\\])?\.\.?([/\\].*)?$", re.DOTALL)
"""Names that are paths: absolute, in someone's home, on a drive, or with a part that is `.` or `..`."""
ADVICE = "A checkpoint has no such names; do not trust the file."


def check_names(path: Path, names: Iterable[str]) -> None:
    """Check that each name is short, printable and not a path that leads elsewhere.

    Raises:
        Unreadable: One is not.
    """
    for name in names:
        if len(name) > NAME_LIMIT:
            raise Unreadable(
                path, f"a tensor's name has {len(name):,} characters, at most {NAME_LIMIT} are read", ADVICE
            )
        if not name.isprintable():
            raise Unreadable(path, f"the tensor name {name!a} has characters that cannot be printed", ADVICE)
        if PATH_LIKE.match(name):
            raise Unreadable(path, f"the tensor name {name!r} is a path that leads elsewhere", ADVICE)
