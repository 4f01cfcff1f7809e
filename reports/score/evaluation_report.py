"""The record that `mixer-report evaluate` writes as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reports.data.cifar10 import Origin
from reports.data.preprocess import Preprocessing
from reports.score.accuracy import Comparison, CountedAccuracy
from reports.score.published import PublishedFigure
from reports.score.records import Circumstances, EngineUse, WeightsIdentity
from reports.score.verdict import AuditFinding, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Against(WeightsIdentity):
    """timm's weights, and how the two models compare, with the fields of `reports.score.accuracy.Comparison`."""

    disagreements: int
    only_here: int
    only_there: int
    mcnemar_p: float
    max_logit_diff: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InFloat32(Comparison):
    """The accuracy of the same weights on the same images in float32, and how the two differ; `there` is float32."""

    correct: int
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What was measured, on what, where, and what follows; the per-image predictions go to a file of their own."""

    schema: Literal["mixer-report/evaluation/3"]
    verdict: Verdict
    passed: bool
    sentence: str
    finding: AuditFinding
    limits: str
    accuracy: CountedAccuracy
    against: Against | None
    in_float32: InFloat32 | None
    published: PublishedFigure | None
    preprocessing: Preprocessing
    weights: WeightsIdentity
    data: Origin
    engine: EngineUse
    environment: Circumstances
