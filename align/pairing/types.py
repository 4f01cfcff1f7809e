"""Which kind a module is, and whether two modules are of the same kind. Pure: classes are known by their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from align.pairing.module_type import Held, ModuleType, matcher
from align.pairing.type_table import TYPES
from convert.arrays import Shape
from convert.rules import Transform

__all__ = ["TYPES", "Held", "ModuleType", "candidate_fits", "is_of_no_kind", "raw_transform", "reference_type"]


def reference_type(module: Any) -> ModuleType | None:
    """Return the kind of one of torch's modules; None if it is of none, or does not hold what its kind does."""
    held = _axes_held(module, "_non_persistent_buffers_set")
    found = _class(module, "torch.nn.", [name for kind in TYPES for name in kind.reference])
    for kind in TYPES:
        wanted = [(one.reference, one) for one in kind.weights]
        mapped = {name: axes for name, axes in held.items() if name not in kind.dropped}
        if found in kind.reference and _fits(mapped, wanted):
            return kind
    return None


def candidate_fits(kind: ModuleType, module: Any) -> bool:
    """Return whether one of Paddle's layers is of a kind: of one of its classes, and holding just what that holds."""
    if _class(module, "paddle.nn.", kind.candidate) is None:
        return False
    held = _axes_held(module, "_non_persistable_buffer_names_set")
    own = [(one.candidate, one) for one in kind.weights if "." not in one.candidate]
    has_other_names = any(one.also for one in kind.weights)
    return _fits(held, own) and not (has_other_names and _has_others_below(module))


def is_of_no_kind(layer: Any) -> bool:
    """Return whether one of the candidate's layers is custom: it derives from no class of a known kind."""
    return _class(layer, "paddle.nn.", [name for kind in TYPES for name in kind.candidate]) is None


def raw_transform(reference: Shape, candidate: Shape) -> Transform | None:
    """Return the transform of a parameter of a module of no known kind; None if the shapes do not tell.

    They tell if no two axes longer than 1 have the same size: another order of them would be another shape. Axes of
    size 1 do not matter, so (D) may be (1, 1, D).

    Example:
        >>> raw_transform((1, 197, 192), (1, 197, 192)).value, raw_transform((4, 4), (4, 4))
        ('identity', None)
    """
    long = [size for size in reference if size > 1]
    if len(set(long)) < len(long):
        return None
    if reference == candidate:
        return Transform.IDENTITY
    flat = len(reference) == 1 and Transform.UNSQUEEZE.shape(reference) == candidate
    if flat:
        return Transform.UNSQUEEZE
    return Transform.SQUEEZE if len(candidate) == 1 and reference == (1, 1, *candidate) else None


def _class(module: Any, package: str, known: Collection[str]) -> str | None:
    """Return the name of the nearest known class of a framework that a module is of or derives from."""
    above = (of.__name__ for of in type(module).__mro__ if of.__module__.startswith(package))
    return next((name for name in above if name in known), None)


def _fits(held: Mapping[str, int], wanted: Collection[tuple[str, Held]]) -> bool:
    """Return whether a module holds every required entry, numbered ones at least once, and nothing else."""

    def is_of(name: str, pattern: str, one: Held) -> bool:
        return matcher(pattern).fullmatch(name) is not None and one.axes in (None, held[name])

    required = [(pattern, one) for pattern, one in wanted if not one.optional]
    has = all(any(is_of(name, *one) for name in held) for one in required)
    return has and all(any(is_of(name, *one) for one in wanted) for name in held)


def _axes_held(module: Any, unsaved: str) -> dict[str, int]:
    """Return how many axes each of a module's own parameters and saved buffers has."""
    inside = vars(module)
    held = {**inside["_parameters"], **inside["_buffers"]}
    return {name: one.ndim for name, one in held.items() if one is not None and name not in inside.get(unsaved, ())}


def _has_others_below(layer: Any) -> bool:
    """Return whether one of Paddle's layers has parameters below it other than its own under other names."""
    own = {id(tensor) for tensor in vars(layer)["_parameters"].values()}
    return any(id(tensor) not in own for tensor in layer.parameters())
