"""What a planted fault is: where it sits, and what it changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from align.core.case import Case, Model
from convert.arrays import Array

Kind = Literal["weights", "structure", "numerics", "values", "state", "output", "dependence", "harness"]
"""What is wrong: the weights, the function, its arithmetic, its values far from the usual ones, what it remembers, what
a user gets beside what hooks see, where it takes its weights from, or the comparison itself."""

Weights = dict[str, Array]
ChangeWeights = Callable[[Weights], None]
ChangeModel = Callable[[Any], None]


def keep(_: Any) -> None:
    """Change nothing."""


def _same(case: Case) -> Case:
    return case


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One fault in one case.

    layer is the comparison point that has to be blamed: the first that the fault reaches; "" where there is none. What
    is changed: source, the weights of both sides, by the reference's names; weights, the candidate's, by its own;
    model, the Paddle model built from them; reference, the reference; case, the comparison itself; around, whatever
    surrounds the whole alignment.
    """

    layer: str
    source: ChangeWeights = keep
    weights: ChangeWeights = keep
    model: ChangeModel = keep
    reference: ChangeModel = keep
    case: Callable[[Case], Case] = _same
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    def into(self, case: Case) -> Case:
        """Return the case with its models changed; weights have to be changed before."""
        reference, candidate = _changed(case.reference, self.reference), _changed(case.candidate, self.model)
        return self.case(replace(case, reference=reference, candidate=candidate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault by name. `plant` returns it for a case of a right port, or None where that cannot have it."""

    name: str
    kind: Kind
    plant: Callable[[Case], Planted | None]


def _changed(model: Model, change: ChangeModel) -> Model:
    """Return a model that is changed after it was built."""

    def build() -> Any:
        built = model.build()
        change(built)
        return built

    return replace(model, build=build)
