"""Accuracy of fine-tuned weights on CIFAR-10: read, preprocess, run, count, and compare with the published row."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from align.probes.environment import environment
from align.probes.knobs import usual_threads
from convert.arrays import Array
from convert.evidence.manifest import versions
from reports.data.batches import batches
from reports.data.cifar10 import CLASSES, Cifar10
from reports.data.preprocess import Preprocessing
from reports.score.accuracy import (
    Accuracy,
    Comparison,
    CountedAccuracy,
    Predictions,
    accuracy_of,
    comparison_of,
    predictions_of,
)
from reports.score.engines import (
    Engine,
    agreement,
    eager,
    inference,
    timm_eager,
)
from reports.score.evaluation_report import Against, EvaluationReport, InFloat32
from reports.score.parallel import Group, gathered
from reports.score.published import PublishedFigure
from reports.score.records import Circumstances, EngineName, EngineUse, FirstBatch, Precision
from reports.score.verdict import AuditFinding, judge, limits_of
from reports.score.weights import Weights, check_classes

PACKAGES = ("scipy", "pillow")
Progress = Callable[[int, int], None]
"""Called with the number of images done and how many of them were right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How to evaluate.

    figure: the published row to judge by. accept_preprocessing: do so even if the preprocessing is not the row's.
    workers: processes that make the batches (0: a thread does); no bit of the result depends on them. beside_float32:
    also run the predictor in float32 on the same images, to count where another precision differs from it.
    """

    preprocessing: Preprocessing
    figure: PublishedFigure | None = None
    engine: EngineName = "inference"
    precision: Precision = "float32"
    device: str = "cpu"
    batch_size: int = 16
    accept_preprocessing: bool = False
    workers: int = 0
    beside_float32: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """An evaluation: what was measured, on what, and what follows. engine holds the predictor's check, if it ran."""

    accuracy: Accuracy
    comparison: Comparison | None
    finding: AuditFinding
    predictions: Predictions
    weights: Weights
    against: Weights | None
    data: Cifar10
    settings: EvaluationSettings
    engine: EngineUse

    @property
    def report(self) -> EvaluationReport:
        """What was measured, as it is written; the per-image predictions go to a file of their own."""
        return EvaluationReport(
            schema="mixer-report/evaluation/3",
            verdict=self.finding.verdict,
            passed=self.finding.passed,
            sentence=self.finding.sentence,
            finding=self.finding,
            limits=limits_of(self.settings.figure),
            accuracy=CountedAccuracy(**asdict(self.accuracy), classes=CLASSES),
            against=self._against(),
            in_float32=self.in_float32,
            published=self.settings.figure,
            preprocessing=self.settings.preprocessing,
            weights=self.weights.identity,
            data=self.data.origin,
            engine=self.engine,
            environment=self._environment(),
        )

    @property
    def in_float32(self) -> InFloat32 | None:
        """The accuracy of float32 on the same images and how it differs, if float32 ran on them too."""
        if self.comparison is None or self.against is not None:
            return None
        correct = self.accuracy.correct - self.comparison.only_here + self.comparison.only_there
        percent = 100 * correct / self.accuracy.total
        return InFloat32(**asdict(self.comparison), correct=correct, percent=percent)

    def as_data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self.report)

    def _against(self) -> Against | None:
        if self.against is None or self.comparison is None:
            return None
        identity = {**asdict(self.against.identity), "config": self.against.config}
        return Against(**identity, **asdict(self.comparison))

    def _environment(self) -> Circumstances:
        found = environment()
        return Circumstances(
            **found | {"versions": {**found["versions"], **versions(PACKAGES)}, "device": self.settings.device}
        )


def evaluate(
    weights: Weights,
    data: Cifar10,
    settings: EvaluationSettings,
    *,
    against: Weights | None = None,
    group: Group | None = None,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """Return the accuracy of weights on images, every image counted once.

    Args:
        weights: The weights, in Paddle's layout, with ten classes.
        data: The images and their labels.
        settings: Preprocessing, engine, batch size, and the published row.
        against: Weights in timm's layout, for timm to run on the same preprocessed images. Overrides beside_float32.
        group: The processes that share the batches; all of them have to call this, and each gets the whole result.
        progress: Called after every batch.

    Raises:
        BadInput: The head has another number of classes, or a logit is not finite.
        EngineDisagrees: The predictor's first batch does not agree with eager's.
    """
    for each in filter(None, (weights, against)):
        check_classes(each, len(CLASSES))
    reference = _reference(weights, settings, against)
    predictions, engine = _run(weights, data, settings, reference, group or Group(), progress)
    accuracy = accuracy_of(predictions, len(CLASSES))
    return Evaluation(
        accuracy=accuracy,
        comparison=comparison_of(predictions),
        finding=_finding(accuracy, weights, data, settings),
        predictions=predictions,
        weights=weights,
        against=against,
        data=data,
        settings=settings,
        engine=engine,
    )


def _finding(accuracy: Accuracy, weights: Weights, data: Cifar10, settings: EvaluationSettings) -> AuditFinding:
    return judge(
        accuracy,
        settings.figure,
        upstream=weights.upstream.name if weights.upstream else None,
        origin=data.origin,
        preprocessing=settings.preprocessing,
        accept_preprocessing=settings.accept_preprocessing,
        precision=settings.precision,
    )


def _run(
    weights: Weights,
    data: Cifar10,
    settings: EvaluationSettings,
    reference: Engine | None,
    group: Group,
    progress: Progress,
) -> tuple[Predictions, EngineUse]:
    """Return the predictions of all images, and how they were computed."""
    engine = _engine(weights, settings)
    check: FirstBatch | None = None
    parts: list[tuple[slice, Predictions]] = []
    seconds, right, done = 0.0, 0, 0
    own = group.parts(len(data.labels), settings.batch_size)
    with closing(batches(data.images, settings.preprocessing, own, workers=settings.workers)) as made:
        for part, images in made:
            started = time.perf_counter()
            logits = engine(images)
            seconds += time.perf_counter() - started
            if settings.engine == "inference" and not parts:
                check = _checked(weights, images, logits, settings.precision)
            found = predictions_of(logits, data.labels[part], reference(images) if reference else None)
            parts.append((part, found))
            right += int((found.predictions == found.labels).sum())
            done += len(found)
            progress(done, right)
    used = EngineUse(
        name=settings.engine,
        precision=settings.precision,
        threads=usual_threads(),
        batch_size=settings.batch_size,
        processes=group.processes,
        images_per_second=done / seconds if seconds else None,
        first_batch=check,
    )
    return gathered(parts, len(data.labels), reference is not None, group), used


def _reference(weights: Weights, settings: EvaluationSettings, against: Weights | None) -> Engine | None:
    """Return the engine that runs on the same images for comparison, if there is one."""
    if against is not None:
        return timm_eager(against.config, against.state_dict)
    return inference(weights.config, weights.state_dict, "float32") if settings.beside_float32 else None


def _engine(weights: Weights, settings: EvaluationSettings) -> Engine:
    if settings.engine == "inference":
        return inference(weights.config, weights.state_dict, settings.precision)
    return eager(weights.config, weights.state_dict, settings.device)


def _checked(weights: Weights, images: Array, logits: Array, precision: Precision) -> FirstBatch:
    """Return how far the predictor's first batch lies from eager's, and the bound; the eager model is not kept."""
    difference, bound = agreement(logits, eager(weights.config, weights.state_dict)(images), precision)
    return FirstBatch(max_abs_diff=difference, bound=bound, images=len(images))
