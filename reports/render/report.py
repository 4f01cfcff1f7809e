"""The audit's report as plain data, built from what was measured, and built again from a bundle's own files. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from convert.arrays import fingerprint
from reports.data.cifar10 import CLASSES, Origin
from reports.data.preprocess import Preprocessing
from reports.score.accuracy import Predictions, accuracy_of, comparison_of
from reports.score.published import PublishedFigure, published_figures
from reports.score.verdict import AuditFinding, judge, limits_of

SCHEMA = "mixer-report/audit/1"
UNCERTAIN = 24
"""How many images the report shows, those of the smallest margins."""
SUBJECTS = {"source": "the upstream's checkpoint", "finetuned": "the fine-tuned weights"}
"""What goes through the alignment's gates, by the name in the bundle's files."""

Data = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """What was measured and on what; everything else in the report follows from it.

    weights, source: `Weights.as_data` of the fine-tuned file and of the upstream's. alignments: an alignment's plain
    data per subject; conversions: a conversion's manifest per subject. manifest: what lies beside the fine-tuned file.
    thumbnails: PNG in base64, of the images that `most_uncertain` names, in its order.
    """

    predictions: Predictions
    weights: Data
    source: Data
    manifest: Data | None
    conversions: Mapping[str, Data]
    alignments: Mapping[str, Data]
    figure: PublishedFigure | None
    preprocessing: Preprocessing
    origin: Origin
    engine: Data
    thumbnails: Sequence[str]
    attached: Sequence[str] = ()
    accept_preprocessing: bool = False
    accept_rounding: bool = False


def report_of(facts: Facts) -> Data:
    """Return the report: verdict, statistics, and the facts that are not in a file of their own."""
    accuracy, comparison = accuracy_of(facts.predictions, len(CLASSES)), comparison_of(facts.predictions)
    finding = _with_gates(_finding(facts), facts)
    return {
        "schema": SCHEMA,
        "verdict": finding.verdict,
        "passed": finding.passed,
        "sentence": finding.sentence,
        "finding": {**asdict(finding), "reasons": list(finding.reasons), "interval": list(finding.interval)},
        "limits": limits_of(facts.figure),
        "accuracy": _plain({**asdict(accuracy), "classes": list(CLASSES)}),
        "timm": comparison and asdict(comparison),
        "alignments": {name: _alignment(data, facts) for name, data in facts.alignments.items()},
        "published": facts.figure and _plain(asdict(facts.figure)),
        "preprocessing": _plain(asdict(facts.preprocessing)),
        "accept_preprocessing": facts.accept_preprocessing,
        "accept_rounding": facts.accept_rounding,
        "weights": facts.weights,
        "source": facts.source,
        "lineage": _lineage(facts),
        "data": _plain(asdict(facts.origin)),
        "engine": facts.engine,
        "uncertain": _uncertain(facts),
        "attached": list(facts.attached),
    }


def facts_of(report: Data, predictions: Predictions, others: Mapping[str, Data]) -> Facts:
    """Return the facts that a bundle holds.

    Args:
        report: report.json.
        predictions: The per-image file.
        others: The other JSON files of the bundle, by name without `.json`.

    Raises:
        KeyError, TypeError, ValueError: The report is not of the form that `report_of` gives.
    """
    if report["schema"] != SCHEMA:
        raise ValueError(f"schema {report['schema']}, expected {SCHEMA}")
    preprocessing, figure_id = report["preprocessing"], (report["published"] or {}).get("id")
    return Facts(
        predictions=predictions,
        weights=report["weights"],
        source=report["source"],
        manifest=others.get("manifest-finetuned"),
        conversions={name: others[f"conversion-{name}"] for name in SUBJECTS},
        alignments={name: others[f"alignment-{name}"] for name in SUBJECTS},
        figure=next((figure for figure in published_figures() if figure.id == figure_id), None),
        preprocessing=Preprocessing(
            **{**preprocessing, "mean": tuple(preprocessing["mean"]), "std": tuple(preprocessing["std"])}
        ),
        origin=Origin(**report["data"]),
        engine=report["engine"],
        thumbnails=[image["png"] for image in report["uncertain"]],
        attached=report["attached"],
        accept_preprocessing=report["accept_preprocessing"],
        accept_rounding=report["accept_rounding"],
    )


def most_uncertain(predictions: Predictions) -> list[int]:
    """Return the images with the smallest margins, the smallest first."""
    return [int(index) for index in np.argsort(predictions.margins, kind="stable")[:UNCERTAIN]]


def alignment_passed(data: Data, *, accept_rounding: bool) -> bool:
    """Return whether an alignment's verdict is good enough to compare accuracies."""
    return data["verdict"] == "aligned" or (accept_rounding and data["verdict"] == "rounding")


def conversion_fingerprints(conversion: Data) -> tuple[str, str]:
    """Return the fingerprints before and after, from the tensors' hashes that a conversion's manifest lists."""
    before = fingerprint({tensor["source"]: tensor["source_sha256"] for tensor in conversion["tensors"]})
    return before, fingerprint({tensor["target"]: tensor["target_sha256"] for tensor in conversion["tensors"]})


def _finding(facts: Facts) -> AuditFinding:
    return judge(
        accuracy_of(facts.predictions, len(CLASSES)),
        facts.figure,
        upstream=facts.weights["upstream"],
        origin=facts.origin,
        preprocessing=facts.preprocessing,
        accept_preprocessing=facts.accept_preprocessing,
    )


def _with_gates(finding: AuditFinding, facts: Facts) -> AuditFinding:
    """Return the finding; where a gate failed, Paddle's accuracy is that of another function."""
    reasons = tuple(
        f"another function (the Paddle port of {SUBJECTS[name]}: {data['verdict']})"
        for name, data in facts.alignments.items()
        if not alignment_passed(data, accept_rounding=facts.accept_rounding)
    )
    return replace(finding, verdict="not comparable", reasons=finding.reasons + reasons) if reasons else finding


def _alignment(data: Data, facts: Facts) -> Data:
    passed = alignment_passed(data, accept_rounding=facts.accept_rounding)
    return {"verdict": data["verdict"], "passed": passed, "sentence": data["sentence"]}


def _lineage(facts: Facts) -> Data:
    """Return what is known of the way from the upstream's checkpoint to the fine-tuned file."""
    recorded = ((facts.manifest or {}).get("source") or {}).get("fingerprint")
    known = {facts.source["fingerprint"], *conversion_fingerprints(facts.conversions["source"])}
    named = None if recorded is None else recorded in known
    sentence = {
        True: "The manifest of the fine-tuned file names the upstream's checkpoint by its fingerprint.",
        False: f"The manifest of the fine-tuned file names other weights ({recorded}), perhaps with another head.",
        None: "Nothing beside the fine-tuned file records which weights it was made from.",
    }[named]
    return {"manifest": facts.manifest is not None, "names_source": named, "sentence": sentence}


def _uncertain(facts: Facts) -> list[Data]:
    p = facts.predictions
    return [
        {
            "index": index,
            "label": int(p.labels[index]),
            "prediction": int(p.predictions[index]),
            "margin": float(p.margins[index]),
            "png": png,
        }
        for index, png in zip(most_uncertain(p), facts.thumbnails, strict=True)
    ]


def _plain(value: Any) -> Any:
    """Return data as JSON gives it back: lists for tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
