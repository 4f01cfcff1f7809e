"""What a planted fault is: where it sits, and what it changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from align.core.case import Case, Model
from convert.arrays import Array

Kind = Literal["weights", "structure", "numerics", "values", "state", "output", "dependence", "harness"]
"""What is wrong: the weights, the function, its arithmetic, its results for unusual values, what it remembers, what a
user gets as opposed to what hooks see, where it takes its weights from, or the comparison itself."""

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

    layer is the comparison point that has to be blamed: the first that the fault reaches; "" if there is none. The
    other fields change: source, the weights of both sides, by the reference's names; weights, the candidate's, by its
    own names; model, the Paddle model built from them; reference, the reference; case, the comparison itself; around,
    the context in which the whole alignment runs.
    """

    layer: str
    source: ChangeWeights = keep
    weights: ChangeWeights = keep
    model: ChangeModel = keep
    reference: ChangeModel = keep
    case: Callable[[Case], Case] = _same
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    def into(self, case: Case) -> Case:
        """Return the case with its models changed; the weights have to be changed beforehand."""
        reference, candidate = _changed(case.reference, self.reference), _changed(case.candidate, self.model)
        return self.case(replace(case, reference=reference, candidate=candidate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault by name. `plant` returns it for the case of a right port, or None if that case cannot have it."""

    name: str
    kind: Kind
    plant: Callable[[Case], Planted | None]


def _changed(model: Model, change: ChangeModel) -> Model:
    """Return the model with a change applied after it is built."""

    def build() -> Any:
        built = model.build()
        change(built)
        return built

    return replace(model, build=build)
