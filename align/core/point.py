"""Where two models are compared: named points, each a value that both sides show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from convert.arrays import Shape

Item = int | str | tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapped:
    """Where a model shows a value.

    module: its path; "" is the model itself. where: the module's output, or one of its inputs. call: which call of the
    module in one forward, from 0. item: which item of a tuple or dict that it outputs, or the path to it if they are
    nested, None if the output is the tensor itself; which of the inputs, None for the first.
    """

    module: str
    where: Literal["input", "output"] = "output"
    call: int = 0
    item: Item = None

    def __str__(self) -> str:
        """Return how a sentence names it."""
        said = f"the {self.where} of {self.module or 'the model'}"
        said += f", call {self.call}" if self.call else ""
        return f"{said}, item {'.'.join(map(str, steps))}" if (steps := steps_to(self.item)) else said


def steps_to(item: Item) -> tuple[int | str, ...]:
    """Return the path to an item of an output, one step after another."""
    return item if isinstance(item, tuple) else () if item is None else (item,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One comparison point.

    reference, candidate: where each side shows it. shape: that of its value, if known beforehand; else the reference's.
    follows: whether the point before it is compared too, so that a single operation introduces the difference.
    optional: whether the candidate may compute it without calling this module, and then does not show it.
    """

    name: str
    reference: Tapped
    candidate: Tapped
    shape: Shape | None = None
    follows: bool = True
    optional: bool = False

    @property
    def behind_a_gap(self) -> Point:
        """This point after one that is not compared: several layers then introduce the difference."""
        return replace(self, follows=False)
