"""Where two models are compared: named points, each a value that either side shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from convert.arrays import Shape

Item = int | str | tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapped:
    """Where a model shows a value.

    module: its path; "" is the model itself. where: what the module puts out, or one of its inputs. call: which call of
    it in one forward, from 0. item: which one of a tuple or dict that is put out, or the way to it where they are
    nested, None where that is the tensor itself; which of the inputs, None for the first.
    """

    module: str
    where: Literal["input", "output"] = "output"
    call: int = 0
    item: Item = None

    def __str__(self) -> str:
        """Return it as a sentence names it."""
        said = f"the {self.where} of {self.module or 'the model'}"
        said += f", call {self.call}" if self.call else ""
        return f"{said}, item {'.'.join(map(str, steps))}" if (steps := steps_to(self.item)) else said


def steps_to(item: Item) -> tuple[int | str, ...]:
    """Return the way to an item of what is put out, one step after the other."""
    return item if isinstance(item, tuple) else () if item is None else (item,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One comparison point.

    reference, candidate: where either side shows it. shape: of its value, where that is known beforehand; else it is
    the reference's. follows: the point before it is compared too, so that what is introduced is of one operation.
    optional: the candidate may compute it by other means than a call of this module, and then does not show it.
    """

    name: str
    reference: Tapped
    candidate: Tapped
    shape: Shape | None = None
    follows: bool = True
    optional: bool = False

    @property
    def behind_a_gap(self) -> Point:
        """The point where one before it is not compared: what is introduced is then of several layers."""
        return replace(self, follows=False)
