"""The manifest beside an output: what was converted, from what, by what, and every tensor's hash before and after."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from convert.arrays import fingerprint
from convert.engine import Conversion
from convert.family import Source
from convert.rules import KeyRule

SCHEMA = "mixer-convert/manifest/2"
PACKAGES = ("mixer-convert", "numpy", "safetensors", "ml_dtypes", "huggingface_hub", "torch", "timm", "paddlepaddle")


@dataclass(slots=True, kw_only=True, eq=False)
class Written:
    """What the manifest says of weights that were written.

    source: with the SHA-256 of its files. described: the manifest's entry for the output. The others are by key: the
    canonical SHA-256 of the source's and of the output's tensors, and where in the output the latter's bytes begin.
    """

    source: Source
    described: dict[str, Any] = field(default_factory=dict)
    source_sha256s: dict[str, str] = field(default_factory=dict)
    target_sha256s: dict[str, str] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)


def describe_output(
    output: Path, written: Path, sha256: str, sha256s: dict[str, str], tensor_bytes: int
) -> dict[str, Any]:
    """Return the manifest's entry for the output file.

    Args:
        output: The path it is to have.
        written: The complete file, which may still be at a temporary path.
        sha256: Its SHA-256.
        sha256s: The canonical SHA-256 of each of its tensors.
        tensor_bytes: Their total size.
    """
    return {
        "file": output.name,
        "path": str(output),
        "bytes": written.stat().st_size,
        "tensor_bytes": tensor_bytes,
        "sha256": sha256,
        "fingerprint": fingerprint(sha256s),
    }


def build_manifest(
    written: Written,
    conversion: Conversion,
    *,
    layout: str,
    said: Mapping[str, Any],
    notes: Sequence[str],
    command_line: list[str],
) -> dict[str, Any]:
    """Return the manifest as plain data, without a time stamp, so that the same conversion gives the same manifest.

    Args:
        written: What is known once the weights are written.
        conversion: What became of the source's tensors.
        layout: The source's layout.
        said: The output's identity.
        notes: Sentences for the user.
        command_line: The command as it was called.
    """
    source = written.source
    variant = source.family.get_variant(said["variant"]) if said["variant"] else None
    return {
        "schema": SCHEMA,
        "variant": variant and {"name": variant.name, "timm_id": variant.timm_id, "note": variant.note},
        **{
            name: said[name] for name in ("config", "preprocessing", "random", "weights_key", "pairing") if name in said
        },
        "layouts": {"source": layout, "target": said["layout"]},
        "notes": list(notes),
        "source": {
            "name": source.name,
            **asdict(source.provenance),
            "fingerprint": fingerprint(written.source_sha256s),
        },
        "output": written.described,
        "dropped": [
            {"source": key, "source_sha256": written.source_sha256s[key], **_reason(conversion, key)}
            for key in (*conversion.dropped, *source.dropped)
        ],
        "tensors": _tensors(written, conversion),
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


def _tensors(written: Written, conversion: Conversion) -> list[dict[str, Any]]:
    """Return an entry for each tensor of the output; source is None for one that was drawn."""
    rules = {rule.target: rule for rule in conversion.renames}
    return [_tensor(written, conversion, key, rules.get(key)) for key in conversion.state_dict]


def _reason(conversion: Conversion, key: str) -> dict[str, str]:
    """Return why a tensor was left out, if a reason is given."""
    return {"reason": conversion.reasons[key]} if key in conversion.reasons else {}


def _tensor(written: Written, conversion: Conversion, key: str, rule: KeyRule | None) -> dict[str, Any]:
    before = None if rule is None else written.source.state_dict[rule.source]
    after = conversion.state_dict[key]
    return {
        "source": rule and rule.source,
        "target": key,
        "transform": rule and rule.transform.value,
        "adapted": conversion.adapted.get(key),
        "dtype": after.dtype.name,
        "source_dtype": None if before is None else before.dtype.name,
        "source_shape": None if before is None else list(before.shape),
        "target_shape": list(after.shape),
        "source_sha256": rule and written.source_sha256s[rule.source],
        "target_sha256": written.target_sha256s[key],
    }
