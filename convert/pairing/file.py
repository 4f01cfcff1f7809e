"""The pairing file: TOML that a person wrote or confirmed; each reader takes the tables that it needs."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import Unreadable, printable
from convert.naming import NUMBER

SCHEMA = "mixer-align/pairing/1"
MAX_BYTES = 8 << 20
"""Bytes above which a file is refused: enough for 5,000 names as long as a checkpoint may have, on both sides."""
TABLES = ("modules", "points", "left-out", "not-covered", "weights", "inputs", "accepted")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingFile:
    """A pairing file as it was read: all its tables, empty if they are absent, and the SHA-256 of its bytes."""

    path: Path
    sha256: str
    tables: Mapping[str, Mapping[str, Any]]


def read_file(path: Path) -> PairingFile:
    """Return the tables of a pairing file, whose entries are still to be checked.

    Raises:
        Unreadable: It is too large or no TOML, has another schema, or has a table or key that is unknown.
        OSError: It does not exist, or cannot be read.
    """
    with path.open("rb") as stream:
        text = stream.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise malformed(path, f"it has more than {MAX_BYTES} bytes, which no pairing has")
    try:
        content = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise malformed(path, f"it is no TOML ({error})") from error
    if content.get("schema") != SCHEMA:
        raise malformed(path, f"its schema is {content.get('schema')!r}, not {SCHEMA!r}")
    unknown = content.keys() - {"schema", *TABLES}
    if unknown:
        raise malformed(path, f"it has a table or key {min(unknown)!r}; there are {', '.join(TABLES)}")
    tables = {name: content.get(name, {}) for name in TABLES}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise malformed(path, f"{name} is no table")
    return PairingFile(path=path, sha256=hashlib.sha256(text).hexdigest(), tables=tables)


def check_placeholders(path: Path, table: str, key: str, value: str) -> None:
    """Check that an entry's value has only placeholders that its key has too.

    Raises:
        Unreadable: It has another, or a brace that is part of none.
    """
    strange = {*NUMBER.findall(value)} - {*NUMBER.findall(key)}
    left = NUMBER.sub("", value)
    if strange or "{" in left or "}" in left:
        raise malformed(path, f"[{table}] {key}: {value!r} has a placeholder that {key!r} has not")


def malformed(path: Path, what: str) -> Unreadable:
    """Return the error that says what is wrong in a pairing file."""
    return Unreadable(path, printable(what), "Correct the pairing file.")
