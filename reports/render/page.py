"""What the pages of an audit and of an evaluation have in common: no network, no script, and the same parts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from reports.render.interval_plot import interval_plot
from reports.render.report import AuditReport, UncertainImage
from reports.render.words import MEANINGS, statistics
from reports.score.accuracy import Comparison, CountedAccuracy
from reports.score.published import PublishedFigure
from reports.score.records import WeightsIdentity
from reports.score.verdict import AuditFinding, Verdict

Data = dict[str, Any]
BANNERS = {"consistent with": "aligned", "above": "aligned", "below": "diverged", "not comparable": "inconclusive"}
"""The banner of the alignment page with which each verdict is shown."""
HEATS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a page shows of an evaluation; the fields are those of an audit's report."""

    verdict: Verdict
    sentence: str
    limits: str
    finding: AuditFinding
    accuracy: CountedAccuracy
    published: PublishedFigure | None
    timm: Comparison | None
    uncertain: tuple[UncertainImage, ...]
    weights: WeightsIdentity


def page(template: str, report: AuditReport | Shown, **values: Any) -> bytes:
    """Return a page; the same data gives the same bytes. Text of any origin is escaped, and only images may load.

    Args:
        template: The name of its template file.
        report: What was measured.
        values: Further values for the template.
    """
    style = "".join(
        _text(package, name) for package, name in (("align.render", "report.css"), ("reports.render", "audit.css"))
    )
    found = _templates().get_template(template)
    text = found.render(
        report=report,
        banner=BANNERS[report.verdict],
        meaning=MEANINGS[report.verdict],
        plot=interval_plot(report.finding),
        statistics=list(statistics(report.accuracy, report.published, report.timm)),
        confusion=list(_confusion(report)),
        classes=report.accuracy.classes,
        style=Markup(style),  # noqa: S704  # our own files, without markup
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        **values,
    )
    return text.encode(errors="backslashreplace")


@cache
def _templates() -> jinja2.Environment:
    """Return the templates, kept so that each is compiled once per process: that takes as long as rendering it."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("reports.render"), jinja2.PackageLoader("align.render")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")


def _confusion(report: AuditReport | Shown) -> Iterator[Data]:
    """Yield a row per class: its cells with their heat (a CSS class), and the percentage that was right."""
    classes = report.accuracy.classes
    for label, row in enumerate(report.accuracy.confusion):
        total = sum(row)
        cells = [(count, _heat(count, total), "hit" if label == other else "miss") for other, count in enumerate(row)]
        yield {"name": classes[label], "cells": cells, "right": f"{100 * row[label] / total:.1f} %" if total else "–"}


def _heat(count: int, total: int) -> int:
    """Return 0 for a count of 0, else 1 to HEATS by its share of the row."""
    return 0 if not count else 1 + min(HEATS - 1, HEATS * count // total)
