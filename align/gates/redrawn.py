"""Both models with other seeded weights, compared by what they return for one image, in float64.

A model may hold the expected weights and compute with others: with a copy of them, without a bias that is 0, with two
equal ones exchanged. With the case's own weights each of these gives the right result.
"""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from align.core.bounds import ROUNDOFF, Tolerance
from align.core.case import Case, Model
from align.core.compare import LayerDiff, compare, largest
from align.core.inputs import changed, in_precision
from align.core.lockstep import ForwardFailed
from align.core.result import Check, Divergence, Gate, Section
from align.core.weights import as_float32
from align.figures.layer_rows import said
from align.figures.sections import OTHER_WEIGHTS, good_sentence
from align.gates.forward import Models, saves_memory
from align.gates.output import headline_in
from align.probes.heap import give_back
from align.rounding.magnitudes import MOVED, moved
from convert.arrays import Array, StateDict
from convert.rules import KeyRule

NOT_RUN = Section(gate=Gate(name="redrawn", passed=None, sentence="not run"))

SHARE = 1e-11
"""Allowed share of what the other weights change in the result; 224 right ports differed by 1.5e-13 of it at most."""

ROUNDINGS = 2.0**13
"""How many roundings of each number are allowed where weights magnify them: as many as in the greatest sums."""

NEAR = 4.0
"""If a difference this many times as large would not pass, what rounding explains is measured and allowed too."""

SEED = 0xD1CE

BRIGHT = 256.0
"""What the image is multiplied by, to expose a model that takes such values for bytes and scales them."""


