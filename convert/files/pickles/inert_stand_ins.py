"""Stand-ins for harmless things that training checkpoints hold, such as sets, devices and counters; none is kept.

Their arguments are checked nevertheless: a file with arguments that the library would refuse was not written by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from convert.files.pickles.pickle_values import Call, StandIns, Token, Unhashable

BUILTINS = ("builtins", "__builtin__")
DEVICE = re.compile(r"cpu|cuda|mps|xpu|xla|meta|hpu|mtia|hip|ipu|npu|mlu|musa|privateuseone")
LAYOUTS = {
    f"torch.{name}" for name in ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")
}


def _set(*arguments: Any) -> bool:
    return len(arguments) == 1 and type(arguments[0]) is list


def _complex(*arguments: Any) -> bool:
    return len(arguments) == 2 and all(type(part) is float for part in arguments)


def _bytearray(*arguments: Any) -> bool:
    match arguments:
        case (str(text), "latin-1" | "latin1"):
            return all(ord(character) < 256 for character in text)
        case () | (bytes(),) | (memoryview(),):
            return True
    return False


def _counter(*arguments: Any) -> bool:
    return len(arguments) == 0 or (len(arguments) == 1 and type(arguments[0]) is dict)


def _device(kind: Any, *index: Any) -> bool:
    numbered = len(index) == 1 and type(index[0]) is int and 0 <= index[0] < 128
    return type(kind) is str and DEVICE.fullmatch(kind) is not None and (not index or numbered)


def _layout(*arguments: Any) -> bool:
    return len(arguments) == 1 and type(arguments[0]) is str and arguments[0] in LAYOUTS


def _inert(name: str, is_right: Callable[..., bool], kind: type[Token] = Token) -> Call:
    """Return a stand-in for a function, which returns a token of that name if the arguments are right."""

    def make(*arguments: Any) -> Token:
        if not is_right(*arguments):
            raise TypeError(f"{name} that is made otherwise than its library writes it")
        return kind(name)

    return Call(make)


SETS: StandIns = {(module, "set"): _inert("a set", _set, Unhashable) for module in BUILTINS}
COMPLEX: StandIns = {(module, "complex"): _inert("a complex", _complex) for module in BUILTINS}
OF_PADDLE: StandIns = {**SETS, **COMPLEX, **{(module, "frozenset"): _inert("a frozenset", _set) for module in BUILTINS}}
"""Stand-ins for what has no opcode of its own in protocols 2 and 3."""
OF_TORCH: StandIns = {
    **SETS,
    **COMPLEX,
    **{(module, "bytearray"): _inert("a bytearray", _bytearray, Unhashable) for module in BUILTINS},
    ("collections", "Counter"): _inert("a Counter", _counter, Unhashable),
    ("torch", "device"): _inert("a device", _device),
    ("torch.serialization", "_get_layout"): _inert("a layout", _layout),
}
"""Stand-ins for what `torch.load` with `weights_only=True` accepts beside tensors."""
