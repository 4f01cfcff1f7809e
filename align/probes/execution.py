"""What one forward of a model calls, and in which order: for a model about which nothing else is known."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from align.core.point import Item, Tapped
from align.core.probe import Probe
from align.probes.taps import items
from convert.arrays import Array, Shape

PLAIN = int | float | str | None
"""Types besides tensors that a model may return and that can be compared, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall:
    """One call of a layer; number counts that layer's calls in this forward, from 0.

    shapes: That of each floating-point tensor of the output, by item, None: the only one. whole: The other tensors,
    numbers and strings that the model itself returns; unseen: The types of what it returns that cannot be looked into.
    """

    path: str
    number: int
    shapes: Mapping[Item, Shape]
    whole: Mapping[Item, Array] = field(default_factory=dict)
    unseen: Mapping[Item, str] = field(default_factory=dict)

    def tapped(self, item: Item = None) -> Tapped:
        """Return where an item of this output is shown."""
        return Tapped(module=self.path, call=self.number, item=item)


def executed(probe: Probe, model: Any, inputs: Array) -> tuple[LayerCall, ...]:
    """Return the calls of one forward in the order in which they end; the last one is the model's own.

    Raises:
        ForwardFailed: The model raises.
    """
    found: list[LayerCall] = []
    numbers: Counter[str] = Counter()

    def note(path: str, _: object, __: object, output: Any) -> None:
        found.append(LayerCall(path=path, number=numbers[path], shapes=dict(_shapes(output))))
        numbers[path] += 1

    with contextlib.ExitStack() as hooks:
        for path, layer in probe.layers(model):
            register = getattr(layer, "register_forward_post_hook", None) or layer.register_forward_hook
            hooks.callback(register(partial(note, path)).remove)
        returned = probe.forward(model, inputs)
    *others, last = found
    unseen = {item: type(one).__name__ for item, one in items(returned) if not isinstance(one, np.ndarray | PLAIN)}
    return (*others, replace(last, whole=dict(_whole(returned)), unseen=unseen))


def _shapes(output: Any) -> Iterator[tuple[Item, Shape]]:
    """Yield the shape of each floating-point tensor of an output, with its item."""
    return ((item, shape) for item, one in items(output) if (shape := _shape(one)) is not None)


def _whole(returned: Any) -> Iterator[tuple[Item, Array]]:
    """Yield what a model returns besides floating-point tensors: integer and boolean tensors, numbers and strings."""
    for item, one in items(returned):
        if isinstance(one, int | float | str) or (isinstance(one, np.ndarray) and one.dtype.kind != "f"):
            yield item, np.asarray(one)


def _shape(value: Any) -> Shape | None:
    """Return the shape of a floating-point tensor; None for anything else."""
    dtype = str(getattr(value, "dtype", ""))
    return tuple(value.shape) if "float" in dtype and hasattr(value, "shape") else None
