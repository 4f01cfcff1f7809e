"""Cases of which a side's model is changed after it was built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from align.core.case import Case, Model

Change = Callable[[Any], object]


def with_candidate(case: Case, change: Change) -> Case:
    return replace(case, candidate=_altered(case.candidate, change))


def with_reference(case: Case, change: Change) -> Case:
    return replace(case, reference=_altered(case.reference, change))


def altering(build: Callable[..., Any], change: Change) -> Callable[..., Any]:
    """Return a function that builds as this one does, and changes what it built."""

    def altered(*arguments: Any) -> Any:
        model = build(*arguments)
        change(model)
        return model

    return altered


def _altered(model: Model, change: Change) -> Model:
    return replace(model, build=altering(model.build, change))
