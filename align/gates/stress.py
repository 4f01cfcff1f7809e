"""Each pair of corresponding layers alone, given values that no batch of images has: of any magnitude, zero, constant.

An activation that is capped, or a norm that is wrong where nothing varies, is right on every image that is drawn.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from align.core.case import Case
from align.core.lockstep import ForwardFailed
from align.core.result import Check, Divergence, Gate, Section
from align.figures.sections import ALONE, CALLED, NOT_CALLED, good_sentence
from align.gates.forward import Models
from align.pairing.layers import Part, parts_of
from align.probes.taps import shapes_given
from align.rounding.magnitudes import explained, moved, smaller, stress
from convert.arrays import Array, Shape

NOT_RUN = Section(gate=Gate(name="stress", passed=None, sentence="not run"))
LEFT_OUT = Section(gate=Gate(name="stress", passed=None, sentence="left out, by --no-stress"))

LISTED = 3
"""Maximum number of layers that a sentence names."""

ROWS_OF = (2, 3)
"""How many axes a tensor has whose last one is taken for the width of rows that a layer treats one by one."""

SEVERAL = 2.0
"""How many times what rounding every epsilon moves is allowed, for blocks in which some norms round and some do not."""

Layer = Callable[[Array], Array]


class NotCalled(Exception):
    """A layer cannot be called alone; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """Where a layer's result is farthest from the truth: in units of what rounding explains, and in words."""

    part: Part
    times: float
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a layer was given, its result, and how far that may differ from another side's, per row or example."""

    by_row: bool
    values: Array
    allowed: Array
    result: Array

    def greatest(self, moved: Array) -> Array:
        """Return the greatest finite value of each row or example, in a shape that broadcasts."""
        axes = -1 if self.by_row else tuple(range(1, moved.ndim))
        return np.asarray(np.nan_to_num(moved, nan=0.0, posinf=0.0).max(axis=axes, keepdims=True))

    def farthest(self, part: Part, side: str, truth: Array, name: str) -> Worst:
        """Return where the result is farthest from the truth; what is not finite has to be the same on both sides."""
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.abs(truth - self.result)
            times = np.where(distance == 0, 0.0, distance / self.allowed)
            if not np.isfinite(times).all():
                alike = (truth == self.result) | (np.isnan(truth) & np.isnan(self.result))
                times = np.where(alike, 0.0, np.nan_to_num(times, nan=math.inf, posinf=math.inf))
        at = np.unravel_index(int(np.argmax(times)), times.shape)
        one = self.values[at[:-1]] if self.by_row else self.values[at[0]]
        allowed = float(np.broadcast_to(self.allowed, times.shape)[at])
        said = (
            f"{part.candidate} alone, given values up to {float(np.abs(one).max()):.0e}: difference {distance[at]:.2e} "
            f"exceeds {allowed:.1e}, at {[int(i) for i in at]} {name} {truth[at]:.9g}, {side} {self.result[at]:.9g}"
        )
        return Worst(part=part, times=float(times[at]), said=said)


