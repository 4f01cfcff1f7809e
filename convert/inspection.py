"""What a checkpoint holds, as plain data: layout, config, tensors and hashes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from convert.fingerprint import fingerprint, tensor_sha256s
from convert.hashing import file_sha256
from convert.layouts import recognise
from convert.sources import read_weights
from convert.unchanged import unchanged
from convert.variants import variants_of


def inspect_file(path: Path, *, ema: bool | None = None) -> dict[str, Any]:
    """Return layout, config, matching variants, tensors and hashes of a checkpoint, be it a Mixer's or not."""
    with unchanged(path):
        return _inspect(path, ema)


def _inspect(path: Path, ema: bool | None) -> dict[str, Any]:
    state_dict, _ = read_weights(path, ema=ema)
    sha256s = tensor_sha256s(state_dict)
    recognised = recognise(state_dict, path.name)
    config, layouts = recognised or (None, frozenset())
    parameters = sum(array.size for array in state_dict.values())
    names = [variant.name for variant in variants_of(config)] if config and layouts else []
    what = f"an MLP-Mixer in {' or '.join(sorted(layouts))} layout" if layouts else "no MLP-Mixer that we know"
    fits = f", the size of {', '.join(names)}" if names else ""
    return {
        "schema": "mixer-convert/inspection/1",
        "file": path.name,
        "sha256": file_sha256(path),
        "fingerprint": fingerprint(sha256s),
        "layouts": sorted(layouts),
        "config": asdict(config) if config and layouts else None,
        "variants": names,
        "parameters": parameters,
        "summary": f"{path.name}: {what}{fits}; {len(state_dict)} tensors, {parameters:,} parameters.",
        "tensors": [
            {"name": key, "dtype": array.dtype.name, "shape": list(array.shape), "sha256": sha256s[key]}
            for key, array in state_dict.items()
        ],
    }
