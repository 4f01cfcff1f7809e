"""Whether the port can change a prediction: each image's top-1 margin against the largest logit difference. Pure.

If no logit of an image moves by more than d, its top class loses at most d and any other gains at most d, so a margin
above 2 · d keeps the top class. That holds for whatever moves the logits, not for rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from convert.arrays import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One image on both sides: the reference's top class and its margin over the next one, and Paddle's top class.

    max_abs_diff is the largest difference of any logit of this image. It and the margin are not finite when a logit is
    not. could_change: the certificate does not cover this image.
    """

    name: str
    top1: int
    candidate_top1: int
    margin: float
    max_abs_diff: float
    could_change: bool = True

    @property
    def finite(self) -> bool:
        """Whether every logit was finite on both sides."""
        return math.isfinite(self.margin) and math.isfinite(self.max_abs_diff)

    @property
    def changed(self) -> bool:
        """Whether Paddle predicts another class, or one side is not finite."""
        return not (self.finite and self.top1 == self.candidate_top1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What was found over all images.

    The statement: each image keeps its top class even if every one of its logits moves, in any direction, by as much as
    the largest difference met on any of the images. The images that it does not cover are those that could change; of
    these, some did.
    """

    name: str
    predictions: tuple[Prediction, ...]

    @property
    def max_abs_diff(self) -> float:
        """The largest difference of any logit of any image; not finite if a logit was not."""
        return float(np.max([prediction.max_abs_diff for prediction in self.predictions]))

    @property
    def least_margin(self) -> float:
        """The smallest margin of any image; not finite if a logit was not."""
        return float(np.min([prediction.margin for prediction in self.predictions]))

    @property
    def could_change(self) -> tuple[Prediction, ...]:
        """The images that are not covered; those that changed are among them."""
        return tuple(prediction for prediction in self.predictions if prediction.could_change)

    @property
    def changed(self) -> tuple[Prediction, ...]:
        """The images that Paddle puts into another class, or that have a logit which is not finite."""
        return tuple(prediction for prediction in self.predictions if prediction.changed)

    @property
    def holds(self) -> bool:
        """Whether no prediction can change. No images prove nothing."""
        return bool(self.predictions) and not self.could_change and not self.changed


def certificate_of(name: str, predictions: Sequence[Prediction]) -> Certificate:
    """Return the certificate over all images: which margins exceed twice the largest difference of any of them.

    A tie does not, nor does an image with a logit that is not finite.
    """
    largest = max((prediction.max_abs_diff for prediction in predictions if prediction.finite), default=math.nan)
    judged = (
        replace(prediction, could_change=not (prediction.finite and prediction.margin > 2 * largest))
        for prediction in predictions
    )
    return Certificate(name=name, predictions=tuple(judged))


def predictions_of(names: Iterable[str], reference: Array, candidate: Array) -> list[Prediction]:
    """Return what both sides predict.

    Args:
        names: A name for each image.
        reference: Logits (images, num_classes ≥ 2), float32.
        candidate: Logits of the same shape.

    Differences and margins are taken in float64, where those of float32 logits are exact unless 29 or more powers of
    two lie between the two; of equal logits the first counts as the top class.
    """
    if reference.shape != candidate.shape or reference.ndim != 2 or reference.shape[1] < 2:
        raise ValueError(f"logits {reference.shape} and {candidate.shape}, not twice (images, at least 2 classes)")
    rows = zip(names, reference.astype(np.float64), candidate.astype(np.float64), strict=True)
    return [_prediction(name, one, other) for name, one, other in rows]


def _prediction(name: str, reference: Array, candidate: Array) -> Prediction:
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(reference - candidate).max())
        second, first = np.sort(reference)[-2:]
        margin = float(first - second)
    return Prediction(
        name=name,
        top1=int(np.argmax(reference)),
        candidate_top1=int(np.argmax(candidate)),
        margin=margin if math.isfinite(difference) else math.nan,
        max_abs_diff=difference,
    )


def verdict_line(certificate: Certificate) -> str:
    """Return the one line that a reader of a CI log looks for."""
    count, could, changed = len(certificate.predictions), certificate.could_change, certificate.changed
    start = f"{'certified' if certificate.holds else 'not certified'}: {certificate.name}: "
    figures = (
        f"smallest top-1 margin {certificate.least_margin:.3g}, twice the largest logit difference "
        f"{2 * certificate.max_abs_diff:.3g}"
    )
    if certificate.holds:
        return f"{start}no prediction of {count} images can change: {figures}."
    return f"{start}{len(could)} of {count} predictions could change and {len(changed)} did: {figures}."


def listed(certificate: Certificate) -> Sequence[tuple[str, ...]]:
    """Return a row of text for each image that could change."""
    return [
        (
            prediction.name,
            str(prediction.top1),
            str(prediction.candidate_top1),
            f"{prediction.margin:.3e}",
            f"{prediction.max_abs_diff:.3e}",
            _word(prediction),
        )
        for prediction in certificate.could_change
    ]


HEADERS = ("image", "top-1", "Paddle's", "margin", "max abs diff", "")


def _word(prediction: Prediction) -> str:
    if not prediction.finite:
        return "not finite"
    return "changed" if prediction.changed else "could change"