class Stress:
    """The gate, in two steps: a forward shows which shapes layers are given; then each layer is called alone."""

    def __init__(self, models: Models) -> None:
        self._case = case = models.case
        self._reference = dict(case.reference.probe.layers(models.reference))
        self._candidate = dict(case.candidate.probe.layers(models.candidate))
        self._given: tuple[Mapping[str, Shape | None], ...] = ()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Record the shapes that the layers are given while the body runs."""
        with shapes_given(self._candidate) as candidate, shapes_given(self._reference) as reference:
            self._given = (candidate, reference) if self._reference else (candidate,)
            yield

    def section(self) -> Section:
        """Return the gate; the models are in float64."""
        found: list[Worst] = []
        passed_over: dict[str, list[str]] = {}
        called = self._given[0].keys()  # not a layer that exists but whose work a function does
        for part in parts_of(self._case, self._reference.keys(), called):
            if part.place in self._case.accepted:
                passed_over.setdefault("accepted", []).append(part.candidate)
                continue
            try:
                found.append(self._worst(part))
            except NotCalled as why:
                passed_over.setdefault(str(why), []).append(part.candidate)
        return _section(self._case, found, passed_over)

    def _worst(self, part: Part) -> Worst:
        """Return where a layer is farthest from the reference's or the witness's.

        Raises:
            NotCalled: It cannot be called alone.
        """
        truths, shape = self._truths(part), self._shape(part)
        if not truths:
            raise NotCalled("there is nothing to compare them with")
        if (of_part := smaller(shape)) != shape:
            with contextlib.suppress(NotCalled, ValueError):  # one of them does not accept part of an image
                return self._worst_given(part, truths, of_part)
        return self._worst_given(part, truths, shape)

    def _worst_given(self, part: Part, truths: Mapping[str, Layer], shape: Shape) -> Worst:
        name = self._case.sides.candidate
        layer = partial(_call, self._case.candidate.probe.forward, self._candidate[part.candidate])
        (truth_name, truth), *others = truths.items()
        trial, true = _trial(shape, truth, layer)
        trial = replace(trial, allowed=trial.allowed + SEVERAL * trial.greatest(self._moved(part, trial.values, true)))
        found = [trial.farthest(part, name, true, truth_name)]
        for other_name, other in others:
            with contextlib.suppress(NotCalled):
                found.append(trial.farthest(part, name, other(trial.values), other_name))
        return max(found, key=lambda one: one.times)

    def _truths(self, part: Part) -> dict[str, Layer]:
        """Return the reference's layer and the witness's, as far as there are any, by the names of their sides."""
        case, found = self._case, dict[str, Layer]()
        if (layer := self._reference.get(part.reference)) is not None:
            found[case.sides.reference] = partial(_call, case.reference.probe.forward, layer)
        if case.witness_layer is not None:
            compute = partial(case.witness_layer, case.reference.state_dict)
            found["the NumPy witness"] = partial(_call, compute, part.reference)
        return found

    def _moved(self, part: Part, values: Array, rounded: Array) -> Array:
        """Return how far a layer's result moves if no norm's epsilon is rounded to float32; both results are right."""
        case, layer = self._case, self._reference.get(part.reference)
        if layer is None:
            witness = partial(case.witness_layer, case.reference.state_dict) if case.witness_layer else None
            other = witness(part.reference, values, written_out=True) if witness else None
            return np.zeros(rounded.shape) if other is None else np.abs(rounded - other)
        with case.reference.probe.written_out(layer) as has_norms:
            if not has_norms:
                return np.zeros(rounded.shape)
            return np.asarray(np.abs(rounded - _call(case.reference.probe.forward, layer, values)))

    def _shape(self, part: Part) -> Shape:
        shapes = [given.get(path) for given, path in zip(self._given, (part.candidate, part.reference), strict=False)]
        if shapes[0] is None or shapes[-1] is None:
            raise NotCalled("not given one tensor")
        if shapes[0] != shapes[-1]:
            raise NotCalled("given another shape than the reference's")
        return shapes[0]


def _trial(shape: Shape, truth: Layer, layer: Layer) -> tuple[Trial, Array]:
    """Return what a layer makes of the stress values, row by row if both accept rows, and the true result.

    Raises:
        NotCalled: One of them accepts neither rows nor examples.
    """
    for by_row in (True, False) if len(shape) in ROWS_OF else (False,):
        values, axis = stress(shape, by_row=by_row), -2 if by_row else 0
        try:
            with_moved, result = truth(np.concatenate([values, moved(values)], axis=axis)), layer(values)
            true, of_moved = np.split(with_moved, 2, axis=axis)
        except (NotCalled, ValueError):
            continue
        if true.shape == result.shape and (not by_row or true.shape[:-1] == values.shape[:-1]):
            allowed = explained(values, true, of_moved, by_row=by_row)
            return Trial(by_row=by_row, values=values, allowed=allowed, result=result), true
    raise NotCalled("they do not take them alone")


def _call(forward: Callable[[Any, Array], Any], layer: Any, values: Array) -> Array:
    try:
        result = forward(layer, values)
    except ForwardFailed as failed:
        raise NotCalled(str(failed)) from failed
    if not isinstance(result, np.ndarray) or result.ndim == 0:
        raise NotCalled("they put out no tensor")
    return result


def _section(case: Case, found: Sequence[Worst], passed_over: Mapping[str, Sequence[str]]) -> Section:
    """Return the gate: the worst layer, then how many were called alone, and which were not, and why."""
    left = [_counted(f"{NOT_CALLED} ({why})", len(paths), _listed(paths)) for why, paths in passed_over.items()]
    if not found:
        said = "; ".join(["no layer was called alone", *(f"{check.subject}: {check.detail}" for check in left)])
        return Section(gate=Gate(name="stress", passed=None, sentence=said))
    over = [one for one in found if not one.times <= 1]
    worst = max(found, key=lambda one: one.times)
    check = Check(
        subject=ALONE,
        layer=(over or [worst])[0].part.place,
        figure=worst.times,
        bound=1.0,
        detail=over[0].said if over else "",
        passed=not over,
    )
    checks = (check, _counted(CALLED, len(found), ""), *left)
    if over:
        more = f" (and {len(over) - 1} more)" if len(over) > 1 else ""
        divergence = Divergence(layer=check.layer, sentence=f"{check.layer}: {check.detail}")
        return Section(
            gate=Gate(name="stress", passed=False, sentence=check.detail + more), checks=checks, divergence=divergence
        )
    sentence = good_sentence("stress", checks, case.sides)
    return Section(gate=Gate(name="stress", passed=True, sentence=sentence), checks=checks)


def _counted(subject: str, count: int, detail: str) -> Check:
    return Check(subject=subject, layer="", figure=float(count), bound=None, detail=detail, passed=True)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
