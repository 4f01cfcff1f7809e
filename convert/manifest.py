"""The manifest beside an output: what was converted, from what, by what, and the hash of every tensor on both sides."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from convert.arrays import StateDict, total_bytes
from convert.files.atomic import Fill, write_atomically
from convert.fingerprint import fingerprint
from convert.mapping import Conversion
from convert.rules import Layout
from convert.sources import Source
from convert.variants import MixerConfig, Variant

SCHEMA = "mixer-convert/manifest/1"
PACKAGES = ("mixer-convert", "numpy", "safetensors", "ml_dtypes", "huggingface_hub", "torch", "timm", "paddlepaddle")


def manifest_path(output: Path) -> Path:
    """Return where the manifest of an output lies: `<output>.manifest.json`."""
    return output.with_name(f"{output.name}.manifest.json")


def describe_output(
    output: Path, written: Path, sha256: str, sha256s: dict[str, str], state_dict: StateDict
) -> dict[str, Any]:
    """Return the manifest's entry for the output file.

    Args:
        output: The name it is to have.
        written: The complete file, wherever it still lies.
        sha256: Its SHA-256.
        sha256s: The canonical SHA-256 of each of its tensors.
        state_dict: Its tensors.
    """
    return {
        "file": output.name,
        "path": str(output),
        "bytes": written.stat().st_size,
        "tensor_bytes": total_bytes(state_dict.values()),
        "sha256": sha256,
        "fingerprint": fingerprint(sha256s),
    }


def write_with_manifest(
    output: Path,
    fill: Fill,
    check: Callable[[Path], None],
    describe: Callable[[], dict[str, Any]],
    *,
    force: bool,
) -> dict[str, Any]:
    """Write a file and, last, its manifest, both or neither, and return the manifest.

    Args:
        output: Where the file is to appear.
        fill: Writes its content to a binary stream.
        check: Reads the complete file, still under another name, and raises if it is not as it should be.
        describe: Gives the manifest; called once the file is complete and checked, before it takes its place.
        force: Whether to replace what is there.

    Raises:
        OutputRefused, IntegrityProblem, IOProblem: As `write_atomically` says.
    """
    manifest: dict[str, Any] = {}

    def content() -> bytes:
        manifest.update(describe())
        return json.dumps(manifest, indent=1).encode() + b"\n"

    write_atomically(output, fill, check, force=force, beside=(manifest_path(output), content))
    return manifest


def build_manifest(
    *,
    source: Source,
    conversion: Conversion,
    config: MixerConfig,
    layouts: tuple[Layout, Layout],
    variant: Variant | None,
    note: str,
    source_sha256s: dict[str, str],
    target_sha256s: dict[str, str],
    output: dict[str, Any],
    command_line: list[str],
) -> dict[str, Any]:
    """Return the manifest as plain data, without a time stamp, so that the same conversion gives the same manifest."""
    return {
        "schema": SCHEMA,
        "variant": variant and {"name": variant.name, "timm_id": variant.timm_id, "note": variant.note},
        "config": asdict(config),
        "layouts": {"source": layouts[0], "target": layouts[1]},
        "note": note,
        "source": {
            "name": source.name,
            **asdict(source.provenance),
            "notes": list(source.notes),
            "fingerprint": fingerprint(source_sha256s),
        },
        "output": output,
        "dropped": list(conversion.dropped),
        "tensors": _tensors(source, conversion, source_sha256s, target_sha256s),
        "versions": versions(),
        "command_line": command_line,
    }


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str | None]:
    """Return the installed version of each package (None: not installed) and of Python, without importing any."""
    return {"python": platform.python_version(), **{package: _version(package) for package in packages}}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _tensors(
    source: Source, conversion: Conversion, source_sha256s: dict[str, str], target_sha256s: dict[str, str]
) -> list[dict[str, Any]]:
    return [
        {
            "source": rename.source,
            "target": rename.target,
            "transform": rename.transform.value,
            "adapted": conversion.adapted.get(rename.target),
            "dtype": source.state_dict[rename.source].dtype.name,
            "source_shape": list(source.state_dict[rename.source].shape),
            "target_shape": list(conversion.state_dict[rename.target].shape),
            "source_sha256": source_sha256s[rename.source],
            "target_sha256": target_sha256s[rename.target],
        }
        for rename in conversion.renames
    ]
