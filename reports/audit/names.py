"""The names of a bundle's files."""

from __future__ import annotations

from collections.abc import Mapping

from reports.render.report import SUBJECTS, Subject

REPORT, ENVIRONMENT = "report.json", "environment.json"
PREDICTIONS = "predictions.npz"
STATEMENT = "statement.intoto.json"
MANIFEST = "manifest-finetuned.json"
RENDERED = ("report.md", "report.html")
ALIGNMENTS: Mapping[Subject, str] = {subject: f"alignment-{subject}.json" for subject in SUBJECTS}
CONVERSIONS: Mapping[Subject, str] = {subject: f"conversion-{subject}.json" for subject in SUBJECTS}


def names_of(*, manifest: bool) -> set[str]:
    """Return the names of a bundle's own files, without attached ones; with MANIFEST if there is a manifest."""
    own = {REPORT, ENVIRONMENT, PREDICTIONS, STATEMENT, *RENDERED, *ALIGNMENTS.values(), *CONVERSIONS.values()}
    return {*own, MANIFEST} if manifest else own
