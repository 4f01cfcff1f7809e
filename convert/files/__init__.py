"""One module a format, with the same two functions each: read(path) and write(stream, state_dict)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from convert.arrays import Array, StateDict
from convert.errors import UsageProblem
from convert.files.names import check_names
from convert.files.sniff import check_kind

MODULES = {
    ".safetensors": "convert.files.safetensors",
    ".pdparams": "convert.files.pdparams",
    ".pth": "convert.files.pth",
    ".pt": "convert.files.pth",
    ".npz": "convert.files.npz",
    ".json": "convert.files.sharded",
}
TRAINING = (".pth", ".pt", ".pdparams")
WRITABLE = (".pdparams", ".safetensors")


class _Format(Protocol):
    """Only the formats of TRAINING take `ema`."""

    def read(self, path: Path, *, ema: bool | None = ...) -> StateDict: ...
    def write(self, stream: BinaryIO, state_dict: StateDict, contents: Iterable[Array]) -> None: ...


def read(path: Path, *, ema: bool | None = None) -> StateDict:
    """Return the tensors of a checkpoint, as its suffix says how to read it.

    Args:
        path: The file.
        ema: For training checkpoints (.pth, .pt, .pdparams): the averaged weights, the raw ones, or None for the
            only ones.

    Raises:
        UsageProblem: An unknown suffix.
        BadInput: Content that is not what the suffix says, is damaged, or is not safe to read.
    """
    form = _format(path)
    check_kind(path)
    if ema is not None and path.suffix not in TRAINING:
        raise UsageProblem(
            f"{path}: --ema and --no-ema go with training checkpoints ({', '.join(TRAINING)}). Leave it out."
        )
    state_dict = form.read(path, ema=ema) if path.suffix in TRAINING else form.read(path)
    check_names(path, state_dict)
    return state_dict


def shards_of(path: Path) -> list[Path]:
    """Return the files that an index names, sorted; none for a checkpoint in one file."""
    if path.suffix != ".json":
        return []
    check_kind(path)
    from convert.files import sharded

    return sharded.shards(path)


def write(path: Path, stream: BinaryIO, state_dict: StateDict, contents: Iterable[Array] | None = None) -> None:
    """Write the tensors to the stream in the format of the path's suffix; the same tensors give the same bytes.

    Args:
        path: Its suffix counts.
        stream: Where to.
        state_dict: The tensors.
        contents: The same tensors, in the same order, each asked for when its bytes are next to be written; the state
            dict's own are then not read.
    """
    check_writable(path)
    _format(path).write(stream, state_dict, state_dict.values() if contents is None else contents)


def check_writable(path: Path) -> None:
    """Check that the path's suffix is a format we write.

    Raises:
        UsageProblem: It is not.
    """
    if path.suffix not in WRITABLE:
        raise UsageProblem(
            f"{path}: cannot write {path.suffix or 'a file without suffix'}. Use {' or '.join(WRITABLE)}."
        )


def _format(path: Path) -> _Format:
    if path.suffix not in MODULES:
        raise UsageProblem(f"{path}: unknown suffix '{path.suffix}'. Known: {', '.join(MODULES)}.")
    return cast("_Format", importlib.import_module(MODULES[path.suffix]))
