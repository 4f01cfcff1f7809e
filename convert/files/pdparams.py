"""The .pdparams format, without Paddle: a pickle of name → array, interpreted here so that nothing in it is executed.

`paddle.load` unpickles, which runs whatever the file says. Here the standard library's `pickletools` splits the file into
opcodes, and a small machine carries out only those that data needs. The five globals that arrays are made of are
stand-ins of our own; any other is refused by name.

Source: paddlepaddle 3.3.1, python/paddle/framework/io.py, paddle.save; opcodes: CPython, Lib/pickletools.py.
"""

from __future__ import annotations

import mmap
import pickletools
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from convert.arrays import Array, StateDict, canonical_bytes
from convert.errors import Unreadable

NAME_TABLE = "StructuredToParameterName@@"
"""An entry paddle.save adds: structured name → parameter name. Some Paddle code deletes it unasked, so we write it too."""

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "b1"}
LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def read(path: Path) -> StateDict:
    """Return the tensors as read-only views of the mapped file, 2-byte unsigned integers as the bfloat16 they stand for.

    Raises:
        Unreadable: The file is damaged, is no flat name → array mapping, or asks for anything but arrays.
    """
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        content = _Machine(_Mapped(mapped)).run()
    except _Refused as refusal:
        raise Unreadable(path, str(refusal)) from refusal
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error
    return _tensors(path, content)


def write(stream: BinaryIO, state_dict: StateDict) -> None:
    """Write what `paddle.save` would, tensor by tensor, in protocol 4 and always the same bytes for the same tensors."""
    stream.write(b"\x80\x04}(")
    for key, array in state_dict.items():
        stream.write(_text(key) + _array_head(array))
        stream.write(canonical_bytes(array))
        stream.write(b"tb")
    stream.write(_text(NAME_TABLE) + b"}(" + b"".join(_text(key) * 2 for key in state_dict) + b"uu.")


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _array_head(array: Array) -> bytes:
    """Return the opcodes of an array up to its bytes; `tb` after them builds it.

    They name numpy.core.multiarray, which NumPy 1 and 2 both keep for the sake of old pickles.
    """
    code = "u2" if array.dtype == BFLOAT16 else array.dtype.str[1:]
    order = b"|" if array.dtype.itemsize == 1 else b"<"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\n" + _text(code) + b"\x89\x88\x87R(K\x03" + _text(order.decode()) + b"NNN"
    dtype += 2 * (b"J" + struct.pack("<i", -1)) + b"K\x00tb"
    return empty + b"(K\x01" + shape + dtype + b"\x89\x8e" + struct.pack("<Q", array.nbytes)


def _tensors(path: Path, content: object) -> StateDict:
    if not isinstance(content, dict):
        raise Unreadable(path, f"it holds a {type(content).__name__}, not a state dict")
    content.pop(NAME_TABLE, None)
    tensors: dict[str, Array] = {}
    for key, value in content.items():
        if not isinstance(value, _Ndarray) or value.array is None or not isinstance(key, str):
            raise Unreadable(path, f"entry {key!r} is not a tensor", "Save the model's state_dict() alone.")
        tensors[key] = value.array.view(BFLOAT16) if value.array.dtype == np.uint16 else value.array
    return tensors


class _Refused(Exception):
    """The pickle asks for something that plain arrays do not need."""


class _Mapped:
    """The part of a file object that pickletools needs; large reads are views of the mapping, not copies."""

    COPY_BELOW = 4096

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped, self._view, self._at = mapped, memoryview(mapped), 0

    def read(self, size: int) -> bytes | memoryview:
        data = self._view[self._at : self._at + size]
        self._at += len(data)
        return bytes(data) if size < self.COPY_BELOW else data

    def readline(self) -> bytes:
        self._mapped.seek(self._at)
        line = self._mapped.readline()
        self._at += len(line)
        return line

    def tell(self) -> int:
        return self._at

    def exhausted(self) -> bool:
        return self._at == len(self._view)


class _Dtype:
    """Stands in for numpy.dtype while the pickle builds one."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in DTYPES:
            raise _Refused(f"it holds an array of dtype {code!r}, which is not read here")
        self.dtype = np.dtype(str(code))

    def build(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Ndarray:
    """Stands in for numpy.ndarray until BUILD brings shape, dtype and bytes."""

    def __init__(self, *_: object) -> None:
        self.array: Array | None = None

    def build(self, state: Any) -> None:
        _, shape, dtype, fortran_order, data = state
        flat = np.frombuffer(data, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran_order else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for _codecs.encode, by which protocol 2 spells bytes."""
    if encoding != "latin1":
        raise _Refused(f"it asks for the codec {encoding!r}")
    return text.encode("latin-1")


_Stand = Callable[..., Any]
GLOBALS: Mapping[tuple[str, str], _Stand] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _Ndarray,
    ("numpy._core.multiarray", "_reconstruct"): _Ndarray,
    ("_codecs", "encode"): _encode,
}
CALLABLE = frozenset(GLOBALS.values())


