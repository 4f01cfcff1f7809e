"""The audit's report, built from what was measured, and built again from a bundle's own files. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

import numpy as np

from align.core.result import AlignmentResult, Verdict
from align.render.text import verdict_line
from reports.data.cifar10 import CLASSES, Origin
from reports.data.preprocess import Preprocessing
from reports.render.conversion import Manifest, StatedConversion
from reports.score.accuracy import Accuracy, Comparison, CountedAccuracy, Predictions, accuracy_of, comparison_of
from reports.score.published import PublishedFigure, published_figures
from reports.score.records import EngineUse, WeightsIdentity
from reports.score.verdict import AuditFinding, judge, limits_of
from reports.score.verdict import Verdict as AuditVerdict

SCHEMA: Final = "mixer-report/audit/2"
UNCERTAIN = 24
"""How many images the report shows: those with the smallest margins."""
Subject = Literal["source", "finetuned"]
SUBJECTS: dict[Subject, str] = {"source": "the upstream's checkpoint", "finetuned": "the fine-tuned weights"}
"""What goes through the alignment's gates, in words, by its name in the bundle's files."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """What was measured and on what; everything else in the report follows from it.

    alignments: the gates' results per subject. conversions: the conversions' manifests per subject. manifest: the one
    beside the fine-tuned file. thumbnails: PNGs in base64 of the images that `most_uncertain` returns, in its order.
    """

    predictions: Predictions
    weights: WeightsIdentity
    source: WeightsIdentity
    manifest: Manifest | None
    conversions: Mapping[Subject, StatedConversion]
    alignments: Mapping[Subject, AlignmentResult]
    figure: PublishedFigure | None
    preprocessing: Preprocessing
    origin: Origin
    engine: EngineUse
    thumbnails: Sequence[str]
    attached: Sequence[str] = ()
    accept_preprocessing: bool = False
    accept_rounding: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentSummary:
    """A report's summary of an alignment; passed: its verdict is good enough to compare accuracies."""

    verdict: Verdict
    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Whether the fine-tuned file has a manifest, and whether it names the upstream's checkpoint (None: no record)."""

    manifest: bool
    names_source: bool | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UncertainImage:
    """An image with a small margin: its index in the archive, its class, the predicted class, and its PNG in base64."""

    index: int
    label: int
    prediction: int
    margin: float
    png: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The result of an audit: verdict, statistics, and the facts that are not in a file of their own."""

    schema: Literal["mixer-report/audit/2"]
    verdict: AuditVerdict
    passed: bool
    sentence: str
    finding: AuditFinding
    limits: str
    accuracy: CountedAccuracy
    timm: Comparison | None
    alignments: Mapping[Subject, AlignmentSummary]
    published: PublishedFigure | None
    preprocessing: Preprocessing
    accept_preprocessing: bool
    accept_rounding: bool
    weights: WeightsIdentity
    source: WeightsIdentity
    lineage: Lineage
    data: Origin
    engine: EngineUse
    uncertain: tuple[UncertainImage, ...]
    attached: tuple[str, ...]


def report_of(facts: Facts) -> AuditReport:
    """Return the report that follows from the facts."""
    accuracy = accuracy_of(facts.predictions, len(CLASSES))
    finding = _with_gates(_finding(facts, accuracy), facts)
    return AuditReport(
        schema=SCHEMA,
        verdict=finding.verdict,
        passed=finding.passed,
        sentence=finding.sentence,
        finding=finding,
        limits=limits_of(facts.figure),
        accuracy=CountedAccuracy(**asdict(accuracy), classes=CLASSES),
        timm=comparison_of(facts.predictions),
        alignments={name: _summary(result, facts) for name, result in facts.alignments.items()},
        published=facts.figure,
        preprocessing=facts.preprocessing,
        accept_preprocessing=facts.accept_preprocessing,
        accept_rounding=facts.accept_rounding,
        weights=facts.weights,
        source=facts.source,
        lineage=_lineage(facts),
        data=facts.origin,
        engine=facts.engine,
        uncertain=uncertain_images(facts.predictions, facts.thumbnails),
        attached=tuple(facts.attached),
    )


def facts_of(
    report: AuditReport,
    predictions: Predictions,
    *,
    conversions: Mapping[Subject, StatedConversion],
    alignments: Mapping[Subject, AlignmentResult],
    manifest: Manifest | None,
) -> Facts:
    """Return the facts that a bundle holds: those of its report, and what its other files say."""
    named = report.published.id if report.published else None
    return Facts(
        predictions=predictions,
        weights=report.weights,
        source=report.source,
        manifest=manifest,
        conversions=conversions,
        alignments=alignments,
        figure=next((figure for figure in published_figures() if figure.id == named), None),
        preprocessing=report.preprocessing,
        origin=report.data,
        engine=report.engine,
        thumbnails=[image.png for image in report.uncertain],
        attached=report.attached,
        accept_preprocessing=report.accept_preprocessing,
        accept_rounding=report.accept_rounding,
    )


def most_uncertain(predictions: Predictions) -> list[int]:
    """Return the indices of the UNCERTAIN images with the smallest margins, the smallest first."""
    return [int(index) for index in np.argsort(predictions.margins, kind="stable")[:UNCERTAIN]]


def uncertain_images(predictions: Predictions, pictures: Sequence[str]) -> tuple[UncertainImage, ...]:
    """Return the images that `most_uncertain` lists; pictures are their PNGs in base64, in the same order."""
    return tuple(
        UncertainImage(
            index=index,
            label=int(predictions.labels[index]),
            prediction=int(predictions.predictions[index]),
            margin=float(predictions.margins[index]),
            png=png,
        )
        for index, png in zip(most_uncertain(predictions), pictures, strict=True)
    )


def _finding(facts: Facts, accuracy: Accuracy) -> AuditFinding:
    return judge(
        accuracy,
        facts.figure,
        upstream=facts.weights.upstream,
        origin=facts.origin,
        preprocessing=facts.preprocessing,
        accept_preprocessing=facts.accept_preprocessing,
    )


def _with_gates(finding: AuditFinding, facts: Facts) -> AuditFinding:
    """Return the finding, not comparable if a gate failed: Paddle's accuracy is then that of another function."""
    reasons = tuple(
        f"another function (the Paddle port of {SUBJECTS[name]}: {result.verdict})"
        for name, result in facts.alignments.items()
        if result.failed(accept_rounding=facts.accept_rounding)
    )
    return replace(finding, verdict="not comparable", reasons=finding.reasons + reasons) if reasons else finding


def _summary(result: AlignmentResult, facts: Facts) -> AlignmentSummary:
    passed = not result.failed(accept_rounding=facts.accept_rounding)
    return AlignmentSummary(verdict=result.verdict, passed=passed, sentence=verdict_line(result))


def _lineage(facts: Facts) -> Lineage:
    """Return what is recorded of whether the fine-tuned file was made from the upstream's checkpoint."""
    recorded = None if facts.manifest is None else facts.manifest.source_fingerprint
    known = {facts.source.fingerprint, *facts.conversions["source"].fingerprints}
    named = None if recorded is None else recorded in known
    sentence = {
        True: "The manifest of the fine-tuned file names the upstream's checkpoint by its fingerprint.",
        False: f"The manifest of the fine-tuned file names other weights ({recorded}), perhaps with another head.",
        None: "Nothing beside the fine-tuned file records which weights it was made from.",
    }[named]
    return Lineage(manifest=facts.manifest is not None, names_source=named, sentence=sentence)
