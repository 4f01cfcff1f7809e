"""The files of a bundle that follow from the others. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from align.core.result import AlignmentResult
from reports.audit.bundle import Files, as_json, sha256
from reports.audit.names import STATEMENT
from reports.audit.statement import statement_of
from reports.render.environment import Environment
from reports.render.html import audit_html
from reports.render.markdown import audit_markdown
from reports.render.report import AuditReport, Subject


def derived(
    report: AuditReport,
    environment: Environment,
    alignments: Mapping[Subject, AlignmentResult],
    sha256s: Mapping[str, str],
) -> Files:
    """Return the files that follow from the others: the rendered reports and the Statement.

    Args:
        report: The audit's report.
        environment: Where the audit ran.
        alignments: The gates' results per subject.
        sha256s: The SHA-256s of all other files of the bundle, which the Statement lists.
    """
    rendered = {
        "report.md": audit_markdown(report, environment, alignments),
        "report.html": audit_html(report, environment, alignments),
    }
    named = {**sha256s, **{name: sha256(content) for name, content in rendered.items()}}
    return {**rendered, STATEMENT: as_json(statement_of(report, alignments, named))}
