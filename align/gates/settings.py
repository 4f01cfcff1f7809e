"""The settings of modules that stand for each other: what is not the same, even where these inputs do not show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from align.core.case import Case
from align.core.result import Check, Divergence, Gate, Section

LISTED = 3
"""Differences that a sentence names at most."""


def settings_compared(case: Case) -> Iterator[Section]:
    """Yield what the modules of a user's own two models do not share; it is shown, and fails nothing by itself."""
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
    """Return where the sides part with what is known of the two modules there."""
    remarks = case.remarks.get(divergence.layer, ()) if divergence is not None else ()
    if divergence is None or not remarks:
        return divergence
    return replace(divergence, sentence=f"{divergence.sentence}; {'; '.join(remarks)}")
