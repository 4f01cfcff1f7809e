"""The families that are installed, found by their entry points, and which of them is meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

from convert.errors import UnknownVariant, UsageProblem
from convert.family import Family
from convert.identity import NamedVariant

GROUP = "mixer_convert.families"


@cache
def installed() -> tuple[Family, ...]:
    """Return the families, sorted by the names of their entry points.

    Raises:
        UsageProblem: There are none.
    """
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP)}
    if not found:
        raise UsageProblem("mixer-convert is not installed, so no models are known to it. Run: pip install -e .")
    return tuple(found[name].load() for name in sorted(found))


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


def nearest(keys: Collection[str]) -> Family:
    """Return the family that takes the most of the names, without what stands before all of them; else the first."""
    families = installed()
    return families[0] if len(families) == 1 else max(families, key=lambda family: _known(family, keys))


def holds_weights(keys: Collection[str]) -> bool:
    """Return whether there are names of a family among the keys, behind a prefix or not."""
    return any(family.naming.holds_weights(keys) for family in installed())


def prefixes_of_several(keys: Collection[str]) -> Sequence[str]:
    """Return what stands before the names of each of several models in one mapping; nothing where there is one."""
    return nearest(keys).naming.prefixes_of_several(keys)


def _known(family: Family, keys: Collection[str]) -> int:
    prefix = family.naming.common_prefix(keys)
    return family.naming.known([key.removeprefix(prefix) for key in keys])
