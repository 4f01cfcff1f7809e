"""A checkpoint in several .safetensors files, read through its index, `model.safetensors.index.json`.

Source: https://huggingface.co/docs/transformers/big_models#sharded-checkpoints
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import cast

from convert.arrays import StateDict
from convert.errors import BadInput, Unreadable
from convert.files import safetensors, strict_json
from convert.files.content import Content

SUFFIX = ".safetensors"
SAVE = (
    "Name model.safetensors.index.json where there is one beside it; else save the model as safetensors: "
    "model.save_pretrained(FOLDER, safe_serialization=True)."
)


def load(path: Path) -> Content:
    """Return the tensors of every shard, each from the shard that the index names for it.

    Raises:
        Unreadable: The index is malformed, or a shard is missing, elsewhere, or does not hold what the index says.
    """
    weight_map = _weight_map(path)
    tensors: dict[str, object] = {}
    metadata: dict[str, str] = {}
    for shard in shards(path):
        content = safetensors.load(shard)
        found = cast("StateDict", content.tree)
        wanted = {key for key, name in weight_map.items() if name == shard.name}
        if found.keys() != wanted:
            odd = sorted(found.keys() ^ wanted)[0]
            raise Unreadable(path, f"{shard.name} and the index disagree about {odd}")
        odd_text = [name for name, text in content.metadata.items() if metadata.setdefault(name, text) != text]
        if odd_text:
            raise Unreadable(path, f"its shards part in their metadata ({odd_text[0]})")
        tensors |= found
    return Content(tree=tensors, metadata=metadata)


def shards(path: Path) -> list[Path]:
    """Return the shards that an index names, sorted; all of them lie beside it.

    Raises:
        Unreadable: One is missing, its name leads elsewhere, or it is no .safetensors file.
    """
    found = [path.with_name(name) for name in sorted(set(_weight_map(path).values())) if _plain(path, name)]
    for shard in found:
        if not shard.is_file():
            raise Unreadable(path, f"the index names {shard.name}, which is not beside it", "Fetch that file too.")
    return found


def _plain(path: Path, name: str) -> bool:
    if name != Path(name).name:
        raise Unreadable(path, f"the index names {name!r}, which is no file beside it")
    if not name.endswith(SUFFIX):
        raise Unreadable(path, f"it is an index of shards that are no {SUFFIX} but {name!r}", SAVE)
    return True


def index_of(shard: Path) -> Path | None:
    """Return the index beside a shard that names it, if there is one."""
    for path in sorted(shard.parent.glob("*.index.json")):
        with contextlib.suppress(BadInput, OSError):
            if shard.name in _weight_map(path).values():
                return path
    return None


def _weight_map(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > safetensors.HEADER_LIMIT:
            raise ValueError("larger than the names of all tensors can be")
        weight_map = strict_json.parse(path.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(
            path, f"it is no index of a sharded checkpoint ({error})", "Name model.safetensors.index.json."
        ) from error
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise Unreadable(path, "its weight_map is no mapping of names to files")
    return weight_map
