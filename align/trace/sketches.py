"""Sketches of one side's forward: what is kept of each point, and where it is not as expected."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np

from align.core.bounds import Precision
from align.core.case import Case
from align.core.lockstep import Side, Walk, WrongPoint, check_form
from align.core.point import Point
from align.core.result import Finding
from align.core.sketch import Sketch, sketch
from align.trace.golden import logits_kept
from convert.arrays import Array

Instead = Callable[[Point, Array], Array | None]
"""Function that returns what a forward goes on with in place of a point's value; None keeps the value."""


class Sketches:
    """One side's run in one precision: a sketch of each point, the logits, and what was not as expected."""

    def __init__(self, case: Case, side: str, precision: Precision) -> None:
        self._case, self._side, self._precision = case, side, precision
        self.by_name: dict[str, Sketch] = {}
        self.logits = np.empty(0)

    def run(self, shown: Walk, instead: Instead = lambda *_: None) -> list[Finding]:
        """Sketch each point as it is shown; return the first finding, if a point is not as expected."""
        with closing(Side(self._side, shown)) as side:
            try:
                for point in self._case.points:
                    value = side.at(point.name)
                    shape = value.shape if point.shape is None else point.shape
                    check_form(self._side, point, value, shape, self._precision)
                    if value.size == 0:
                        raise WrongPoint(point.name, f"{self._side} shows {point.name} with no element, {shape}")
                    self._keep(point.name, value)
                    if (new := instead(point, value)) is not None:
                        side.replace(new)
                side.end(self._case.headline)
            except WrongPoint as wrong:
                return [wrong.finding]
        return []

    def not_finite(self) -> list[Finding]:
        """Return a finding for each point that holds a NaN or an infinity, in forward order."""
        return [
            Finding(layer=name, sentence=f"{self._side} is not finite at {name}")
            for name, kept in self.by_name.items()
            if not kept.finite
        ]

    def _keep(self, name: str, value: Array) -> None:
        self.by_name[name] = sketch(name, value)
        if name == self._case.headline:
            self.logits = logits_kept(value).astype(np.float64)
