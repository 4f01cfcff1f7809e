"""What follows from per-image predictions alone: counts, intervals, loss, confusion, disagreements. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from convert.arrays import Array
from convert.errors import BadInput

CONFIDENCE = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """One entry per image, in the archive's order.

    labels, predictions (n,) int64; margins (n,) float64, the highest logit less the second; losses (n,) float64, the
    cross-entropy. reference_predictions (n,) int64 and logit_diffs (n,) float64, the largest absolute difference of an
    image's logits, are None unless a second model saw the same images.
    """

    labels: Array
    predictions: Array
    margins: Array
    losses: Array
    reference_predictions: Array | None = None
    logit_diffs: Array | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Counts and what follows from them; intervals are 95 %, in percent; confusion[label][prediction] counts images."""

    correct: int
    total: int
    percent: float
    wilson: Interval
    clopper_pearson: Interval
    loss: float
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedAccuracy(Accuracy):
    """An accuracy with the names of the classes."""

    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same images. only_here, only_there: images that only the first or only the second gets right.

    mcnemar_p is the two-sided p-value of McNemar's exact test, 1.0 if there are no such images.
    """

    disagreements: int
    only_here: int
    only_there: int
    mcnemar_p: float
    max_logit_diff: float


def predictions_of(logits: Array, labels: Array, reference_logits: Array | None = None) -> Predictions:
    """Return the per-image figures of a batch of logits.

    Args:
        logits: (n, classes), finite, at least two classes.
        labels: (n,), each below classes.
        reference_logits: Logits of the model to compare with on the same images, (n, classes).

    Raises:
        BadInput: A logit is NaN or infinite.
    """
    values = _checked(logits, "the model")
    second, first = np.partition(values, -2, axis=1)[:, -2:].T
    shifted = values - first[:, None]
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    reference = None if reference_logits is None else _checked(reference_logits, "the model compared with")
    return Predictions(
        labels=labels.astype(np.int64),
        predictions=values.argmax(axis=1),
        margins=first - second,
        losses=log_sum - np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0],
        reference_predictions=None if reference is None else reference.argmax(axis=1),
        logit_diffs=None if reference is None else np.abs(values - reference).max(axis=1),
    )


def accuracy_of(predictions: Predictions, classes: int) -> Accuracy:
    """Return the statistics of one model; the intervals are Wilson's and Clopper and Pearson's.

    Raises:
        BadInput: There are no images.
    """
    total = len(predictions)
    if not total:
        raise BadInput("There are no images to count. Pass a split that has some.")
    correct = int((predictions.labels == predictions.predictions).sum())
    test = binomtest(correct, total)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (predictions.labels, predictions.predictions), 1)
    return Accuracy(
        correct=correct,
        total=total,
        percent=100 * correct / total,
        wilson=_in_percent(test.proportion_ci(CONFIDENCE, "wilson")),
        clopper_pearson=_in_percent(test.proportion_ci(CONFIDENCE, "exact")),
        loss=float(predictions.losses.mean()),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def comparison_of(predictions: Predictions) -> Comparison | None:
    """Return how the two models compare, or None where there was only one."""
    reference, diffs = predictions.reference_predictions, predictions.logit_diffs
    if reference is None or diffs is None:
        return None
    right_here, right_there = predictions.predictions == predictions.labels, reference == predictions.labels
    only_here, only_there = int((right_here & ~right_there).sum()), int((right_there & ~right_here).sum())
    alone = only_here + only_there
    return Comparison(
        disagreements=int((predictions.predictions != reference).sum()),
        only_here=only_here,
        only_there=only_there,
        mcnemar_p=float(binomtest(only_here, alone).pvalue) if alone else 1.0,
        max_logit_diff=float(diffs.max()),
    )


def _checked(logits: Array, whose: str) -> Array:
    values = logits.astype(np.float64)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values).all(axis=1)).sum())
        raise BadInput(f"{whose}: {count} of {len(values)} images have a logit that is not finite. Check the weights.")
    return values


def _in_percent(interval: tuple[float, float]) -> Interval:
    low, high = interval
    return 100 * float(low), 100 * float(high)
