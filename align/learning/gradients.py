"""How a gradient is judged: the pairing by the rule table, the order of the backward pass, the scale and the bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from align.core.bounds import FLOAT32_ULP, FLOAT64
from align.core.case import Case
from align.core.compare import largest
from align.core.result import Check
from convert.arrays import Array
from convert.rules import KeyRule

Read = Callable[[str], Array | None]
"""Returns a model's tensor by parameter name; None if there is none."""

FLOAT64_GRADIENT = 1e-10
"""Bound on a float64 gradient's difference over its scale. Right ports measured 1e-14 (b16), 5e-15 (small models)."""

FLOOR = 1e-4
"""The least scale of a gradient, as a share of the greatest gradient of the whole model.

Some gradients are zero except for rounding: the last bias of token mixing adds one value to all channels of a token,
which every later LayerNorm subtracts again. Relative to its own size, such a gradient of 1e-17 is noise. Real ones
measured at least 3e-4 of the model's greatest, the rounding at most 4e-17, which relative to this floor is 4e-13.
"""

FLOAT32_GRADIENT_ULP = 256
"""How far a float32 gradient may always lie from the float64 one, in ulp of its scale.

Right ports measured up to 65 ulp (b16, the final norm's bias, which Paddle sums up term by term); half precision or
TF32 would be at 4,096.
"""

FLOAT32_RATIO = 10
"""How many times as far as the reference's own it may lie instead, if that is more. Right ports measured up to 7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far two tensors lie apart: the greatest difference over a scale, and where it is."""

    relative: float
    index: tuple[int, ...]
    reference_value: float
    candidate_value: float

    def passed(self, bound: float) -> bool:
        """Return whether the distance is finite and within the bound."""
        return self.relative <= bound and math.isfinite(self.relative)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of both sides, identified by its rule, and the point that it acts in.

    A gradient is transformed by its parameter's rule: a Linear's is transposed because the rule says so.
    """

    rule: KeyRule
    layer: str


def parameters_of(case: Case) -> tuple[Parameter, ...]:
    """Return the parameters in forward order."""
    return tuple(Parameter(rule=rule, layer=case.reference_point(rule.source)) for rule in case.rules)


def in_backward_order(case: Case) -> tuple[Parameter, ...]:
    """Return the parameters from the head to the stem, as the backward pass reaches the layers they act in.

    The first wrong gradient in this order is the one nearest to the fault.
    """
    depth = {point.name: i for i, point in enumerate(case.points)}
    return tuple(sorted(parameters_of(case), key=lambda one: -depth.get(one.layer, -1)))


def distance(reference: Array, candidate: Array, scale: float) -> Distance:
    """Return how far the candidate lies from the reference, both of one shape and of any floating dtype.

    Args:
        reference: The reference's tensor, in the candidate's layout.
        candidate: The candidate's tensor.
        scale: What to divide the greatest difference by; 0 counts as 1.
    """
    if reference.shape != candidate.shape or reference.size == 0:
        return Distance(relative=math.nan, index=(), reference_value=math.nan, candidate_value=math.nan)
    with np.errstate(invalid="ignore"):
        difference = np.subtract(reference, candidate, dtype=np.float64)
    np.abs(difference, out=difference)
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return Distance(
        relative=float(difference[worst]) / (scale or 1.0),
        index=tuple(int(i) for i in worst),
        reference_value=float(reference[worst]),
        candidate_value=float(candidate[worst]),
    )


def floor_of(gradients: Iterable[Array | None]) -> float:
    """Return the least scale that a gradient of this model is judged by; not finite if one of them is not."""
    sizes = [largest(gradient) for gradient in gradients if gradient is not None]
    return FLOOR * float(np.max(sizes)) if sizes else 0.0


def gradient_check(row: Parameter, reference: Array | None, candidate: Array | None, floor: float) -> Check:
    """Return the check of one parameter's float64 gradients: `max|Δ| / max(max|reference|, floor) ≤ 1e-10`."""
    absent = _absent(row, "float64", reference, candidate)
    if absent or reference is None or candidate is None:
        return absent or _check(row, "float64", math.nan, FLOAT64_GRADIENT, "absent")
    found = distance(row.rule.transform.apply(reference), candidate, max(largest(reference), floor))
    return _check(row, "float64", found.relative, FLOAT64_GRADIENT, _where(found))


def float32_gradient_check(
    row: Parameter, truth: Array | None, reference: Array | None, candidate: Array | None, floor: float
) -> Check:
    """Return the check of one parameter's float32 gradients: how far Paddle's is from float64, in ulp of its scale.

    Args:
        row: The parameter.
        truth: The reference's float64 gradient.
        reference: The reference's float32 gradient, whose own distance shows how exact float32 can be here.
        candidate: Paddle's float32 gradient.
        floor: The least scale of a gradient.
    """
    absent = _absent(row, "float32", reference if truth is not None else None, candidate)
    if absent or truth is None or reference is None or candidate is None:
        return absent or _check(row, "float32", math.nan, None, "absent")
    ulp = FLOAT32_ULP * max(largest(truth), floor)
    own = distance(truth, reference, ulp)
    found = distance(row.rule.transform.apply(truth), candidate, ulp)
    bound = float(np.maximum(FLOAT32_GRADIENT_ULP, FLOAT32_RATIO * own.relative))  # a NaN stays one, and fails
    detail = f"ulp from the float64 gradient; the reference's own distance is {own.relative:.3g}"
    return _check(row, "float32", found.relative, bound, detail)


def loss_check(
    reference: float, candidate: float, bound: float, *, kind: str, layer: str, group: tuple[str, ...] = ()
) -> Check:
    """Return the check of two losses: |Δ| / max(1, |reference|) within the bound."""
    figure = abs(reference - candidate) / max(1.0, abs(reference))
    return Check(
        group=group,
        subject="loss",
        kind=kind,
        layer=layer,
        figure=figure,
        bound=bound,
        detail=f"{reference:.9g} against {candidate:.9g}",
        passed=figure <= bound and math.isfinite(figure),
    )


LOSS_FLOAT64 = FLOAT64.rtol
"""Bound on float64 losses, that of the forward: the loss is one more layer."""

LOSS_FLOAT32 = 64 * FLOAT32_ULP
"""Bound on float32 losses: twice the 32 ulp that a layer may add, because each side adds its own."""


def first_failed(checks: Sequence[Check]) -> Check | None:
    """Return the first check that failed, in the order given."""
    return next((check for check in checks if not check.passed), None)


def _absent(row: Parameter, precision: str, reference: Array | None, candidate: Array | None) -> Check | None:
    names = [name for name, gradient in (("torch", reference), ("Paddle", candidate)) if gradient is None]
    if not names:
        return None
    return _check(row, precision, math.nan, FLOAT64_GRADIENT, f"{' and '.join(names)} has no gradient here")


def _check(row: Parameter, precision: str, figure: float, bound: float | None, detail: str) -> Check:
    passed = bound is not None and figure <= bound and math.isfinite(figure)
    return Check(
        subject=row.rule.source,
        kind=precision,
        layer=row.layer,
        figure=figure,
        bound=bound,
        detail=detail,
        passed=passed,
    )


def _where(found: Distance) -> str:
    return f"at {list(found.index)} torch {found.reference_value:.9g}, Paddle {found.candidate_value:.9g}"
