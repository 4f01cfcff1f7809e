"""A pickle interpreted without executing anything: split by the standard library, carried out by a small machine.

Unpickling runs whatever the file says. Here `pickletools` splits the file into opcodes, and only those that plain
arrays need are carried out. The globals that arrays are made of are stand-ins of our own; any other is refused by name.

Source: CPython, Lib/pickletools.py.
"""

from __future__ import annotations

import io
import mmap
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from convert.arrays import Array

DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "b1"}
LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
PYTHON2_TEXT = {"SHORT_BINSTRING", "BINSTRING"}
"""How Python 2 pickles its `str`; pickletools hands it out as latin-1 text, a character a byte."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def interpret(mapped: mmap.mmap) -> object:
    """Return the one object that a mapped pickle describes; arrays are views of the mapping, still wrapped.

    Raises:
        Refused: The pickle asks for something that plain arrays do not need.
        ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError: It is damaged.
    """
    return _Machine(_Reader(mapped)).run()


def interpret_python2(data: bytes) -> object:
    """Return the one object that a pickle of plain data by Python 2 describes; its arrays are still wrapped.

    Beyond what `interpret` takes, this is Python 2's `str`, which is returned as latin-1 text. A dictionary may have
    keys of bytes, as Python 3 pickles what it read from Python 2; they are returned as text too.

    Raises:
        Refused, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError: As `interpret` does.
    """
    return _Python2Machine(_Bytes(data)).run()


class Refused(Exception):
    """The pickle asks for something that plain arrays do not need."""


class _Source(Protocol):
    """What a machine reads from: what pickletools needs of a file, and whether anything is left."""

    def read(self, size: int, /) -> Any: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...
    def exhausted(self) -> bool: ...


class _Bytes(io.BytesIO):
    """A pickle in memory."""

    def exhausted(self) -> bool:
        """Return whether everything was read."""
        return self.tell() == self.getbuffer().nbytes


class _Reader:
    """The part of a file object that pickletools needs; large reads are views of the mapping, not copies."""

    COPY_BELOW = 4096

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped, self._view, self._at = mapped, memoryview(mapped), 0

    def read(self, size: int) -> bytes | memoryview:
        """Return the next bytes, fewer at the end; a view of the mapping where they are many."""
        data = self._view[self._at : self._at + size]
        self._at += len(data)
        return bytes(data) if size < self.COPY_BELOW else data

    def readline(self) -> bytes:
        """Return the bytes up to and with the next newline."""
        self._mapped.seek(self._at)
        line = self._mapped.readline()
        self._at += len(line)
        return line

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def exhausted(self) -> bool:
        """Return whether everything was read."""
        return self._at == len(self._view)


class _PendingDtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in DTYPES:
            raise Refused(f"it holds an array of dtype {code!r}, which is not read here")
        self.dtype = np.dtype(str(code))

    def build(self, state: Any) -> None:
        """Take the byte order from what numpy.dtype.__setstate__ takes."""
        self.dtype = self.dtype.newbyteorder(state[1])


class PendingArray:
    """Stands in for numpy.ndarray; `array` is None until BUILD brings shape, dtype and bytes."""

    def __init__(self, *_: object) -> None:
        self.array: Array | None = None

    def build(self, state: Any) -> None:
        """Take what numpy.ndarray.__setstate__ takes."""
        _, shape, dtype, fortran_order, data = state
        data = data.encode("latin-1") if isinstance(data, str) else data
        flat = np.frombuffer(data, dtype.dtype).astype(dtype.dtype.newbyteorder("="), copy=False)
        self.array = flat.reshape(shape, order="F" if fortran_order else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for _codecs.encode, by which protocol 2 spells bytes."""
    if encoding != "latin1":
        raise Refused(f"it asks for the codec {encoding!r}")
    return text.encode("latin-1")


_Stand = Callable[..., Any]
GLOBALS: Mapping[tuple[str, str], _Stand] = {
    ("numpy", "dtype"): _PendingDtype,
    ("numpy", "ndarray"): PendingArray,
    ("numpy.core.multiarray", "_reconstruct"): PendingArray,
    ("numpy._core.multiarray", "_reconstruct"): PendingArray,
    ("_codecs", "encode"): _encode,
}
CALLABLE = frozenset(GLOBALS.values())


class _Machine:
    """A pickle machine without imports, calls or attributes: a stack, a memo, and our five stand-ins."""

    literals: ClassVar[set[str]] = LITERALS

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> object:
        """Return the one object the pickle describes."""
        for opcode, arg, _ in pickletools.genops(self.source):  # type: ignore[arg-type]  # a reader of ours
            self._step(opcode.name, arg)
        if not self.source.exhausted():
            raise Refused("there is more after the end of its pickle")
        if len(self.stack) != 1:
            raise Refused("its pickle leaves more than one object")
        return self.stack[0]

    def _step(self, name: str, arg: Any) -> None:
        if name in self.literals:
            self.stack.append(arg)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif (action := getattr(self, f"_op_{name.lower()}", None)) is not None:
            action(arg)
        else:
            raise Refused(f"its pickle uses {name}, which plain arrays do not need; nothing was executed")

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
            text = self._key(key)
            if text in self.stack[-1]:
                raise Refused(f"it holds {text!r} twice")
            self.stack[-1][text] = value

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            raise Refused("it has a key that is not text")
        return key

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
            raise Refused(f"it asks for {module}.{name}, which plain arrays do not need; nothing was executed")
        self.stack.append(stand_in)

    def _op_reduce(self, arg: None) -> None:
        function, arguments = self._pop(2)
        if function not in CALLABLE:
            raise Refused("it calls something that is not a function")
        self.stack.append(function(*arguments))

    def _op_build(self, arg: None) -> None:
        target, state = self._pop(2)
        if not isinstance(target, (_PendingDtype, PendingArray)):
            raise Refused("it sets the state of something that is not an array")
        target.build(state)
        self.stack.append(target)


class _Python2Machine(_Machine):
    """The same machine for what Python 2 wrote."""

    literals = LITERALS | PYTHON2_TEXT

    def _key(self, key: object) -> str:
        return super()._key(key.decode("latin-1") if isinstance(key, bytes) else key)