class _Machine:
    """A pickle machine without imports, calls or attributes: a stack, a memo, and our five stand-ins."""

    def __init__(self, source: _Mapped) -> None:
        self.source = source
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> object:
        """Return the one object the pickle describes."""
        for opcode, arg, _ in pickletools.genops(self.source):  # type: ignore[arg-type]  # a reader of ours
            self._step(opcode.name, arg)
        if not self.source.exhausted():
            raise _Refused("there is more after the end of its pickle")
        if len(self.stack) != 1:
            raise _Refused("its pickle leaves more than one object")
        return self.stack[0]

    def _step(self, name: str, arg: Any) -> None:
        if name in LITERALS:
            self.stack.append(arg)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif (action := getattr(self, f"_op_{name.lower()}", None)) is not None:
            action(arg)
        else:
            raise _Refused(f"its pickle uses {name}, which plain arrays do not need; nothing was executed")

    def _pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise IndexError("stack underflow")
        items, self.stack[-count:] = self.stack[-count:], []
        return items

    def _op_proto(self, arg: int) -> None: ...

    def _op_frame(self, arg: int) -> None: ...

    def _op_stop(self, arg: None) -> None: ...

    def _op_mark(self, arg: None) -> None:
        self.marks.append(len(self.stack))

    def _op_empty_dict(self, arg: None) -> None:
        self.stack.append({})

    def _op_empty_list(self, arg: None) -> None:
        self.stack.append([])

    def _op_empty_tuple(self, arg: None) -> None:
        self.stack.append(())

    def _op_tuple(self, arg: None) -> None:
        self.stack.append(tuple(self._pop_to_mark()))

    def _op_tuple1(self, arg: None) -> None:
        self.stack.append(tuple(self._pop(1)))

    def _op_tuple2(self, arg: None) -> None:
        self.stack.append(tuple(self._pop(2)))

    def _op_tuple3(self, arg: None) -> None:
        self.stack.append(tuple(self._pop(3)))

    def _op_setitem(self, arg: None) -> None:
        self._update(self._pop(2))

    def _op_setitems(self, arg: None) -> None:
        self._update(self._pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise _Refused("it has a key that is not text")
            if key in self.stack[-1]:
                raise _Refused(f"it holds {key!r} twice")
            self.stack[-1][key] = value

    def _op_append(self, arg: None) -> None:
        self._extend(self._pop(1))

    def _op_appends(self, arg: None) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("append to something that is not a list")
        self.stack[-1].extend(items)

    def _op_memoize(self, arg: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _op_binput(self, arg: int) -> None:
        self.memo[arg] = self.stack[-1]

    _op_long_binput = _op_binput

    def _op_binget(self, arg: int) -> None:
        self.stack.append(self.memo[arg])

    _op_long_binget = _op_binget

    def _op_global(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        self._push_global(module, name)

    def _op_stack_global(self, arg: None) -> None:
        self._push_global(*self._pop(2))

    def _push_global(self, module: str, name: str) -> None:
        stand_in = GLOBALS.get((module, name))
        if stand_in is None:
            raise _Refused(f"it asks for {module}.{name}, which plain arrays do not need; nothing was executed")
        self.stack.append(stand_in)

    def _op_reduce(self, arg: None) -> None:
        function, arguments = self._pop(2)
        if function not in CALLABLE:
            raise _Refused("it calls something that is not a function")
        self.stack.append(function(*arguments))

    def _op_build(self, arg: None) -> None:
        target, state = self._pop(2)
        if not isinstance(target, (_Dtype, _Ndarray)):
            raise _Refused("it sets the state of something that is not an array")
        target.build(state)
        self.stack.append(target)
