"""The audit as a single HTML page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.core.result import AlignmentResult
from align.render import chart as geometry
from align.render.data import OUTCOMES, as_data
from reports.render.environment import Environment
from reports.render.page import page
from reports.render.report import SUBJECTS, AuditReport, Subject
from reports.render.words import VERIFY, environment_facts, identity_facts


def audit_html(report: AuditReport, environment: Environment, alignments: Mapping[Subject, AlignmentResult]) -> bytes:
    """Return the page; the same facts give the same bytes. Text of any origin is escaped, and only images may load."""
    return page(
        "audit.html.j2",
        report,
        ports=[_port(name, report, result) for name, result in alignments.items()],
        size=geometry,
        outcomes=OUTCOMES,
        verify=VERIFY,
        identity=list(identity_facts(report)),
        facts=list(environment_facts(environment)),
    )


def _port(name: Subject, report: AuditReport, result: AlignmentResult) -> dict[str, Any]:
    data = as_data(result)
    return {
        "id": name,
        "title": SUBJECTS[name],
        "data": data,
        "passed": report.alignments[name].passed,
        "chart": geometry.chart(data),
    }
