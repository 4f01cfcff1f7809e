"""What a measured accuracy says about a published one, and what it cannot say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reports.data.cifar10 import SIZE, TEST_IMAGES, Origin
from reports.data.preprocess import Preprocessing
from reports.score.accuracy import Accuracy, Interval
from reports.score.published import PublishedFigure, published_figures

if TYPE_CHECKING:
    from reports.score.records import Precision

Verdict = Literal["consistent with", "above", "below", "not comparable"]
PASSED: tuple[Verdict, ...] = ("consistent with", "above")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """A published figure beside the measured one. interval is Wilson's, 95 %, in percent."""

    verdict: Verdict
    measured: float
    interval: Interval
    published: float | None
    figure: str | None
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the command exits 0."""
        return self.verdict in PASSED

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        low, high = self.interval
        measured = f"{self.measured:.2f} % measured (95 % interval {low:.2f} to {high:.2f})"
        if self.verdict == "not comparable":
            return f"not comparable: {'; '.join(self.reasons)}. {measured}."
        relation = {"consistent with": "lies in", "above": "lies below", "below": "lies above"}[self.verdict]
        published = f"the published {self.published:.2f} % ({self.figure})"
        return f"{self.verdict} {published}: {measured}; the published figure {relation} the interval."


def judge(
    accuracy: Accuracy,
    figure: PublishedFigure | None,
    *,
    upstream: str | None,
    origin: Origin,
    preprocessing: Preprocessing,
    accept_preprocessing: bool = False,
    precision: Precision = "float32",
) -> AuditFinding:
    """Return the verdict on a measured accuracy.

    Args:
        accuracy: What was measured.
        figure: The published row to compare it with, if there is one.
        upstream: The variant whose weights were fine-tuned, if it is known.
        origin: Where the images came from.
        preprocessing: What was done to the images.
        accept_preprocessing: Compare with the row even if the preprocessing is not the row's.
        precision: The precision in which the logits were computed.
    """
    reasons = [
        *_weights_reasons(figure, upstream),
        *([] if origin.canonical else [f"other archive ({origin.name} does not have the canonical archive's hash)"]),
        *([] if origin.split == "test" else [f"other images (the {origin.split} split)"]),
        *([] if accuracy.total == TEST_IMAGES else [f"other count ({accuracy.total:,} of {TEST_IMAGES:,} images)"]),
    ]
    if figure and not accept_preprocessing and not preprocessing.same_as(figure.preprocessing, SIZE):
        reasons.append(f"other preprocessing ({preprocessing.said}; the row: {figure.preprocessing.said})")
    if precision != "float32":
        reasons.append(f"other precision ({precision}; the gates prove the port in float32 and float64)")
    return AuditFinding(
        verdict="not comparable" if reasons or figure is None else _place(figure.percent, accuracy.wilson),
        measured=accuracy.percent,
        interval=accuracy.wilson,
        published=figure.percent if figure else None,
        figure=figure.id if figure else None,
        reasons=tuple(reasons),
    )


def limits_of(figure: PublishedFigure | None) -> str:
    """Return what a figure over 10,000 images can and cannot tell, in words for a reader of the report."""
    percents = {row.id: row.percent for row in published_figures()}
    text = (
        f"An accuracy over {TEST_IMAGES:,} images has a 95 % interval about 0.7 percentage points wide near 97 %: the "
        f"published {percents['google_b16_in1k']:.2f} and {percents['google_b16_in21k']:.2f} are not distinguishable "
        "by it. It tells how often the model is right, not which weights these are: identity comes from fingerprints."
    )
    if figure and figure.counted != figure.of:
        text += f" The published figure itself is over {figure.counted:,} of {figure.of:,} images."
    return text


def _weights_reasons(figure: PublishedFigure | None, upstream: str | None) -> list[str]:
    if upstream is None:
        return ["unknown weights (no --variant, and no manifest that names the upstream)"]
    if figure is None:
        return [f"no published figure (for {upstream})"]
    if figure.upstream != upstream:
        return [f"other weights ({figure.id} is about {figure.upstream}, these come from {upstream})"]
    return []


def _place(published: float, interval: Interval) -> Verdict:
    low, high = interval
    if low <= published <= high:
        return "consistent with"
    return "above" if published < low else "below"
