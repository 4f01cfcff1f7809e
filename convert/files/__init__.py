"""Checkpoint files, recognised by their content: one module per format, none of which executes what is in a file."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from convert.arrays import Array, StateDict
from convert.errors import BadInput, Unreadable, UsageProblem
from convert.files.content import Content
from convert.files.names import check_names
from convert.files.sets import Selection, choose, refuse_others
from convert.files.sniff import kind_of_file
from convert.naming import Naming

READERS = {
    "a safetensors file": "convert.files.safetensors",
    "a pickle": "convert.files.pdparams",
    "a zip archive": "convert.files.zipped",
    "JSON": "convert.files.sharded",
}
WRITERS = {".pdparams": "convert.files.pdparams", ".safetensors": "convert.files.safetensors"}
IN_A_FOLDER = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""The files in which a folder from the Hugging Face hub may hold its weights, the safest first.

Source: transformers, src/transformers/utils/__init__.py, SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME.
"""


class _Reader(Protocol):
    def load(self, path: Path) -> Content: ...


class _Writer(Protocol):
    HELD: Collection[str]

    def write(
        self, stream: BinaryIO, state_dict: StateDict, contents: Iterable[Array], metadata: Mapping[str, str]
    ) -> None: ...


def load(path: Path) -> Content:
    """Return all that a checkpoint holds, whatever its suffix says.

    Raises:
        OSError: It is missing, or cannot be read.
        BadInput: Its content is no checkpoint, is damaged, or is not safe to read.
    """
    reader = cast("_Reader", importlib.import_module(READERS[kind_of_file(path)]))
    return reader.load(path)


def read(path: Path) -> StateDict:
    """Return the tensors of a checkpoint that holds a single set of them, whatever their names.

    Raises:
        UsageProblem: It holds several.
        OSError, BadInput: As `load` says, or there are no tensors.
    """
    chosen = choose(path, load(path).tree, Selection(), Naming({}, ()))
    refuse_others(path, chosen, lambda name: name in chosen.others)
    check_names(path, chosen.tensors)
    return chosen.tensors


def locate(path: Path) -> Path:
    """Return the file of a checkpoint: the path itself, or the file that holds the weights if it is a folder.

    Raises:
        Unreadable: The folder has none.
    """
    if not path.is_dir():
        return path
    found = next((path / name for name in IN_A_FOLDER if (path / name).is_file()), None)
    if found is None:
        raise Unreadable(path, f"it is a folder without {' or '.join(IN_A_FOLDER)}", "Name a checkpoint file.")
    return found


def shards_of(path: Path) -> list[Path]:
    """Return the shards that an index names, sorted; none for a checkpoint in a single file."""
    if kind_of_file(path) != "JSON":
        return []
    from convert.files import sharded

    return sharded.shards(path)


def write(
    path: Path,
    stream: BinaryIO,
    state_dict: StateDict,
    contents: Iterable[Array] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the tensors to the stream in the format of the path's suffix; equal tensors give equal bytes.

    Args:
        path: Only its suffix is used.
        stream: Where to write.
        state_dict: The tensors.
        contents: The same tensors in the same order, each requested only when its bytes are to be written; the data of
            the state dict itself are then not read.
        metadata: Further text by name, written if the format has a place for it.
    """
    check_writable(path)
    writer = cast("_Writer", importlib.import_module(WRITERS[path.suffix]))
    writer.write(stream, state_dict, state_dict.values() if contents is None else contents, metadata or {})


def check_dtypes(path: Path, state_dict: StateDict) -> None:
    """Check that the format of the path's suffix can hold every tensor's dtype, and that its reader returns it.

    Raises:
        BadInput: It cannot hold one of them.
    """
    held = cast("_Writer", importlib.import_module(WRITERS[path.suffix])).HELD
    for key, array in state_dict.items():
        if array.dtype.name not in held:
            raise BadInput(
                f"{path}: a {path.suffix} holds no {array.dtype.name}, which {key} is. Leave that tensor out."
            )


def check_writable(path: Path) -> None:
    """Check that the path's suffix is a format we write.

    Raises:
        UsageProblem: It is not.
    """
    if path.suffix not in WRITERS:
        raise UsageProblem(
            f"{path}: cannot write {path.suffix or 'a file without suffix'}. Use {' or '.join(WRITERS)}."
        )
