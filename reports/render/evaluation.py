"""An evaluation in words."""

from __future__ import annotations

from collections.abc import Iterator

from convert.files.sets import TOP
from reports.data.cifar10 import CLASSES
from reports.render.words import comparison_said, float32_said
from reports.score.accuracy import Interval
from reports.score.evaluate import Evaluation
from reports.score.records import EngineUse
from reports.score.verdict import limits_of


def lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield the evaluation's lines, one fact each; the verdict is the last line."""
    accuracy, engine, origin = evaluation.accuracy, evaluation.engine, evaluation.data.origin
    weights = evaluation.weights
    upstream = f"{weights.upstream.name}, says {weights.known_from}" if weights.upstream else "unknown"
    chosen = "" if weights.weights_key in (None, TOP) else f", set {weights.weights_key}"
    yield f"weights        {weights.name}{chosen}, fingerprint {weights.fingerprint[:16]}, upstream {upstream}"
    yield from (f"               {note}" for note in weights.notes)
    yield f"images         {origin.name}, {origin.said}, {origin.split} split, SHA-256 {origin.images_sha256[:16]}"
    yield f"preprocessing  {evaluation.settings.preprocessing.said}"
    yield f"engine         {_engine(engine)}"
    yield f"correct        {accuracy.correct:,} of {accuracy.total:,} = {accuracy.percent:.2f} %"
    wilson, exact = _interval(accuracy.wilson), _interval(accuracy.clopper_pearson)
    yield f"95 % interval  {wilson} (Wilson), {exact} (Clopper-Pearson)"
    yield f"loss           {accuracy.loss:.4f}"
    yield from _comparison(evaluation)
    yield from (f"per class      {line}" for line in _per_class(accuracy.confusion))
    yield limits_of(evaluation.settings.figure)
    yield evaluation.finding.sentence


def _engine(engine: EngineUse) -> str:
    text = engine.name if engine.precision == "float32" else f"{engine.name} in {engine.precision}"
    text += f", {engine.threads} threads, {engine.images_per_second or 0:.1f} images/s"
    if check := engine.first_batch:
        text += f"; first batch within {check.max_abs_diff:.1e} of eager (bound {check.bound:.1e})"
    return text


def _comparison(evaluation: Evaluation) -> Iterator[str]:
    comparison, against = evaluation.comparison, evaluation.against
    if comparison is not None and against is not None:
        yield f"against timm   {against.name}: {comparison_said(comparison)}"
    if float32 := evaluation.in_float32:
        yield f"in float32     {float32_said(float32, evaluation.accuracy.total)}"


def _per_class(confusion: tuple[tuple[int, ...], ...]) -> Iterator[str]:
    for label, row in enumerate(confusion):
        wrong = sorted(((count, other) for other, count in enumerate(row) if other != label and count), reverse=True)
        mistaken = ", ".join(f"{CLASSES[other]} {count}" for count, other in wrong[:3])
        yield f"{CLASSES[label]:<10} {row[label]:>5} of {sum(row):>5}" + (f"; taken for {mistaken}" if wrong else "")


def _interval(interval: Interval) -> str:
    low, high = interval
    return f"{low:.2f} to {high:.2f}"
