"""The settings of modules that correspond: what is not the same, even where these inputs do not show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from align.core.case import Case
from align.core.result import Check, Divergence, Gate, Section

LISTED = 3
"""Maximum number of differences that a sentence names."""


def settings_compared(case: Case) -> Iterator[Section]:
    """Yield a gate that shows where the settings of a user's two models differ; it never fails by itself."""
    if not case.to_be_used:
        return
    checks = [
        Check(subject=f"{layer}: {said}", layer=layer, figure=1.0, bound=None, detail=said, passed=True)
        for layer, remarks in case.remarks.items()
        for said in remarks
    ]
    named = "; ".join(check.subject for check in checks[:LISTED])
    more = f" (and {len(checks) - LISTED} more)" if len(checks) > LISTED else ""
    sentence = f"not the same: {named}{more}" if checks else "all that both sides have are the same"
    yield Section(gate=Gate(name="settings", passed=True, sentence=sentence), checks=tuple(checks))


def with_remarks(case: Case, divergence: Divergence | None) -> Divergence | None:
    """Return the divergence with the remarks on the two modules at its layer, if any."""
    remarks = case.remarks.get(divergence.layer, ()) if divergence is not None else ()
    if divergence is None or not remarks:
        return divergence
    return replace(divergence, sentence=f"{divergence.sentence}; {'; '.join(remarks)}")
