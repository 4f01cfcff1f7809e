"""What layers keep besides their parameters and buffers, as text that changes with the values."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from convert.arrays import Array

FRAMEWORKS = ("_parameters", "_buffers", "_sub_layers", "_modules", "_dtype", "_built")
"""The frameworks' own attributes, left out: what is compared elsewhere, the dtype of a cast, and whether it has run."""

DEPTH = 2
"""How many levels of containers or objects are looked into."""

ITEMS = 64
"""How many items of each container are described; its length is described in any case."""

PLAIN = (type(None), bool, int, float, complex, str, bytes, range, itertools.count)

CHANGEABLE = (bool, int, float, complex, str, list, dict, set, deque, itertools.count)
"""Types of the class attributes that are looked at."""

ToArray = Callable[[Any], Array | None]


def attributes_of(layers: Iterable[tuple[str, Any]], to_array: ToArray, known: frozenset[int]) -> dict[str, str]:
    """Return what each layer keeps, by `path.name`: in itself, in its class, and in what its forward refers to.

    Args:
        layers: The layers, with their paths.
        to_array: Copies a tensor; returns None for anything else.
        known: The ids of tensors whose values are compared elsewhere.
    """
    describe = _Description(to_array, known)
    found: dict[str, str] = {}
    for path, layer in layers:
        for name, value in _kept(layer):
            found[f"{path}.{name}" if path else name] = describe(value)
    return found


def _kept(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that a layer's forward may read and change."""
    for kind in reversed(type(layer).__mro__):
        if not _of_a_library(kind):
            yield from ((name, value) for name, value in vars(kind).items() if isinstance(value, CHANGEABLE))
    yield from ((name, value) for name, value in vars(layer).items() if name not in FRAMEWORKS)
    forward = getattr(layer, "forward", None)
    function = inspect.unwrap(forward) if callable(forward) else None
    function = function.__func__ if isinstance(function, MethodType) else function
    if isinstance(function, FunctionType) and not _of_a_library(function):
        yield from (("forward's default", value) for value in function.__defaults__ or ())
        yield from ((f"forward's {name}", value) for name, value in _referred_to(function).items())


def _referred_to(function: FunctionType) -> dict[str, Any]:
    """Return the variables from outside a function that it refers to, those of its module included."""
    found = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the cell is still empty
            found[name] = cell.cell_contents
    return found


class _Description:
    """A function that describes a value as text."""

    def __init__(self, to_array: ToArray, known: frozenset[int]) -> None:
        self._to_array, self._known = to_array, known

    def __call__(self, value: Any, depth: int = DEPTH) -> str:
        if isinstance(value, PLAIN):
            return repr(value)
        kind = type(value).__name__
        if id(value) in self._known or isinstance(value, type | ModuleType | FunctionType):
            return f"{kind} at {id(value)}"
        array = value if isinstance(value, np.ndarray) else self._to_array(value)
        if array is not None:
            return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        if isinstance(value, dict | list | tuple | set | frozenset | deque):
            return f"{kind} of {len(value)}: {self._items(value, depth)}"
        return f"{kind} at {id(value)}: {self._items(own(value), depth)}"

    def _items(self, values: Any, depth: int) -> str:
        if not depth:
            return ""
        first = itertools.islice(values.items() if isinstance(values, dict) else values, ITEMS)
        said = [self(one, depth - 1) for one in first]
        return str(sorted(said) if isinstance(values, set | frozenset) else said)


def own(value: Any) -> dict[str, Any]:
    """Return the attributes of a user's object, not a copy; none for a layer, which is looked at by itself."""
    held = getattr(value, "__dict__", {})
    return held if type(held) is dict and "_parameters" not in held and not _of_a_library(type(value)) else {}


def _of_a_library(what: Any) -> bool:
    return str(getattr(what, "__module__", "")).partition(".")[0] in ("paddle", "torch", "timm", "numpy", "builtins")
