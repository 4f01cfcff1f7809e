"""What a fault is planted in: a candidate's layers as one forward calls them, and its weights by name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from align.core.case import Case
from align.core.probe import Probe
from align.probes import paddle_probe
from align.probes.execution import executed
from convert.arrays import Array, Shape, StateDict

Plant = Callable[[dict[str, Any], StateDict], None]
"""Function that plants a fault in a copy's layers, by path, or in its weights, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A fault that could be planted: in which layers, what it is in words, and the function that plants it."""

    layers: tuple[str, ...]
    what: str
    plant: Plant


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One call of a layer: the shape of its only input and of its only output; None where there are more, or none."""

    path: str
    given: Shape | None
    returned: Shape | None


@dataclass(frozen=True, kw_only=True)
class Bed:
    """A candidate, what one forward of it calls, and what it holds when it is right."""

    candidate: Any
    case: Case
    seed: int

    @cached_property
    def layers(self) -> Mapping[str, Any]:
        """The candidate's layers by path."""
        return dict(paddle_probe.layers(self.candidate))

    @cached_property
    def weights(self) -> StateDict:
        """What the candidate holds when it is right."""
        return self.case.rules.apply(self.case.reference.state_dict)

    @cached_property
    def calls(self) -> Sequence[Seen]:
        """The calls of one forward, in the order in which they end."""
        return [*_calls(self.candidate, self.case.inputs, paddle_probe)]

    def called(self, *types: str) -> Iterator[tuple[str, Any]]:
        """Yield the layers of these types that are called, in an order drawn by the seed."""
        paths = [path for path in dict.fromkeys(seen.path for seen in self.calls) if path]
        for path in self.drawn(paths):
            if type(self.layers[path]).__name__ in types:
                yield path, self.layers[path]

    def held(self, *ends: str) -> Iterator[tuple[str, Array]]:
        """Yield the weights of called layers whose names have one of these endings, in an order drawn by the seed."""
        paths = {seen.path for seen in self.calls}
        keys = [key for key in self.weights if key.endswith(ends) and key.rpartition(".")[0] in paths]
        yield from ((key, self.weights[key]) for key in self.drawn(keys))

    def shapes(self, path: str) -> tuple[Shape | None, Shape | None]:
        """Return the shapes of a layer's input and output, in its first call."""
        return next((seen.given, seen.returned) for seen in self.calls if seen.path == path)

    def drawn(self, names: Sequence[str]) -> list[str]:
        """Return the names in an order drawn by the seed."""
        order = np.random.default_rng(self.seed).permutation(len(names))
        return [names[i] for i in order]

    def expected(self, change: Change) -> tuple[str, ...]:
        """Return the points at which a change may show first: its layers', or the next ones where they have none."""
        return tuple(dict.fromkeys(name for path in change.layers for name in self._points_of(path)))

    def _points_of(self, path: str) -> list[str]:
        shown: dict[str, list[str]] = {}
        for point in self.case.points:
            shown.setdefault(point.candidate.module, []).append(point.name)
        own = [*shown.get(path, ())]
        within = [name for module, names in shown.items() if module.startswith(f"{path}.") for name in names]
        if own:
            return own + within
        ended = [i for i, seen in enumerate(self.calls) if seen.path == path]
        behind = next((s.path for i in ended[:1] for s in self.calls[i + 1 :] if s.path in shown), "")
        around = path.rpartition(".")[0]
        while around and around not in shown:
            around = around.rpartition(".")[0]
        return within + shown.get(behind, []) + shown.get(around, [])


def _calls(model: Any, inputs: Array, probe: Probe) -> Iterator[Seen]:
    given: dict[tuple[str, int], Shape | None] = {}
    hooks = []
    for path, layer in probe.layers(model):
        note = _noting(given, path)
        hooks.append(layer.register_forward_pre_hook(note))
    try:
        calls = executed(probe, model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for call in calls:
        returned = call.shapes.get(None) if len(call.shapes) == 1 else None
        yield Seen(path=call.path, given=given.get((call.path, call.number)), returned=returned)


def _noting(given: dict[tuple[str, int], Shape | None], path: str) -> Callable[[Any, Any], None]:
    count = iter(range(1 << 30))

    def note(_: Any, inputs: Any) -> None:
        only = inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 else None
        given[path, next(count)] = tuple(only.shape) if hasattr(only, "shape") else None

    return note
