"""The .pdparams format, without Paddle: a pickle of name → array, of which nothing is ever executed.

Source: paddlepaddle 3.3.1, python/paddle/framework/io.py, paddle.save.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convert.arrays import Array, StateDict
from convert.disk.mapped import mapped
from convert.errors import Unreadable
from convert.files.content import Content
from convert.files.pickles.array_pickle import BFLOAT16, text, write_items
from convert.files.pickles.numpy_stand_ins import PendingArray, interpret
from convert.files.pickles.pickle_values import Damaged, Refused

NAME_TABLE = "StructuredToParameterName@@"
"""Key of paddle.save's table, structured name → parameter name; some Paddle code deletes it unconditionally."""
HELD = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
)
"""The dtypes that paddle.load makes tensors of; it reads uint16 as bfloat16, and refuses uint32 and uint64."""
SLICES = "UnpackBigParamInfor@@"


def load(path: Path) -> Content:
    """Return what paddle.save wrote, its tensors as read-only views of the mapped file.

    Raises:
        Unreadable: The file is damaged, or asks for anything but data.
    """
    try:
        found = interpret(mapped(path))
    except Damaged as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error
    except Refused as refusal:
        raise Unreadable(path, str(refusal)) from refusal
    tree = _Unwrapper().plain(found.content)
    if isinstance(tree, dict):
        _join(path, tree)
    return Content(tree=tree, tool="paddle", foreign=found.foreign)


def write(
    stream: BinaryIO, state_dict: StateDict, contents: Iterable[Array], _metadata: Mapping[str, str] | None = None
) -> None:
    """Write what `paddle.save` would, tensor by tensor; the same tensors always give the same bytes.

    Metadata is not written: wherever it stood, Paddle would take it for a tensor.

    Args:
        stream: Where to write.
        state_dict: The names, dtypes and shapes.
        contents: The arrays themselves, in the same order; each is requested only when its bytes are to be written.
    """
    stream.write(b"\x80\x04}(")
    write_items(stream, state_dict, contents)
    stream.write(text(NAME_TABLE) + b"}(" + b"".join(text(key) * 2 for key in state_dict) + b"uu.")


class _Unwrapper:
    """Replaces stand-ins for arrays by the arrays; uint16 is how Paddle stores bfloat16."""

    def __init__(self) -> None:
        self._made: dict[int, object] = {}

    def plain(self, value: object) -> object:
        """Return a value with its stand-ins replaced by arrays, without the name tables that paddle.save adds."""
        match value:
            case PendingArray(array=np.ndarray() as array) | (str(), PendingArray(array=np.ndarray() as array)):
                return array.view(BFLOAT16) if array.dtype == np.uint16 else array
            case (str(), PendingArray() as pending):  # its dtype is not read; else the pair would be a list
                return pending
            case dict() | list() | tuple() if id(value) in self._made:
                return self._made[id(value)]
            case dict():
                return self._mapping(value)
            case list() | tuple():
                made = self._made[id(value)] = list[object]()
                made.extend(map(self.plain, value))
                return made
        return value

    def _mapping(self, entries: dict[Any, Any]) -> dict[Any, Any]:
        made = self._made[id(entries)] = dict[Any, Any]()
        made |= {key: self.plain(value) for key, value in entries.items() if key != NAME_TABLE}
        return made


def _join(path: Path, entries: dict[Any, Any]) -> None:
    """Join what paddle.save with protocol 2 or 3 cuts into slices of 1 GiB; like Paddle, only at the top level.

    Source: paddlepaddle 3.3.1, python/paddle/framework/io_utils.py, _unpack_saved_dict and _pack_loaded_dict.
    """
    if SLICES not in entries:
        return
    try:
        for key, info in entries.pop(SLICES).items():
            parts = [entries.pop(part).reshape(-1) for part in info["slices"]]
            if key in entries or len({part.dtype for part in parts}) != 1:
                raise ValueError(f"{key!r} is there already, or of several dtypes")
            entries[key] = np.concatenate(parts).reshape(info["OriginShape"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(path, f"its slices of a large tensor do not fit together ({error})") from error
    entries.pop(NAME_TABLE, None)
