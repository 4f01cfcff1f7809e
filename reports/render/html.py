"""The audit as a single HTML page that needs no network and no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from align.core.result import AlignmentResult
from align.render import chart as geometry
from align.render.data import OUTCOMES, as_data
from reports.render.environment import Environment
from reports.render.interval_plot import interval_plot
from reports.render.report import SUBJECTS, AuditReport, Subject
from reports.render.words import MEANINGS, VERIFY, environment_facts, identity_facts, statistics

Data = dict[str, Any]
BANNERS = {"consistent with": "aligned", "above": "aligned", "below": "diverged", "not comparable": "inconclusive"}
"""The alignment page's banner that a verdict looks like."""
HEATS = 9


def audit_html(report: AuditReport, environment: Environment, alignments: Mapping[Subject, AlignmentResult]) -> bytes:
    """Return the page; the same facts give the same bytes. Text of any origin is escaped, and only images may load."""
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader("reports.render"), jinja2.PackageLoader("align.render")])
    templates = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = "".join(
        _text(package, name) for package, name in (("align.render", "report.css"), ("reports.render", "audit.css"))
    )
    page = templates.get_template("audit.html.j2").render(
        report=report,
        banner=BANNERS[report.verdict],
        meaning=MEANINGS[report.verdict],
        plot=interval_plot(report.finding),
        statistics=list(statistics(report)),
        ports=[_port(name, report, result) for name, result in alignments.items()],
        size=geometry,
        outcomes=OUTCOMES,
        confusion=list(_confusion(report)),
        classes=report.accuracy.classes,
        verify=VERIFY,
        identity=list(identity_facts(report)),
        facts=list(environment_facts(environment)),
        style=Markup(style),  # noqa: S704  # our own files, without markup
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page.encode(errors="backslashreplace")


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")


def _port(name: Subject, report: AuditReport, result: AlignmentResult) -> Data:
    data = as_data(result)
    return {
        "id": name,
        "title": SUBJECTS[name],
        "data": data,
        "passed": report.alignments[name].passed,
        "chart": geometry.chart(data),
    }


def _confusion(report: AuditReport) -> Iterator[Data]:
    """Yield a row per class: its cells with their heat (a class of the style), and how many were right."""
    classes = report.accuracy.classes
    for label, row in enumerate(report.accuracy.confusion):
        total = sum(row)
        cells = [(count, _heat(count, total), "hit" if label == other else "miss") for other, count in enumerate(row)]
        yield {"name": classes[label], "cells": cells, "right": f"{100 * row[label] / total:.1f} %" if total else "–"}


def _heat(count: int, total: int) -> int:
    """Return 0 for none, else 1 to HEATS by the share of the row."""
    return 0 if not count else 1 + min(HEATS - 1, HEATS * count // total)
