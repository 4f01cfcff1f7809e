"""The .pdparams format, without Paddle: a pickle of name → array, of which nothing is ever executed.

Source: paddlepaddle 3.3.1, python/paddle/framework/io.py, paddle.save.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert.arrays import Array, StateDict
from convert.errors import Unreadable
from convert.files.array_pickle import BFLOAT16, text, write_items
from convert.files.pickle_machine import PendingArray, Refused, interpret
from convert.mapped import MappedFile

NAME_TABLE = "StructuredToParameterName@@"
"""An entry that paddle.save adds, structured name → parameter name; some Paddle code deletes it without asking."""


def read(path: Path) -> StateDict:
    """Return the tensors as read-only views of the mapped file; uint16 is Paddle's way to store bfloat16.

    Raises:
        Unreadable: The file is damaged, is no flat name → array mapping, or asks for anything but arrays.
    """
    mapped = MappedFile(path)
    try:
        content = interpret(mapped)
    except Refused as refusal:
        raise Unreadable(path, str(refusal)) from refusal
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error
    return _tensors(path, content)


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


def _tensors(path: Path, content: object) -> StateDict:
    if not isinstance(content, dict):
        raise Unreadable(path, f"it holds a {type(content).__name__}, not a state dict")
    content.pop(NAME_TABLE, None)
    tensors: dict[str, Array] = {}
    for key, value in content.items():
        if not isinstance(value, PendingArray) or value.array is None or not isinstance(key, str):
            raise Unreadable(path, f"entry {key!r} is not a tensor", "Save the model's state_dict() alone.")
        tensors[key] = value.array.view(BFLOAT16) if value.array.dtype == np.uint16 else value.array
    return tensors
