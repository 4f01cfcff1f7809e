"""A user's own model, lent: it is observed itself, not a copy of it, and afterwards has all that it had before.

A copy can be another model: what was set on the instance goes on calling the original, `__deepcopy__` may return
anything, and what holds a lock or a file cannot be copied at all.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from align.probes.attributes import own
from align.probes.held import Names, layers_of

Rebind = Callable[[Any], Callable[[], object]]
"""A function that gives a tensor a copy of its values, and returns one that gives it its own memory back."""

CONTAINERS = (dict, list, set, deque)


@contextlib.contextmanager
def lent(model: Any, names: Names, is_tensor: Callable[[Any], bool], rebind: Rebind) -> Iterator[Any]:
    """Yield the model with copies as its values, so that its own memory is not written to; restore it on exit.

    Args:
        model: A model of the framework.
        names: The framework's attribute names.
        is_tensor: Returns whether something is a tensor of the framework.
        rebind: Rebinds a tensor of the framework.
    """
    kept = _Kept(is_tensor)
    for _, layer in layers_of(model, names):
        kept.container(vars(layer))
    with contextlib.ExitStack() as in_the_end:
        in_the_end.callback(kept.restore)
        for tensor in kept.tensors.values():
            in_the_end.callback(rebind(tensor))
        yield model


class _Kept:
    """The contents of containers, each remembered once, and the tensors found in them."""

    def __init__(self, is_tensor: Callable[[Any], bool]) -> None:
        self.tensors: dict[int, Any] = {}
        self._is_tensor = is_tensor
        self._containers: dict[int, tuple[Any, Any]] = {}

    def container(self, value: Any) -> None:
        """Remember the contents of a container, and of those within it."""
        if id(value) in self._containers:
            return
        items = list(value.items()) if isinstance(value, dict) else list(value)
        self._containers[id(value)] = (value, items)
        for item in items:
            self._look_into(item[1] if isinstance(value, dict) else item)

    def restore(self) -> None:
        """Give every container the contents that it had."""
        for value, items in self._containers.values():
            now = value.items() if isinstance(value, dict) else value
            if _identities(now) != _identities(items):
                value.clear()
                (value.extend if isinstance(value, list | deque) else value.update)(items)

    def _look_into(self, value: Any) -> None:
        if self._is_tensor(value):
            self.tensors[id(value)] = value
        elif isinstance(value, CONTAINERS):
            self.container(value)
        elif isinstance(value, tuple):
            for one in value:
                self._look_into(one)
        elif held := own(value):
            self.container(held)


def _identities(items: Any) -> list[Any]:
    return [(item[0], id(item[1])) if isinstance(item, tuple) and len(item) == 2 else id(item) for item in items]
