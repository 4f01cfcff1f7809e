"""Other seeded weights in both models, compared by what they return for one image, in float64.

A model may hold the weights expected and compute with others: with a copy of them, without a bias that is 0, with two
that are equal exchanged. With the weights at hand each of these is right.
"""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from align.core.bounds import Tolerance
from align.core.case import Case
from align.core.compare import LayerDiff, compare, largest
from align.core.layer_rows import said
from align.core.lockstep import ForwardFailed
from align.core.point import Tapped
from align.core.probe import Probe
from align.core.result import Check, Divergence, Gate, Section
from align.gates.forward import Models
from align.gates.output import headline_in
from convert.arrays import Array, StateDict
from convert.rules import KeyRule

NOT_RUN = Section(gate=Gate(name="redrawn", passed=None, sentence="not run"))

SHARE = 1e-8
"""Of what the other weights change in the result; rounding is far below, and a bias of a hundred about 1e-3 of it."""

PERIOD = 8191
"""As many numbers are drawn for a parameter, over and over; a prime, so that rows differ."""

SEED = 0xD1CE


class Redrawn(Mapping[str, Array]):
    """Weights in float64, some of them others, each made as it is read, so that no second copy is kept.

    Each element is scaled by 3/4 to 5/4 and moved by up to an eighth of their root mean square, zeros by up to 1/16.
    Those of a parameter that is positive throughout, as a variance has to be, are not moved.
    """

    def __init__(self, weights: StateDict, names: Collection[str]) -> None:
        self._weights, self._names = weights, names

    def __getitem__(self, name: str) -> Array:
        held = self._weights[name]
        if held.dtype.kind in "iub":
            return held
        wide = held.astype(np.float64)
        return _redrawn(name, wide) if name in self._names else wide

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def section(models: Models, headline: Array, rounding: Tolerance) -> Section:
    """Return the gate; the models are in float64, and hold other weights in the end.

    Args:
        models: To be given other weights.
        headline: What the candidate showed there with the case's own weights.
        rounding: How far values may lie apart there.
    """
    case, trial = models.case, _Trial(models, headline[:1], rounding)
    rules = [*case.rules]
    try:
        found = trial.compared(rules)
        culprit = None if found.passed else rules[bisect.bisect_left(range(len(rules)), x=True, key=trial.at_fault)]
    except ForwardFailed as failed:
        return _section(case, case.headline, None, f"with other weights: {failed}")
    if culprit is None:
        return _section(case, case.headline, found, "")
    bad = f"{culprit.target}: what {case.sides.candidate} returns does not go with it: other weights in both models"
    return _section(case, case.place(culprit.target), found, f"{bad}, and {case.headline} differ by {said(found)}")


class _Trial:
    """What both sides return for the first image when the first so many parameters are others."""

    def __init__(self, models: Models, headline: Array, rounding: Tolerance) -> None:
        self._case, self._models = models.case, models
        self._headline, self._rounding = headline, rounding
        self._point = next(point for point in self._case.points if point.name == self._case.headline)
        self._image = self._case.inputs[:1]

    def at_fault(self, last: int) -> bool:
        """Return whether the sides differ once the parameters up to this one are others."""
        return not self.compared([*self._case.rules][: last + 1]).passed

    def compared(self, changed: Sequence[KeyRule]) -> LayerDiff:
        """Return how far the candidate is from the truth when these parameters are others.

        Raises:
            ForwardFailed: A model raises.
        """
        weights = Redrawn(self._case.reference.state_dict, frozenset(rule.source for rule in changed))
        truth = self._true(weights)
        allowed = max(SHARE * largest(truth - self._headline), self._rounding.bound(largest(truth)))
        name, bound = self._case.headline, Tolerance(atol=allowed, rtol=0.0)
        return compare(name, truth, self._found(weights), bound, largest(truth))

    def _true(self, weights: Redrawn) -> Array:
        """Return what the witness makes of these weights; where there is none, the reference."""
        case = self._case
        if case.witness is not None:
            return next(value for name, value in case.witness(weights, self._image) if name == case.headline)
        probe = case.reference.probe
        probe.load(self._models.reference, weights)
        return self._returned(probe, self._models.reference, self._point.reference)

    def _found(self, weights: Redrawn) -> Array:
        probe, model = self._case.candidate.probe, self._models.candidate
        for rule in self._case.rules:
            probe.load(model, {rule.target: rule.transform.apply(weights[rule.source])})
        return self._returned(probe, model, self._point.candidate)

    def _returned(self, probe: Probe, model: Any, tapped: Tapped) -> Array:
        return np.asarray(headline_in(probe.forward(model, self._image.astype(np.float64)), tapped))


def _redrawn(name: str, held: Array) -> Array:
    scale, shift = (
        np.resize(drawn, held.shape)
        for drawn in np.random.default_rng([SEED, zlib.crc32(name.encode())]).uniform(-1, 1, (2, PERIOD))
    )
    if (held > 0).all():
        return np.asarray(held * (1 + scale / 4))
    size = float(np.sqrt(np.square(held).mean())) or 0.5
    return np.asarray(held * (1 + scale / 4) + shift * size / 8)


def _section(case: Case, layer: str, found: LayerDiff | None, wrong: str) -> Section:
    """Return the gate; wrong says what is, or nothing."""
    checks: tuple[Check, ...] = ()
    if found is not None:
        subject, (figure, bound) = f"{case.headline} with other weights in both", (found.max_abs_diff, found.bound)
        check = Check(subject=subject, layer=layer, figure=figure, bound=bound, detail=wrong, passed=not wrong)
        checks = (check,)
    good = f"with other weights in both, {case.headline} differ by {said(found)}" if found is not None else ""
    gate = Gate(name="redrawn", passed=not wrong, sentence=wrong or good)
    divergence = Divergence(layer=layer, sentence=f"{layer}: {wrong}") if wrong else None
    return Section(gate=gate, checks=checks, divergence=divergence)