class Made(Mapping[str, Array]):
    """Weights that are each made on demand, so that a large model's are never in memory all at once."""

    def __init__(self, names: Collection[str], make: Callable[[str], Array]) -> None:
        """Hold the names, and a function that makes the weight of one."""
        self._names, self._make = names, make

    def __getitem__(self, key: str) -> Array:
        if key not in self._names:
            raise KeyError(key)
        return self._make(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def redrawn(weights: StateDict, names: Collection[str]) -> Made:
    """Return the weights with those of these names drawn anew, in float32.

    Each is scaled by 1/2 to 4, with one factor per index along its last axis, so that values reach ranges that the
    case's do not; one that is 0 throughout is drawn from 1/64 to 1/16. No sign changes, as a variance's must not.
    """
    return Made(weights, lambda key: _drawn(key, weights[key]) if key in names else weights[key])


def section(models: Models, headline: Array, rounding: Tolerance) -> Section:
    """Return the gate; the models are in float64, and hold other weights afterwards.

    Args:
        models: The models, which are given other weights.
        headline: What the candidate showed at the headline with the case's own weights.
        rounding: How far values may differ at the headline.
    """
    case, trial = models.case, _Trial(models, headline[:1], rounding)
    rules = [*case.rules]
    try:
        found = trial.compared(rules)
        if found.passed:
            return _section(case, case.headline, found, "")
        culprits = rules[bisect.bisect_left(range(len(rules)), x=True, key=trial.at_fault) :]
    except ForwardFailed as failed:
        return _section(case, case.headline, None, f"with other weights: {failed}")
    if not culprits:
        once = f"with other weights in both, {case.headline} differ by {said(found)}, but not in a second forward"
        return _section(case, case.headline, found, once)
    culprit = culprits[0]
    bad = f"{culprit.target}: what {case.sides.candidate} returns does not go with it: other weights in both models"
    return _section(case, case.place(culprit.target), found, f"{bad}, and {case.headline} differ by {said(found)}")


class _Trial:
    """A comparison of what both sides return for the first image when some of their parameters are replaced."""

    def __init__(self, models: Models, headline: Array, rounding: Tolerance) -> None:
        self._case, self._models = models.case, models
        self._headline, self._rounding = headline, rounding
        self._values: dict[str, Array] = {}
        self._one_by_one = bool(models.case.accepted) or saves_memory(models.case)
        self._point = next(point for point in self._case.points if point.name == self._case.headline)
        self._image = changed(self._case.inputs[:1], lambda one: np.abs(one) * np.float32(BRIGHT))

    def at_fault(self, last: int) -> bool:
        """Return whether the sides differ once the parameters up to and including this one are replaced."""
        return not self.compared([*self._case.rules][: last + 1]).passed

    def compared(self, others: Sequence[KeyRule]) -> LayerDiff:
        """Return how far the candidate is from the truth when these parameters are replaced.

        Raises:
            ForwardFailed: A model raises.
        """
        case, lanes = self._case, self._models.lanes
        self._values.clear()
        weights = redrawn(case.reference.state_dict, frozenset(rule.source for rule in others))
        true = lanes.reference.submit(self._true, weights, self._image)
        rules = {rule.target: rule for rule in case.rules}
        other = Made(rules, lambda key: rules[key].transform.apply(weights[rules[key].source]))
        if self._one_by_one:
            true.result()  # its values are needed, or its weights have to be freed before others are made
            give_back()
        found = lanes.candidate.submit(self._candidates, other)
        truth, returned = true.result(), found.result()
        allowed = max(SHARE * largest(truth - self._headline), self._rounding.bound(largest(truth)))
        first = compare(case.headline, truth, returned, Tolerance(atol=allowed, rtol=0.0), largest(truth))
        if NEAR * first.max_abs_diff <= allowed:
            return first
        explained = Tolerance(atol=allowed + self._bends(weights, truth), rtol=0.0)
        return compare(case.headline, truth, returned, explained, largest(truth))

    def _bends(self, weights: Made, truth: Array) -> float:
        """Return what rounding explains where these weights magnify it, from slightly moved weights and image."""
        by_a_little = Made(weights, lambda key: _moved(weights[key]))
        distance = largest(self._true(by_a_little, changed(self._image, moved)) - truth)
        return ROUNDINGS * ROUNDOFF["float64"] / MOVED * distance

    def _true(self, weights: Made, image: Array) -> Array:
        """Return the reference's headline with these weights; if it cannot take any, the witness's."""
        case, model = self._case, self._models.reference
        if case.witness is None or any(case.reference.probe.layers(model)):
            return self._returned(case.reference, model, weights, "reference", image)
        return next(value for name, value in case.witness(dict(weights), image) if name == case.headline)

    def _candidates(self, weights: Made) -> Array:
        return self._returned(self._case.candidate, self._models.candidate, weights, "candidate", self._image)

    def _returned(
        self, side: Model, model: Any, weights: Made, name: Literal["reference", "candidate"], image: Array
    ) -> Array:
        """Return the headline; accepted points take the reference's values, so that nothing after them inherits it."""
        side.probe.load(model, weights)
        inputs, tapped = in_precision(image, "float64"), getattr(self._point, name)
        if not self._case.accepted:
            return np.asarray(headline_in(side.probe.forward(model, inputs), tapped))
        points = {one.name: getattr(one, name) for one in self._case.points if one.name in self._case.accepted}
        with side.probe.tapped(model, points) as run:
            return np.asarray(headline_in(run(inputs, self._keep if name == "reference" else self._put), tapped))

    def _keep(self, name: str, value: Array) -> None:
        self._values[name] = value

    def _put(self, name: str, _: Array) -> Array:
        return self._values[name]


def _drawn(name: str, held: Array) -> Array:
    if held.dtype.kind in "iub" or held.size == 0:
        return held
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    if not held.any():
        return rng.uniform(1 / 64, 1 / 16, held.shape).astype(np.float32)
    return np.asarray(as_float32(held) * rng.uniform(1 / 2, 4, held.shape[-1:]).astype(np.float32))


def _moved(held: Array) -> Array:
    return held if held.dtype.kind in "iub" else moved(as_float32(held))


def _section(case: Case, layer: str, found: LayerDiff | None, wrong: str) -> Section:
    """Return the gate; `wrong` says what is wrong, or is empty."""
    checks: tuple[Check, ...] = ()
    if found is not None:
        subject, (figure, bound) = f"{case.headline} {OTHER_WEIGHTS}", (found.max_abs_diff, found.bound)
        check = Check(subject=subject, layer=layer, figure=figure, bound=bound, detail=wrong, passed=not wrong)
        checks = (check,)
    gate = Gate(name="redrawn", passed=not wrong, sentence=wrong or good_sentence("redrawn", checks, case.sides))
    divergence = Divergence(layer=layer, sentence=f"{layer}: {wrong}") if wrong else None
    return Section(gate=gate, checks=checks, divergence=divergence)
