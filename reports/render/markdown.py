"""The audit as GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from align.core.result import AlignmentResult
from align.render.data import OUTCOMES
from align.render.markdown import MARKS, cell
from align.render.text import verdict_line
from convert.commands.tables import markdown as table
from reports.render.environment import Environment
from reports.render.report import SUBJECTS, AuditReport, Subject, UncertainImage
from reports.render.words import MEANINGS, VERIFY, environment_facts, identity_facts, statistics


def audit_markdown(
    report: AuditReport, environment: Environment, alignments: Mapping[Subject, AlignmentResult]
) -> bytes:
    """Return the document; the same facts give the same bytes."""
    classes = report.accuracy.classes
    parts = [
        f"# {cell(report.verdict)}: {cell(report.weights.name)}",
        f"**{MEANINGS[report.verdict]}** {cell(report.sentence)}",
        cell(report.limits),
        "## Accuracy",
        _table(("what", "value"), statistics(report.accuracy, report.published, report.timm)),
        *(part for name, result in alignments.items() for part in _port(name, result)),
        "## Confusion",
        "A row per true class, a column per prediction.",
        _table(("", *classes), _confusion(report)),
        "## Most uncertain images",
        _table(("image", "label", "prediction", "margin"), (_image(classes, image) for image in report.uncertain)),
        "## Identity",
        _table(("what", "value"), identity_facts(report)),
        "## Environment",
        _table(("what", "value"), environment_facts(environment)),
        cell(VERIFY),
    ]
    return ("\n\n".join(parts) + "\n").encode(errors="backslashreplace")


def _port(name: Subject, result: AlignmentResult) -> list[str]:
    gates = ((gate.name, f"{MARKS[gate.passed]} {OUTCOMES[gate.passed]}", gate.sentence) for gate in result.gates)
    return [f"## Port of {SUBJECTS[name]}", cell(verdict_line(result)), _table(("gate", "", "finding"), gates)]


def _confusion(report: AuditReport) -> Iterable[tuple[str, ...]]:
    accuracy = report.accuracy
    for name, row in zip(accuracy.classes, accuracy.confusion, strict=True):
        yield (name, *map(str, row))


def _image(classes: tuple[str, ...], image: UncertainImage) -> tuple[str, ...]:
    return str(image.index), classes[image.label], classes[image.prediction], f"{image.margin:.4f}"


def _table(headers: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    return table(headers, [[cell(text) for text in line] for line in lines])
