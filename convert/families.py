"""The families that are installed, found by their entry points, and which of them is meant."""

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

    # not entry_points(), which of two copies of a distribution reads one: an .egg-info that a build left in the folder
    found = {point.name: point for one in distributions() for point in one.entry_points if point.group == GROUP}
    if not found:
        raise UsageProblem("mixer-convert is not installed, so no models are known to it. Run: pip install -e .")
    return tuple(load(found[name]) for name in sorted(found))


def with_variant(name: str) -> tuple[Family, NamedVariant]:
    """Return the variant of a name, and whose it is.

    Raises:
        UnknownVariant: No family has it; the nearest names are offered.
        AmbiguousVariant: One has several such.
    """
    unknown = []
    for family in installed():
        try:
            return family, family.get_variant(name)
        except UnknownVariant as error:
            unknown.append(error)
    raise UnknownVariant(name, [one for e in unknown for one in e.close], [one for e in unknown for one in e.known])


def naming() -> Naming:
    """Return the names of all families; a layout of theirs is a family and its own layout."""
    return _naming(installed())


def nearest(keys: Collection[str]) -> Family:
    """Return the family that takes the most of the names, without what stands before all of them; else the first."""
    names = naming()
    prefix = names.common_prefix(keys)
    family: Family = names.nearest([key.removeprefix(prefix) for key in keys], names.layouts)[0]
    return family


def knowing(keys: Collection[str]) -> Family | None:
    """Return the family that knows most of a model's names; None where none does."""
    names = naming()
    prefix = names.common_prefix(keys)
    return nearest(keys) if 2 * names.known([key.removeprefix(prefix) for key in keys]) > len(keys) else None


@cache
def _naming(families: tuple[Family, ...]) -> Naming:
    layouts = {(one, layout): rules for one in families for layout, rules in one.naming.layouts.items()}
    return Naming(layouts, [mark for one in families for mark in one.naming.marks])
