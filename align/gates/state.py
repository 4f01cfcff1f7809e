"""Whether the candidate changes with use: its tensors, what its layers keep besides them, and its training mode.

Every other gate looks at a few forwards. A model that counts them can behave differently after the last.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from align.core.bounds import FLOAT64, Precision
from align.core.case import Case
from align.core.compare import largest
from align.core.inputs import in_precision
from align.core.judgement import nan_last
from align.core.lockstep import ForwardFailed
from align.core.point import Tapped
from align.core.result import Check, Divergence, Gate, Section
from align.figures.sections import CHANGED, FURTHER, FURTHER_BITS, KEPT, TRAINING, good_sentence
from align.probes.taps import leaves
from convert.arrays import Array, StateDict, contiguous, describe_difference, same_bits

SMALL = 2**20
"""Elements of all tensors up to which the further forwards take no noticeable time."""

LISTED = 3
"""Maximum number of names in a sentence."""

NOT_RUN = Section(gate=Gate(name="state", passed=None, sentence="not run"))

Layers = Sequence[tuple[str, Any]]


class Holdings:
    """What the candidate holds before its first forward; only what the case does not hold anyway takes memory."""

    def __init__(self, case: Case, model: Any, known: StateDict) -> None:
        """Record what a model holds.

        Args:
            case: The case whose candidate it is.
            model: The model, before its first forward.
            known: Tensors that it holds and that need not be copied.
        """
        self._case, self._image = case, case.inputs[:1]
        self._model, self._probe = model, case.candidate.probe
        self._tensors = {k: known[k] if k in known else value.copy() for k, value in self._probe.tensors(model)}
        self._attributes = self._probe.attributes(model)
        self._is_small = sum(tensor.size for tensor in self._tensors.values()) <= SMALL

    def section(self, precision: Precision) -> Section:
        """Return the gate, to be run after all other forwards; the model is in this precision by then."""
        image = in_precision(self._image, precision)
        changed, new = self._changed()
        kept = [*new, *self._kept()]
        training = [(path, layer) for path, layer in self._probe.layers(self._model) if layer.training]
        checks = [self._of_tensors(changed)]
        if kept:
            place, count = self._place(kept[0].rpartition(".")[0]), len(kept)
            detail = _listed(kept)
            checks.append(Check(subject=KEPT, layer=place, figure=float(count), bound=None, detail=detail, passed=True))
        try:
            if kept or self._is_small:
                checks.append(self._repeats(kept, image))
            if training:
                checks.append(self._evaluated(training, image))
        except ForwardFailed as failed:
            checks.append(_check("further forwards that fail", self._case.headline, 1.0, 0.0, str(failed)))
        return _section(self._case, checks)

    def _changed(self) -> tuple[dict[str, str], list[str]]:
        """Return how tensors differ from before, reading one at a time, and which are new."""
        differ, new, gone = {}, [], dict.fromkeys(self._tensors, "a forward pass takes it away")
        for key, after in self._probe.tensors(self._model):
            gone.pop(key, None)
            if (before := self._tensors.get(key)) is None:
                new.append(key)
            elif not same_bits(widened := _like(before, after), after):
                differ[key] = f"a forward pass changes it: {describe_difference(widened, after)}"
        return {**differ, **gone}, new

    def _kept(self) -> list[str]:
        """Return the names of attributes that differ from before."""
        before, after = self._attributes, self._probe.attributes(self._model)
        return [name for name in {**before, **after} if before.get(name) != after.get(name)]

    def _repeats(self, kept: Sequence[str], image: Array) -> Check:
        """Return the check that further forwards keep giving the same bits."""
        first, detail = self._returned(image), ""
        why = f"{_listed(kept)} changes with use, and " if kept else ""
        for number in range(1, FURTHER + 1):
            if how := _difference(first, self._returned(image)):
                detail = f"{why}further forward {number} of one image differs: {how}"
                break
        layer = self._place(kept[0].rpartition(".")[0] if kept else "")
        return _check(FURTHER_BITS, layer, float(bool(detail)), 0.0, detail)

    def _evaluated(self, training: Layers, image: Array) -> Check:
        """Return the check of how far evaluation mode moves what the model returns."""
        used = self._returned(image)
        with _in_evaluation(training):
            evaluated = self._returned(image)
        moved, bound = math.inf, FLOAT64.bound(max(map(largest, used), default=0.0))
        if [one.shape for one in used] == [one.shape for one in evaluated]:
            moved = max((_distance(*pair) for pair in zip(used, evaluated, strict=True)), default=0.0)
        detail = f"it is in training mode ({_paths(training)}), and eval() moves what it returns by {moved:.2e}"
        return _check(
            TRAINING, self._place(training[0][0]), moved, bound, _paths(training) if moved <= bound else detail
        )

    def _of_tensors(self, changed: Mapping[str, str]) -> Check:
        key, how = next(iter(changed.items()), ("", ""))
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        detail = f"{key}: {how}{more}" if changed else ""
        layer = self._place(key.rpartition(".")[0])
        return _check(CHANGED, layer, float(len(changed)), 0.0, detail)

    def _place(self, path: str) -> str:
        """Return the point that a candidate layer shows, or else its path; the headline for the model itself."""
        shown = (point.name for point in self._case.points if point.candidate == Tapped(module=path))
        return next(shown, path or self._case.headline)

    def _returned(self, image: Array) -> list[Array]:
        returned = self._probe.forward(self._model, image)
        return [one for one in leaves(returned) if isinstance(one, np.ndarray)]


@contextlib.contextmanager
def _in_evaluation(training: Layers) -> Iterator[None]:
    """Run the body with these layers in evaluation mode; a user's own `eval()` could do what cannot be undone."""
    try:
        for _, layer in training:
            layer.training = False
        yield
    finally:
        for _, layer in training:
            layer.training = True


def _like(before: Array, after: Array) -> Array:
    """Return the earlier values, in float64 if the model has been cast to it since, which is exact."""
    widened = (before.dtype.name, after.dtype.name) == ("float32", "float64")
    return contiguous(before).astype(np.float64) if widened else before


def _difference(first: Sequence[Array], again: Sequence[Array]) -> str:
    if len(first) != len(again):
        return f"it returns {len(again)} tensors, not {len(first)}"
    pairs = zip(first, again, strict=True)
    return next((describe_difference(*pair) for pair in pairs if not same_bits(*pair)), "")


def _distance(used: Array, evaluated: Array) -> float:
    return nan_last(largest(np.subtract(used, evaluated, dtype=np.float64)))


def _check(subject: str, layer: str, figure: float, bound: float, detail: str) -> Check:
    return Check(subject=subject, layer=layer, figure=figure, bound=bound, detail=detail, passed=figure <= bound)


def _section(case: Case, checks: Sequence[Check]) -> Section:
    """Return the gate over its checks; the first that fails gives the sentence."""
    failed = next((check for check in checks if not check.passed), None)
    if failed is None:
        sentence = good_sentence("state", checks, case.sides)
        return Section(gate=Gate(name="state", passed=True, sentence=sentence), checks=tuple(checks))
    divergence = Divergence(layer=failed.layer, sentence=failed.detail)
    gate = Gate(name="state", passed=False, sentence=failed.detail)
    return Section(gate=gate, checks=tuple(checks), divergence=divergence)


def _paths(layers: Layers) -> str:
    return _listed([path or "the model" for path, _ in layers])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
