"""What a user gets: the output of `model(x)` with nothing hooked, and each image's result among other images.

The figures are measured through hooks, on one batch. A model can detect either and behave differently.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from align.core.bounds import explained_by
from align.core.case import Case, Settings
from align.core.compare import largest
from align.core.inputs import apart
from align.core.judgement import nan_last
from align.core.lockstep import ForwardFailed
from align.core.point import Tapped
from align.core.result import Check, Divergence, Gate, GateName, Section
from align.figures.sections import ANOTHER_BATCH, RETURNED, good_sentence
from align.gates.forward import Models
from align.probes.taps import item_of
from convert.arrays import Array, Shape, describe_difference, same_bits

LEAST_LARGER = 3
"""Minimum number of images in the larger batch: two would not expose a model that computes the first two only."""

MOST_LARGER = 67
"""Maximum number: a prime above 64, so that no equal parts into which a model splits its batch fill it."""

AFFORDED = 2**26
"""Weights and values of all points, times images, that the larger batch may take: 67 for a small model, 3 for B/16."""

COMPANY = 0xBA7C4
"""A word that keeps the seed of the accompanying images apart from that of the case's own."""


def not_run() -> tuple[Section, Section]:
    """Return both gates as not run, for when there is nothing to compare with."""
    output, batch = (Gate(name=name, passed=None, sentence="not run") for name in _NAMES)
    return Section(gate=output), Section(gate=batch)


def output_section(models: Models, headline: Array) -> Section:
    """Return the gate of the unhooked output, which has to be the compared headline point bit for bit.

    Args:
        models: The models, in float32.
        headline: What the candidate showed at the headline on the case's inputs.
    """
    case = models.case
    found, wrong = _checked(models, case.inputs, headline.shape)
    if found is not None and not same_bits(headline, found):
        wrong = describe_difference(headline, found)
    said = f"what {case.sides.candidate} returns when nothing is hooked"
    check = Check(
        subject=f"{case.sides.candidate} {RETURNED}",
        layer=case.headline,
        figure=float(bool(wrong)),
        bound=0.0,
        detail=wrong,
        passed=not wrong,
    )
    return _section(case, "output", check, f"{said} is not {case.headline} as compared: {wrong}")


def batch_section(models: Models, headline: Array, rounding: float, settings: Settings) -> Section:
    """Return the gate of the batch: each image has to give the same result alone, among others and in another order.

    Args:
        models: The models, in float32.
        headline: What the candidate showed at the headline on the case's inputs.
        rounding: The reference's rounding at the headline in float32, which determines how far results may differ.
        settings: The settings that the case's inputs were drawn with.
    """
    case = models.case
    bound = explained_by(rounding, "float32").bound(largest(headline))
    worst, detail = 0.0, ""
    for name, inputs, images in _companies(case, settings):
        found, wrong = _checked(models, inputs, (len(inputs), *headline.shape[1:]))
        differences = [
            (nan_last(float(np.abs(np.subtract(headline[image], found[place], dtype=np.float64)).max())), image)
            for place, image in images.items()
            if found is not None
        ]
        difference, image = max(differences, default=(math.inf, next(iter(images.values()))))
        if difference > worst:
            worst, detail = difference, f"image {image} {name}{f': {wrong}' if wrong else ''}"
    check = Check(
        subject=f"{case.headline} {ANOTHER_BATCH}",
        layer=case.headline,
        figure=worst,
        bound=bound,
        detail=detail,
        passed=worst <= bound,
    )
    over = f"the result of an image depends on its batch: {detail}: it differs by {worst:.2e}, exceeds {bound:.1e}"
    return _section(case, "batch", check, over)


_NAMES: tuple[GateName, GateName] = ("output", "batch")


def _section(case: Case, name: GateName, check: Check, bad: str) -> Section:
    sentence = good_sentence(name, (check,), case.sides) if check.passed else bad
    gate = Gate(name=name, passed=check.passed, sentence=sentence)
    divergence = None if check.passed else Divergence(layer=check.layer, sentence=f"{check.layer}: {bad}")
    return Section(gate=gate, checks=(check,), divergence=divergence)


def _companies(case: Case, settings: Settings) -> list[tuple[str, Array, dict[int, int]]]:
    """Return other batches: the words for each, its images, and which of the case's images is at which place."""
    inputs = case.inputs
    count = max(1, _larger(case) - len(inputs))
    others = case.draw(count, [settings.input_seed, COMPANY])
    last = len(inputs) - 1

    def behind(company: Array) -> tuple[Array, dict[int, int]]:
        places = {len(company) + i: last - i for i in range(len(inputs))}
        return np.concatenate([company, inputs[::-1]]), places

    larger = [("among others", *behind(others))]
    if count > 1:
        larger.insert(0, ("with one other", *behind(others[:1])))
    if len(inputs) == 1:
        return larger
    alone = ("alone", inputs[last:], {0: last})
    return [alone, ("in another order", *behind(others[:0])), *larger]


def _larger(case: Case) -> int:
    """Return how many images the larger batch has."""
    weights = sum(array.size for array in case.reference.state_dict.values())
    values = sum(math.prod(point.shape[1:]) for point in case.points if point.shape is not None)
    return min(MOST_LARGER, max(LEAST_LARGER, AFFORDED // max(1, weights + values)))


def headline_in(output: Any, tapped: Tapped) -> Any:
    """Return the headline from a model's output: the tapped item, or the whole output if a layer shows the headline.

    Raises:
        ForwardFailed: There is no such item.
    """
    return output if tapped.module else item_of(output, tapped)


def _checked(models: Models, inputs: Array, shape: Shape) -> tuple[Array | None, str]:
    """Return the headline that the candidate returns; None and why, in words, if it is not a tensor of this shape."""
    case = models.case
    tapped = next(point.candidate for point in case.points if point.name == case.headline)
    try:
        alone = len(inputs) == 1  # then gradients are recorded, as in a user's call; for more it takes much memory
        output, given = case.candidate.probe.returned(models.candidate, inputs, gradients=alone)
        found = headline_in(output, tapped)
    except ForwardFailed as failed:
        return None, str(failed)
    for name, before in apart(inputs).items():
        if not same_bits(before, after := apart(given)[name]):
            which = f"its input {name}" if name else "its input"
            return None, f"it overwrites {which}: {describe_difference(before, after)}"
    if not isinstance(found, np.ndarray):
        return None, f"it is {type(found).__name__}, not a tensor"
    if (found.shape, found.dtype.name) != (shape, "float32"):
        return None, f"it is {found.dtype.name} {found.shape}, not float32 {shape}"
    return found, ""
