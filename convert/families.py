"""Find the installed families by their entry points, and tell which of them is meant."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import cast

from convert.errors import UnknownVariant, UsageProblem
from convert.family import Family
from convert.identity import NamedVariant
from convert.naming import Naming

GROUP = "mixer_convert.families"


@cache
def installed() -> tuple[Family, ...]:
    """Return the families, sorted by the names of their entry points.

    Raises:
        UsageProblem: There are none, or one cannot be loaded.
    """
    from importlib.metadata import EntryPoint, distributions

    def load(point: EntryPoint) -> Family:
        try:
            return cast("Family", point.load())
        except (ImportError, AttributeError) as error:
            raise UsageProblem(
                f"{point.value}: this family of models cannot be loaded ({error}). Mend or remove it."
            ) from error

    # not entry_points(): of two copies of a distribution it reads one, perhaps an .egg-info that a build left behind
    found = {point.name: point for one in distributions() for point in one.entry_points if point.group == GROUP}
    if not found:
        raise UsageProblem("mixer-convert is not installed, so no models are known to it. Run: pip install -e .")
    return tuple(load(found[name]) for name in sorted(found))


def with_variant(name: str) -> tuple[Family, NamedVariant]:
    """Return the family that has a variant with this name, and that variant.

    Raises:
        UnknownVariant: No family has it; the nearest names are offered.
        AmbiguousVariant: A family has several that it could mean.
    """
    unknown = []
    for family in installed():
        try:
            return family, family.get_variant(name)
        except UnknownVariant as error:
            unknown.append(error)
    raise UnknownVariant(name, [one for e in unknown for one in e.close], [one for e in unknown for one in e.known])


def naming() -> Naming:
    """Return the naming of all families together, in which a layout is a pair: a family and one of its layouts."""
    return _naming(installed())


def nearest(keys: Collection[str]) -> Family:
    """Return the family whose names match the most keys, without their common prefix; the first of them in a tie."""
    names = naming()
    prefix = names.common_prefix(keys)
    family: Family = names.nearest([key.removeprefix(prefix) for key in keys], names.layouts)[0]
    return family


def knowing(keys: Collection[str]) -> Family | None:
    """Return the family that knows more than half of a model's names; None if none does."""
    names = naming()
    prefix = names.common_prefix(keys)
    return nearest(keys) if 2 * names.known([key.removeprefix(prefix) for key in keys]) > len(keys) else None


@cache
def _naming(families: tuple[Family, ...]) -> Naming:
    layouts = {(one, layout): rules for one in families for layout, rules in one.naming.layouts.items()}
    return Naming(layouts, [mark for one in families for mark in one.naming.marks])
