"""The pairing file: TOML that a person wrote or confirmed, checked entry by entry."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.core.point import Tapped
from align.pairing.pairing import NUMBER, Pairing
from convert.errors import Unreadable, printable

SCHEMA = "mixer-align/pairing/1"
MAX_BYTES = 1 << 20
TABLES = ("modules", "points", "left-out", "not-covered")


def read_pairing(path: Path) -> Pairing:
    """Return the pairing of a file.

    Example:
        A model that calls timm's blocks `mixer_layers` and has functional activations::

            schema = "mixer-align/pairing/1"

            [modules]
            "stem.proj" = "patch_embed.patch_embed"
            "blocks.{i}" = "mixer_layers.{i}"

            [points]
            "blocks.{i}.mlp_tokens.act" = { input = "mixer_layers.{i}.mlp_tokens.fc2" }

            [left-out]
            "blocks.{i}.token_mixing" = "the residual is functional"

    Raises:
        Unreadable: It is no TOML, or an entry is not what it has to be.
    """
    content = _content(path)
    if content.get("schema") != SCHEMA:
        raise _malformed(path, f"its schema is {content.get('schema')!r}, not {SCHEMA!r}")
    unknown = content.keys() - {"schema", *TABLES}
    if unknown:
        raise _malformed(path, f"it has a table or key {min(unknown)!r}; there are {', '.join(TABLES)}")
    tables = {name: content.get(name, {}) for name in TABLES}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise _malformed(path, f"{name} is no table")
    _check_once(path, tables)
    return Pairing(
        place=str(path),
        modules=_texts(path, "modules", tables["modules"]),
        points={key: _tapped(path, key, value) for key, value in tables["points"].items()},
        left_out=_texts(path, "left-out", tables["left-out"]),
        not_covered=_texts(path, "not-covered", tables["not-covered"]),
    )


def _check_once(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that no point is both placed and left out, and that no two modules are one."""
    if both := tables["points"].keys() & tables["left-out"].keys():
        raise _malformed(path, f"{min(both)} is in [points] and in [left-out]")
    targets = list(tables["modules"].values())
    if twice := next((target for target in targets if targets.count(target) > 1), None):
        raise _malformed(path, f"[modules] {twice}: it stands for two modules")


def _content(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _malformed(path, f"it has more than {MAX_BYTES} bytes, which no pairing has")
    try:
        return tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _malformed(path, f"it is no TOML ({error})") from error


def _texts(path: Path, table: str, entries: Mapping[str, Any]) -> dict[str, str]:
    """Return the entries of a table whose values are texts; of modules, with no placeholder that the key lacks."""
    for key, value in entries.items():
        if not isinstance(value, str) or not value.strip():
            raise _malformed(path, f"[{table}] {key}: {value!r} is no text")
        if table == "modules":
            _check_placeholders(path, table, key, value)
    return dict(entries)


def _tapped(path: Path, key: str, value: Any) -> Tapped:
    """Return where a point is shown: a module's name is its output; a table says more."""
    fields = {"output": value} if isinstance(value, str) else value
    if isinstance(fields, dict) and (unknown := fields.keys() - {"input", "output", "call", "item"}):
        raise _malformed(path, f"[points] {key}: there is no {min(unknown)!r}; there are input, output, call, item")
    if not isinstance(fields, dict) or len({"input", "output"} & fields.keys()) != 1:
        raise _malformed(path, f"[points] {key}: it has to name one module, or an input or output of one")
    where = "input" if "input" in fields else "output"
    module, call, item = fields[where], fields.get("call", 0), fields.get("item")
    if not isinstance(module, str) or type(call) is not int or call < 0 or type(item) not in (int, str, type(None)):
        raise _malformed(path, f"[points] {key}: a module is a text, a call a number from 0, an item a number or text")
    _check_placeholders(path, "points", key, module)
    return Tapped(module=module, where="input" if where == "input" else "output", call=call, item=item)


def _check_placeholders(path: Path, table: str, key: str, value: str) -> None:
    strange = {*NUMBER.findall(value)} - {*NUMBER.findall(key)}
    left = NUMBER.sub("", value)
    if strange or "{" in left or "}" in left:
        raise _malformed(path, f"[{table}] {key}: {value!r} has a placeholder that {key!r} has not")


def _malformed(path: Path, what: str) -> Unreadable:
    return Unreadable(path, printable(what), "Correct the pairing file.")
