"""The audit as a single HTML page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.render import chart as geometry
from align.render.data import OUTCOMES
from reports.render.page import page
from reports.render.report import SUBJECTS
from reports.render.words import VERIFY, environment_facts, identity_facts

Data = dict[str, Any]


def audit_html(report: Data, environment: Data, alignments: Mapping[str, Data]) -> bytes:
    """Return the page; the same data gives the same bytes. Text of any origin is escaped, and only images may load."""
    return page(
        "audit.html.j2",
        report,
        ports=[_port(name, report, data) for name, data in alignments.items()],
        size=geometry,
        outcomes=OUTCOMES,
        verify=VERIFY,
        identity=list(identity_facts(report)),
        facts=list(environment_facts(environment)),
    )


def _port(name: str, report: Data, data: Data) -> Data:
    return {
        "id": name,
        "title": SUBJECTS[name],
        "data": data,
        "passed": report["alignments"][name]["passed"],
        "chart": geometry.chart(data),
    }
