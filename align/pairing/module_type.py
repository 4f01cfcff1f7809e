"""A kind of module that holds weights: its classes in either framework, and the layout of its weights in each. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from convert.rules import Transform

NUMBER = "{i}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A parameter or buffer of a module, by its name in each framework; {i} stands for the same number in both.

    The candidate's name may lead to a layer below the module. optional: Whether a module may be made without it. axes:
    How many it has; None: it depends. also: Other names that the candidate has for the very same tensor.
    """

    reference: str
    candidate: str
    transform: Transform = Transform.IDENTITY
    optional: bool = False
    axes: int | None = None
    also: tuple[str, ...] = ()

    def at(self, number: str) -> Held:
        """Return the same with a number in place of {i}."""
        names = [name.replace(NUMBER, number) for name in (self.reference, self.candidate, *self.also)]
        return replace(self, reference=names[0], candidate=names[1], also=tuple(names[2:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleType:
    """One kind of module: its classes in either framework, what they hold, and how their layouts correspond.

    reference, candidate: Names of torch's and of Paddle's classes; a subclass counts as what it derives from. dropped:
    The reference's buffers without a counterpart in the candidate, and why. scales: Whether the output is linear in all
    parameters together, so that dividing them divides it. why_not: Why no table can pair such a module; "" where this
    one does. source: Where either framework documents the layout of its weights.
    """

    name: str
    reference: tuple[str, ...]
    candidate: tuple[str, ...]
    weights: tuple[Held, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    scales: bool = False
    why_not: str = ""
    source: tuple[str, ...]

    def held(self, name: str) -> Held | None:
        """Return the entry for a parameter or buffer of the reference; None if this kind has none of that name.

        Example:
            >>> LSTM.held("weight_ih_l1").also[0]
            '1.cell.weight_ih'
        """
        for held in self.weights:
            if match := matcher(held.reference).fullmatch(name):
                return held.at(match.group("i")) if NUMBER in held.reference else held
        return None


@lru_cache(maxsize=256)
def matcher(name: str) -> re.Pattern[str]:
    """Return a pattern that matches a name with a number in place of {i}."""
    return re.compile(re.escape(name).replace(re.escape(NUMBER), r"(?P<i>\d+)"))
