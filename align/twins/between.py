"""Which layers without tensors of their own correspond, given the pairs of those that hold tensors. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.probes.execution import LayerCall

SAME_CLASS = {"swish": "silu", "droppath": "stochasticdepth"}
"""Lower-case class names that mean the same as another, and that other name."""

Layers = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Pairs of layers without tensors, and why the reference's other such layers have no counterpart."""

    pairs: Mapping[str, str]
    apart: Mapping[str, str] = field(default_factory=dict)


def leaves_between(
    layers: tuple[Layers, Layers], calls: tuple[Sequence[LayerCall], Sequence[LayerCall]], owners: Mapping[str, str]
) -> Between:
    """Return the pairs of leaf layers without tensors: of one type, called after the same pair of owners, in order.

    Args:
        layers: The layers of the reference and of the candidate, by path.
        calls: The calls in one forward of each.
        owners: The candidate's counterpart of each reference layer that holds tensors.
    """
    back = {candidate: reference for reference, candidate in owners.items()}
    in_reference = _behind(layers[0], calls[0], {path: path for path in owners})
    in_candidate = _behind(layers[1], calls[1], back)
    together: list[tuple[str, str]] = []
    apart: dict[str, str] = {}
    for (owner, kind), paths in in_reference.items():
        found = in_candidate.get((owner, kind), [])
        if len(found) == len(paths):
            together += zip(paths, found, strict=True)
        else:
            where = f"behind {owner}" if owner else "before all layers with tensors"
            said = f"{where} the reference calls {len(paths)} of its type, the candidate {len(found)}"
            apart |= dict.fromkeys(paths, said)
    times = Counter(call.path for call in calls[0]), Counter(call.path for call in calls[1])
    return _one_to_one([pair for pair in together if pair[0] not in apart], apart, times)


def _one_to_one(
    together: Sequence[tuple[str, str]], apart: Mapping[str, str], times: tuple[Counter[str], Counter[str]]
) -> Between:
    """Return the pairs of layers whose calls all go together; a layer that stands for several has no counterpart."""
    number = Counter(together)
    several: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for (path, other), count in number.items():
        if count == times[0][path] == times[1][other]:
            pairs[path] = other
            continue
        others = list(dict.fromkeys(o for p, o in together if p == path))
        paths = list(dict.fromkeys(p for p, o in together if o == other))
        if len(others) > 1:
            several[path] = f"called {times[0][path]} times, where the candidate has {len(others)} layers"
        elif len(paths) > 1:
            several[path] = f"the candidate's {other} stands for {len(paths)} layers"
        else:
            several[path] = f"called {times[0][path]} times, and {times[1][other]} by the candidate"
    return Between(pairs=pairs, apart={**apart, **several})


def _behind(layers: Layers, calls: Sequence[LayerCall], owners: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """Return the calls of leaf layers without tensors, grouped by the owner last called before them and by type."""
    found: dict[tuple[str, str], list[str]] = {}
    last = ""
    for call in calls:
        layer = layers[call.path]
        if call.path in owners:
            last = owners[call.path]
        elif call.path and is_leaf(call.path, layers) and not _holds(layer):
            found.setdefault((last, _type(layer)), []).append(call.path)
    return found


def containers(layers: tuple[Layers, Layers], owners: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of containers around the same owners: all in order, else by equal names, else the outermost."""
    in_reference, in_candidate = _containers(layers[0], owners), _containers(layers[1], owners.values())
    for inside, paths in in_reference.items():
        found = in_candidate.get(frozenset(owners[path] for path in inside), [])
        named = [path for path in paths if path in found]
        if len(found) == len(paths):
            yield from zip(paths, found, strict=True)
        elif named:
            yield from zip(named, named, strict=True)
        elif found:
            yield paths[0], found[0]


def _containers(layers: Layers, owners: Any) -> dict[frozenset[str], list[str]]:
    """Return the layers around owners, grouped by the owners inside them, the outermost of each group first."""
    below: dict[str, set[str]] = {}
    for owner in owners:
        path = owner
        while path := path.rpartition(".")[0]:
            below.setdefault(path, set()).add(owner)
    found: dict[frozenset[str], list[str]] = {}
    for path in layers:
        if path in below and path not in {*owners}:
            found.setdefault(frozenset(below[path]), []).append(path)
    return found


def is_leaf(path: str, layers: Layers) -> bool:
    """Return whether a layer contains no other layers."""
    return not any(other.startswith(f"{path}.") for other in layers) if path else len(layers) == 1


def _holds(layer: Any) -> bool:
    return any(one is not None for one in (*vars(layer)["_parameters"].values(), *vars(layer)["_buffers"].values()))


def _type(layer: Any) -> str:
    name = type(layer).__name__.lower()
    return SAME_CLASS.get(name, name)
