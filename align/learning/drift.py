"""How a training step is judged: the worst tensor in float64, and how far float32 drifts from float64 on each side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from align.core.bounds import FLOAT32_ULP
from align.core.result import Check
from align.learning.gradients import Distance
from convert.arrays import Array

BOUND = 1e-9
"""Bound on differences of float64 losses, gradients, learning rates and parameters at every step, over their scale."""

RATIO = 10
"""How many times as far from float64 as the reference's float32 parameters Paddle's may lie: one order of magnitude.

Right ports measured up to 1.8 times, over 20 steps of five small models with three seeds each and of a trained one.
Losses and gradients of single float32 steps, whose effect the parameters contain, are shown but not judged: where the
reference's happen to lie very near float64, Paddle's measured 4.8 times as far.
"""

LEAST_ULP = 8
"""The least distance that the reference is assumed to have, in ulp of the size: a few steps can be exact by luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """Where in a training a figure comes from: the run and its step (group), and what was measured (subject)."""

    group: tuple[str, ...]
    subject: str

    def check(self, kind: str, figure: float, bound: float | None, detail: str, layer: str = "") -> Check:
        """Return a check that passes if the figure is finite and within its bound, if it has one."""
        passed = math.isfinite(figure) and (bound is None or figure <= bound)
        return Check(
            group=self.group,
            subject=self.subject,
            kind=kind,
            layer=layer,
            figure=figure,
            bound=bound,
            detail=detail,
            passed=passed,
        )

    def drift(self, reference: float, candidate: float, size: float, *, judged: bool) -> Check:
        """Return the check of each side's float32 distance from float64, both divided by the size of the values."""
        scale = size or 1.0
        bound = RATIO * max(reference / scale, LEAST_ULP * FLOAT32_ULP) if judged else None
        return self.check(
            "float32", candidate / scale, bound, f"from float64; torch is {reference / scale:.2g} from it"
        )


class Drift:
    """The worst tensor of a step in float64; `place` returns the point that a parameter acts in."""

    def __init__(self, at: At, place: Callable[[str], str]) -> None:
        self._at, self._place, self._name = at, place, ""
        self._found = Distance(relative=-1.0, index=(), reference_value=math.nan, candidate_value=math.nan)
        self._absent = ""

    def add(self, name: str, found: Distance) -> None:
        """Record a tensor's distance; the first that is NaN stays the worst."""
        if not math.isnan(self._found.relative) and not found.relative <= self._found.relative:
            self._name, self._found = name, found

    def absent(self, name: str) -> None:
        """Record a tensor that one side does not have."""
        self._absent = self._absent or name

    def check(self) -> Check:
        """Return the check of the worst tensor; an absent one is worse than any other."""
        if self._absent or not self._name:
            detail = f"{self._absent or 'every tensor'} is absent on one side"
            layer = self._place(self._absent) if self._absent else ""
            return self._at.check("float64", math.nan, BOUND, detail, layer)
        found = self._found
        detail = (
            f"{self._name} at {list(found.index)} torch {found.reference_value:.9g}, Paddle {found.candidate_value:.9g}"
        )
        return self._at.check("float64", found.relative, BOUND, detail, self._place(self._name))


class Sums:
    """The Euclidean distance of each side's float32 tensors from float64, over all tensors of a step.

    The worst element would not do: where a gradient is nearly 0, Adam's step on either side has the sign of rounding
    and the full length of the learning rate. Over all elements such steps average out.
    """

    def __init__(self) -> None:
        self._size = self._reference = self._candidate = 0.0

    def add(self, truth: Array, reference: Array, candidate: Array) -> None:
        """Add a tensor: the reference's in float64 and in float32, and Paddle's in float32."""
        self._size += _squares(truth)
        self._reference += _squares(np.subtract(reference, truth, dtype=np.float64))
        self._candidate += _squares(np.subtract(candidate, truth, dtype=np.float64))

    def check(self, at: At, *, judged: bool) -> Check:
        """Return the check that Paddle's float32 run drifts at most RATIO times as far as the reference's."""
        reference, candidate, size = (math.sqrt(s) for s in (self._reference, self._candidate, self._size))
        return at.drift(reference, candidate, size, judged=judged)


def _squares(array: Array) -> float:
    flat = array.astype(np.float64, copy=False).ravel(order="K")
    return float(flat @ flat)
