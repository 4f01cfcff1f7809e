"""What one forward of a model calls, and in which order: for a model of which nothing else is known."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from align.core.point import Tapped
from align.core.probe import Probe
from convert.arrays import Array, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall:
    """One call of a layer, of which number in this forward; shapes: of each tensor put out, by item, None: the only."""

    path: str
    number: int
    shapes: Mapping[int | str | None, Shape]

    def tapped(self, item: int | str | None = None) -> Tapped:
        """Return where this is shown."""
        return Tapped(module=self.path, call=self.number, item=item)


def executed(probe: Probe, model: Any, inputs: Array) -> tuple[LayerCall, ...]:
    """Return the calls of one forward, each where it has ended; the last one is the model's own.

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
        probe.forward(model, inputs)
    return tuple(found)


def _shapes(output: Any) -> Iterator[tuple[int | str | None, Shape]]:
    """Yield the shape of each floating-point tensor that is put out, by its item."""
    if (shape := _shape(output)) is not None:
        yield None, shape
        return
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(output, Mapping):
        items = iter(output.items())
    elif isinstance(output, Sequence) and not isinstance(output, str | bytes):
        items = enumerate(output)
    yield from ((item, shape) for item, one in items if (shape := _shape(one)) is not None)


def _shape(value: Any) -> Shape | None:
    """Return the shape of a floating-point tensor; None for what is none."""
    dtype = str(getattr(value, "dtype", ""))
    return tuple(value.shape) if "float" in dtype and hasattr(value, "shape") else None
