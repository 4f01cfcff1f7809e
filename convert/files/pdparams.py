"""The .pdparams format, without Paddle: a pickle of name → array, of which nothing is ever executed.

Source: paddlepaddle 3.3.1, python/paddle/framework/io.py, paddle.save.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convert.arrays import Array, StateDict
from convert.errors import Unreadable
from convert.files.array_pickle import BFLOAT16, text, write_items
from convert.files.nests import weights_of
from convert.files.numpy_stand_ins import PendingArray, interpret
from convert.files.pickle_values import Damaged, Refused, kind_of
from convert.mapped import mapped

NAME_TABLE = "StructuredToParameterName@@"
"""An entry that paddle.save adds, structured name → parameter name; some Paddle code deletes it without asking."""
SLICES = "UnpackBigParamInfor@@"
RESAVE = "Save the model's state_dict() alone."


def read(path: Path, *, ema: bool | None = None) -> StateDict:
    """Return the tensors as read-only views of the mapped file; uint16 is Paddle's way to store bfloat16.

    Args:
        path: The file.
        ema: Of a training checkpoint with raw and averaged weights, whether to take the averaged ones.

    Raises:
        UsageProblem: The file holds raw and averaged weights and ema is None, or not the ones asked for.
        Unreadable: The file is damaged, holds no state dict, or asks for anything but arrays.
    """
    try:
        content = interpret(mapped(path)).content
    except Damaged as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error
    except Refused as refusal:
        raise Unreadable(path, str(refusal)) from refusal
    entries = dict(weights_of(path, _without_table(content), ema, RESAVE))
    entries = _without_table(_joined(path, entries))
    return {_name(path, key): _tensor(path, key, value) for key, value in entries.items()}


def write(stream: BinaryIO, state_dict: StateDict, contents: Iterable[Array]) -> None:
    """Write what `paddle.save` would, tensor by tensor; the same tensors always give the same bytes.

    Args:
        stream: Where to.
        state_dict: The names, dtypes and shapes.
        contents: The arrays themselves, in the same order; each is asked for when its bytes are next to be written.
    """
    stream.write(b"\x80\x04}(")
    write_items(stream, state_dict, contents)
    stream.write(text(NAME_TABLE) + b"}(" + b"".join(text(key) * 2 for key in state_dict) + b"uu.")


def _without_table(content: Any) -> Any:
    """Return a state dict without its table of names, which may lie beside the state dict too."""
    return {k: v for k, v in content.items() if k != NAME_TABLE} if isinstance(content, dict) else content


def _joined(path: Path, entries: dict[Any, Any]) -> dict[Any, Any]:
    """Return the entries, those joined that paddle.save with protocol 2 or 3 cuts into slices of 1 GiB.

    Source: paddlepaddle 3.3.1, python/paddle/framework/io_utils.py, _unpack_saved_dict.
    """
    if SLICES not in entries:
        return entries
    try:
        for key, info in entries.pop(SLICES).items():
            parts = [_tensor(path, part, entries.pop(part)).reshape(-1) for part in info["slices"]]
            entries[key] = np.concatenate(parts).reshape(info["OriginShape"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(path, f"its slices of a large tensor do not fit together ({error})") from error
    return entries


def _name(path: Path, key: object) -> str:
    if not isinstance(key, str):
        raise Unreadable(path, "it has a key that is not text", RESAVE)
    return key


def _tensor(path: Path, key: object, value: object) -> Array:
    """Return the array of an entry, which in a nest is a pair of Paddle's own name and the array."""
    match value:
        case PendingArray(array=np.ndarray() as array) | (str(), PendingArray(array=np.ndarray() as array)):
            return array.view(BFLOAT16) if array.dtype == np.uint16 else array
        case np.ndarray():
            return value
    raise Unreadable(path, f"entry {key!r} is not a tensor but {kind_of(value)}", RESAVE)
