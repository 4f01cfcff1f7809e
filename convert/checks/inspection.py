"""What a checkpoint holds, as plain data: layout, config, tensors and hashes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from convert import families
from convert.arrays import fingerprint, tensor_sha256s
from convert.errors import printable
from convert.family import Source
from convert.files.sets import Selection
from convert.sources import from_file, with_sha256


def inspect_file(path: Path, selection: Selection | None = None) -> dict[str, Any]:
    """Return layout, config, matching variants, tensors and hashes of a checkpoint, whether or not its family is known.

    Args:
        path: A checkpoint, the index of a sharded one, or a folder with either.
        selection: Which of several sets of weights.
    """
    source = with_sha256(from_file(path, selection, strict=False))
    state_dict, provenance = source.state_dict, source.provenance
    sha256s = tensor_sha256s(state_dict)
    config, layouts = _recognised(source)
    parameters = sum(array.size for array in state_dict.values())
    family, nouns = source.family, " or ".join(one.noun for one in families.installed())
    names = [one.name for one in family.fitting(config)] if config else []
    told = f"{family.article} {family.noun} in {' or '.join(layouts)} layout"
    pairing = next((one.pairing for one in source.claims if one.pairing), None)
    unknown = f"converted by {printable(pairing)}" if pairing else f"no {nouns} that we know"
    what = told if layouts else unknown
    fits = f", the size of {', '.join(names)}" if names else ""
    source.check_unchanged()
    return {
        "schema": "mixer-convert/inspection/2",
        "file": source.name,
        "sha256": provenance.sha256,
        "fingerprint": fingerprint(sha256s),
        "layouts": layouts,
        "config": asdict(config) if config else None,
        "recorded": [asdict(one) for one in source.claims],
        "weights_key": provenance.weights_key,
        "stripped_prefix": provenance.stripped_prefix,
        "variants": names,
        "parameters": parameters,
        "notes": list(source.notes),
        "executes_elsewhere": list(source.foreign),
        "summary": f"{source.name}: {what}{fits}; {len(state_dict)} tensors, {parameters:,} parameters.",
        "tensors": [
            {"name": key, "dtype": array.dtype.name, "shape": list(array.shape), "sha256": sha256s[key]}
            for key, array in state_dict.items()
        ],
    }


def _recognised(source: Source) -> tuple[Any, list[str]]:
    """Return the config, completed by the checkpoint's own claims, and the sorted layouts that it fits, if any."""
    config, layouts = source.family.recognise(source.state_dict, source.name) or (None, ())
    if config is None or not layouts:
        return None, []
    return source.family.vocabulary.agreed(source.name, config, source.claims), sorted(layouts)
