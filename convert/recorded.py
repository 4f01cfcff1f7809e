"""What a manifest says that a file was, read without trust."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convert.errors import Unreadable
from convert.files import strict_json
from convert.fingerprint import fingerprint

Side = Literal["output", "source"]
LIMIT = 2**26
"""Bytes. The manifest of 24 blocks, the longest there are, has some 200,000."""
SHA256 = re.compile(r"[0-9a-f]{64}")
RESTORE = "Restore it, or convert again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One side of a conversion: the file's name and SHA-256, those of its shards, and each tensor's.

    ema says which weights of a training checkpoint were taken; sha256 is None for what was no file.
    """

    side: Side
    file: str
    sha256: str | None
    tensors: Mapping[str, str]
    shards: Mapping[str, str]
    ema: bool | None = None


def read_recorded(manifest: Path) -> list[Recorded]:
    """Return what a manifest says of the output and, where it says so, of the source's file.

    Raises:
        Unreadable: It is damaged: no manifest, or its tensors' hashes do not give its fingerprint.
        OSError: It is not there.
    """
    try:
        content = _load(manifest)
        recorded = [_output(content["output"], content["tensors"])]
        if content["source"].get("file"):
            recorded.append(_source(content["source"], content["tensors"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(manifest, f"it is damaged, or no manifest of a conversion ({error})", RESTORE) from error
    return recorded


def _load(manifest: Path) -> Any:
    if not manifest.is_file() and manifest.exists():
        raise ValueError("not a regular file")
    if manifest.stat().st_size > LIMIT:
        raise ValueError(f"more than {LIMIT:,} bytes")
    return strict_json.parse(manifest.read_bytes())


def _output(output: dict[str, Any], entries: list[dict[str, Any]]) -> Recorded:
    tensors = _tensors(entries, "target")
    if fingerprint(tensors) != output["fingerprint"]:
        raise ValueError("its tensors' hashes do not give its fingerprint")
    return Recorded(side="output", file=str(output["file"]), sha256=_hash(output["sha256"]), tensors=tensors, shards={})


def _source(source: dict[str, Any], entries: list[dict[str, Any]]) -> Recorded:
    shards = {str(name): _hash(sha256) for name, sha256 in source["shards"].items()}
    return Recorded(
        side="source",
        file=str(source["file"]),
        sha256=_hash(source["sha256"]),
        tensors=_tensors(entries, "source"),
        shards=shards,
        ema=source["ema"],
    )


def _tensors(entries: list[dict[str, Any]], side: str) -> dict[str, str]:
    tensors = {str(entry[side]): _hash(entry[f"{side}_sha256"]) for entry in entries}
    if len(tensors) != len(entries):
        raise ValueError("it lists a tensor twice")
    return tensors


def _hash(value: object) -> str:
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise ValueError(f"{str(value)[:80]!r} is no SHA-256")
    return value
