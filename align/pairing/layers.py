"""Which layers of two models correspond, so that each pair can be called alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from align.core.case import Case
from align.core.point import Point, Tapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A layer of the reference and its counterpart in the candidate, by path, and the point where they act."""

    reference: str
    candidate: str
    place: str


def parts_of(case: Case, reference: Collection[str], candidate: Collection[str]) -> list[Part]:
    """Return the pairs of layers without layers below them and, for points without such a pair, the ones around it.

    Args:
        case: Its rules and points say what corresponds.
        reference: The paths of all the reference's layers; if empty, the layers that the case names are used.
        candidate: The paths of all the candidate's layers.
    """
    pairs = _pairs(case, by_path=bool(reference))
    known = reference or pairs
    found = {r: c for r, c in pairs.items() if _is_leaf(r, known) and _is_leaf(c, candidate)}
    for point in case.points:
        path = point.reference.module
        if path and point.reference == Tapped(module=path) and path not in found and _is_leaf(path, known):
            found.update(_around(path, pairs, known, candidate))
    order = {point.name: number for number, point in enumerate(case.points)}
    places = _places(case)
    parts = [Part(reference=r, candidate=c, place=places.get(r, r)) for r, c in found.items()]
    return sorted(parts, key=lambda part: order.get(part.place, len(order)))


def _pairs(case: Case, *, by_path: bool) -> dict[str, str]:
    """Return the candidate's layer for each layer of the reference that has exactly one.

    Left out are layers whose point is left out, and layers that share a counterpart which holds tensors.

    Args:
        case: Its rules and points say what corresponds.
        by_path: Whether the reference's layers are known by their paths; else rules and points name them.
    """
    found: dict[str, set[str]] = {}
    for rule in case.rules:
        found.setdefault(_parent(rule.source), set()).add(_parent(rule.target))
    with_parameters = {path for paths in found.values() for path in paths}
    for point in case.points:
        path = point.candidate.module
        if by_path and _is_output(point):
            found.setdefault(point.reference.module, set()).add(path)
        elif not by_path and point.candidate == Tapped(module=path) and path not in with_parameters:
            found.setdefault(point.name, set()).add(path)
    pairs = {r: next(iter(c)) for r, c in found.items() if r and len(c) == 1 and "" not in c}
    owned = {_parent(rule.target) for rule in case.rules}
    times = Counter(pairs.values())
    return {r: c for r, c in pairs.items() if r not in case.left_out and (times[c] == 1 or c not in owned)}


def _around(
    path: str, pairs: Mapping[str, str], reference: Collection[str], candidate: Collection[str]
) -> dict[str, str]:
    """Return the nearest pair around a layer that has no counterpart; everything below the pair has to correspond."""
    for outer in _above(path):
        inside = {c for r, c in pairs.items() if _is_below(r, outer)}
        common = _common([_parent(c) for c in inside])
        others = [r for r, c in pairs.items() if common and _is_below(c, common) and not _is_below(r, outer)]
        if common and not others and outer in reference and common in candidate:
            return {outer: common}
    return {}


def _places(case: Case) -> dict[str, str]:
    at_parameters = {_parent(rule.source): case.reference_point(rule.source) for rule in case.rules}
    return at_parameters | {point.reference.module: point.name for point in case.points if _is_output(point)}


def _is_output(point: Point) -> bool:
    return all(tapped == Tapped(module=tapped.module) for tapped in (point.reference, point.candidate))


def _is_leaf(path: str, paths: Collection[str]) -> bool:
    return path in paths and not any(_is_below(other, path) for other in paths)


def _is_below(path: str, outer: str) -> bool:
    return path.startswith(f"{outer}.")


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _above(path: str) -> Iterator[str]:
    while path := _parent(path):
        yield path


def _common(paths: Collection[str]) -> str:
    """Return the longest path that equals or contains each of these."""
    first, *others = (path.split(".") for path in paths or [""])
    length = min((sum(1 for _ in _same(first, other)) for other in others), default=len(first))
    return ".".join(first[:length])


def _same(one: list[str], other: list[str]) -> Iterator[str]:
    for mine, its in zip(one, other, strict=False):
        if mine != its:
            return
        yield mine
