"""What the layers of a model hold, read from the layers themselves: no method that a user may override is called."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of a framework's attributes for the layers below a layer, and for its buffers that are not saved."""

    children: str
    unsaved: str


LOCKS = {type(new()): new for new in (threading.Lock, threading.RLock)}

PADDLE = Names(children="_sub_layers", unsaved="_non_persistable_buffer_names_set")
TORCH = Names(children="_modules", unsaved="_non_persistent_buffers_set")


def layers_of(model: Any, names: Names, path: str = "", above: Sequence[Any] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every layer with its path, "" for the model itself; twice if in two places, but never below itself."""
    yield path, model
    for key, below in vars(model)[names.children].items():
        if below is not None and not any(below is one for one in (*above, model)):
            yield from layers_of(below, names, f"{path}.{key}" if path else key, (*above, model))


def twin_of(model: Any, names: Names) -> Any:
    """Return a model with the same tensors, hooks and settings, whose own layers keep what its forwards set on them.

    Two forwards of one instance at a time would overwrite each other's values there, or wait for a lock that the other
    one holds.
    """
    made: dict[int, Any] = {}
    twin = _twin(model, names, made)
    locks: dict[int, Any] = {}
    for one in made.values():
        vars(one).update({key: _among(made, value) for key, value in vars(one).items()})
        for key, value in [*vars(one).items()]:
            if (new := LOCKS.get(type(value))) is not None:
                vars(one)[key] = locks.setdefault(id(value), new())
    return twin


def _twin(layer: Any, names: Names, made: dict[int, Any]) -> Any:
    if id(layer) not in made:
        twin = made[id(layer)] = object.__new__(type(layer))
        vars(twin).update(vars(layer))
        for held in ("_parameters", "_buffers", names.unsaved):  # where Paddle puts any tensor set on a layer
            vars(twin)[held] = copy.copy(vars(layer)[held])
        below = vars(layer)[names.children]
        twins = {key: None if one is None else _twin(one, names, made) for key, one in below.items()}
        vars(twin)[names.children] = type(below)(twins)
    return made[id(layer)]


def _among(made: Mapping[int, Any], value: Any) -> Any:
    """Return a value with each layer replaced by its twin, if any: itself, in a container, or bound to a method."""
    if id(value) in made:
        return made[id(value)]
    if isinstance(value, MethodType) and id(value.__self__) in made:
        return MethodType(value.__func__, made[id(value.__self__)])
    if type(value) in (list, tuple):
        items = [_among(made, one) for one in value]
        return value if all(one is other for one, other in zip(items, value, strict=True)) else type(value)(items)
    if type(value) is dict:
        found = {key: _among(made, one) for key, one in value.items()}
        return value if all(found[key] is one for key, one in value.items()) else found
    return value


def tensors_of(model: Any, names: Names, *, saved_only: bool) -> Iterator[tuple[str, Any]]:
    """Yield the parameters and buffers with their names; a tensor in two places twice.

    Args:
        model: A model of the framework.
        names: The framework's attribute names.
        saved_only: Whether to leave out the buffers that no state dict has.
    """
    for path, layer in layers_of(model, names):
        held = vars(layer)
        unsaved = held.get(names.unsaved, ()) if saved_only else ()
        for registered in (held["_parameters"], {k: b for k, b in held["_buffers"].items() if k not in unsaved}):
            for key, tensor in registered.items():
                if tensor is not None:
                    yield f"{path}.{key}" if path else key, tensor
