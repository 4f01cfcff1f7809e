"""What a manifest records of a file, read as untrusted data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from convert.arrays import fingerprint
from convert.errors import BadInput, IntegrityProblem, Unreadable
from convert.files import strict_json
from convert.identity import METADATA, Claim, Vocabulary, check_alike

End = Literal["output", "source"]
LIMIT = 2**24
"""Bytes above which a manifest is refused: that of a 24-block Mixer has some 200,000, 5,000 tensors some 3 million."""
SHA256 = re.compile(r"[0-9a-f]{64}")
RESTORE = "Restore it, or convert again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One side of a conversion: the file's name and SHA-256, those of its shards, and each tensor's.

    weights_key: which set of weights was taken. sha256: None for what was no file. by_pairing: whether it was converted
    by a pairing file, so that the tensors have the very names that are in the file.
    """

    side: End
    file: str
    sha256: str | None
    tensors: Mapping[str, str]
    shards: Mapping[str, str]
    weights_key: str | None = None
    by_pairing: bool = False


def manifest_path(output: Path) -> Path:
    """Return the path of an output's manifest, `<output>.manifest.json`."""
    return output.with_name(f"{output.name}.manifest.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a file's metadata and its manifest say that it is; its SHA-256, if there was a manifest to compare it with.

    problem: why the manifest does not count, if it does not.
    """

    claims: tuple[Claim, ...]
    sha256: str | None = None
    problem: IntegrityProblem | None = None

    @property
    def aside(self) -> list[str]:
        """A note that the manifest is left aside, if it is."""
        return [f"a manifest is left aside: {self.problem}".rstrip(".")] if self.problem else []


def said_of(file: Path, metadata: Mapping[str, str], sha256: Callable[[], str], vocabulary: Vocabulary) -> Said:
    """Return what a file's metadata says that it is, and its manifest too if that is about this very file.

    Args:
        file: The checkpoint.
        metadata: The file's own metadata.
        sha256: Returns its SHA-256; called only if there is a manifest.
        vocabulary: What can be said of such files.

    Raises:
        BadInput: One of them is damaged.
        UsageProblem: They contradict each other.
    """
    claims, found, manifest = list[Claim](), None, manifest_path(file)
    if METADATA in metadata:
        place = f"the metadata of {file.name}"
        claims.append(vocabulary.claim(place, _parsed(place, metadata[METADATA])))
    if manifest.is_file():
        content, found = read_manifest(manifest), sha256()
        if content["output"].get("sha256") != found:
            problem = IntegrityProblem(
                f"{manifest}: it is about another file than {file.name}, whose SHA-256 is {found[:16]}…. Restore the "
                "file, or move the manifest away."
            )
            return Said(claims=tuple(claims), sha256=found, problem=problem)
        claims.append(vocabulary.claim(manifest.name, _identity(manifest, content)))
    check_alike(file.name, claims)
    return Said(claims=tuple(claims), sha256=found)


def is_by_pairing(file: Path, metadata: Mapping[str, str]) -> bool:
    """Return whether a file's metadata or the manifest beside it says that it was converted by a pairing file.

    Raises:
        BadInput: One of them is damaged.
    """
    said = _parsed(f"the metadata of {file.name}", metadata.get(METADATA, "{}"))
    manifest = manifest_path(file)
    beside = read_manifest(manifest) if manifest.is_file() else {}
    return bool((isinstance(said, dict) and said.get("pairing")) or beside.get("pairing"))


def read_manifest(manifest: Path) -> dict[str, Any]:
    """Return the content of a manifest.

    Raises:
        Unreadable: It is damaged, or no manifest.
    """
    try:
        content = _load(manifest)
        if not isinstance(content["output"], dict):
            raise TypeError("it describes no output")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(
            manifest, f"it is damaged, or no manifest of a checkpoint ({error})", "Restore it, or move it away."
        ) from error
    return cast("dict[str, Any]", content)


def read_recorded(manifest: Path) -> list[Recorded]:
    """Return what a manifest records of the output and, if the source was a file, of the source.

    Raises:
        Unreadable: It is damaged or no manifest, or its tensors' hashes do not give its fingerprint.
        OSError: It does not exist.
    """
    try:
        content = _load(manifest)
        recorded = [_output(content["output"], content["tensors"])]
        if content["source"].get("file"):
            recorded.append(_source(content["source"], content["tensors"], content["dropped"]))
        if content.get("pairing"):
            before = str(content["source"].get("stripped_prefix") or "")
            recorded = [replace(recorded[0], by_pairing=True), *(_as_in_file(one, before) for one in recorded[1:])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(manifest, f"it is damaged, or no manifest of a conversion ({error})", RESTORE) from error
    return recorded


def _load(manifest: Path) -> Any:
    if not manifest.is_file() and manifest.exists():
        raise ValueError("not a regular file")
    if manifest.stat().st_size > LIMIT:
        raise ValueError(f"more than {LIMIT:,} bytes")
    return strict_json.parse(manifest.read_bytes())


def _parsed(place: str, text: str) -> Any:
    try:
        return strict_json.parse(text)
    except ValueError as error:
        raise BadInput(f"{place}: it is no JSON ({error}). Get the file again.") from error


def _identity(manifest: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of its output; it marks random weights, whose variant gives only their sizes."""
    parts = (content.get(name) for name in ("variant", "layouts", "source"))
    variant, layouts, source = ({} if part is None else part for part in parts)
    if not all(isinstance(part, dict) for part in (variant, layouts, source)):
        raise Unreadable(manifest, "it is damaged: variant, layouts or source is no mapping", RESTORE)
    return {
        "config": content.get("config", {}),
        "layout": layouts.get("target"),
        "variant": variant.get("name"),
        "random": source.get("kind") == "random" or content.get("random"),
        "preprocessing": content.get("preprocessing"),
        "pairing": content.get("pairing"),
        "weights_key": content.get("weights_key"),
    }


def _output(output: dict[str, Any], entries: list[dict[str, Any]]) -> Recorded:
    tensors = _tensors(entries, "target")
    if fingerprint(tensors) != output["fingerprint"]:
        raise ValueError("its tensors' hashes do not give its fingerprint")
    return Recorded(side="output", file=str(output["file"]), sha256=_hash(output["sha256"]), tensors=tensors, shards={})


def _source(source: dict[str, Any], entries: list[dict[str, Any]], dropped: list[dict[str, Any]]) -> Recorded:
    shards = {str(name): _hash(sha256) for name, sha256 in source["shards"].items()}
    return Recorded(
        side="source",
        file=str(source["file"]),
        sha256=_hash(source["sha256"]),
        tensors=_tensors([*(entry for entry in entries if entry["source"] is not None), *dropped], "source"),
        shards=shards,
        weights_key=source["weights_key"],
    )


def _as_in_file(source: Recorded, before: str) -> Recorded:
    """Return the source of a conversion by a pairing file, its tensors named as in the file, prefix included."""
    return replace(source, by_pairing=True, tensors={before + key: sha256 for key, sha256 in source.tensors.items()})


def _tensors(entries: list[dict[str, Any]], side: str) -> dict[str, str]:
    tensors = {str(entry[side]): _hash(entry[f"{side}_sha256"]) for entry in entries}
    if len(tensors) != len(entries):
        raise ValueError("it lists a tensor twice")
    return tensors


def _hash(value: object) -> str:
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise ValueError(f"{str(value)[:80]!r} is no SHA-256")
    return value
