"""The audit as an in-toto Statement: its files by their digests, and which checks passed. Pure.

Sources: https://github.com/in-toto/attestation, spec/v1/statement.md and spec/predicates/test-result.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from align.core.result import AlignmentResult
from reports.render.report import AuditReport, Subject

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"

Data = dict[str, Any]


def statement_of(
    report: AuditReport, alignments: Mapping[Subject, AlignmentResult], sha256s: Mapping[str, str]
) -> Data:
    """Return the audit's Statement as plain data.

    Args:
        report: The audit's report.
        alignments: The gates' results per subject.
        sha256s: The SHA-256s of the bundle's files, without the Statement and the checksums.
    """
    outcomes = dict(_outcomes(report, alignments))
    return {
        "_type": TYPE,
        "subject": [*(_descriptor(name, sha256s[name]) for name in sorted(sha256s)), *_inputs(report)],
        "predicateType": PREDICATE,
        "predicate": {
            "result": "PASSED" if report.passed else "FAILED",
            "configuration": list(_configuration(report, sha256s)),
            "passedTests": [name for name, passed in outcomes.items() if passed],
            "warnedTests": [],
            "failedTests": [name for name, passed in outcomes.items() if not passed],
        },
    }


def _inputs(report: AuditReport) -> Iterator[Data]:
    for role, weights in (("weights", report.weights), ("source", report.source)):
        if weights.sha256:
            yield _descriptor(f"{role}/{weights.name}", weights.sha256)
    data = report.data
    if data.sha256:
        yield _descriptor(f"data/{data.name}", data.sha256)
    else:
        yield from (_descriptor(f"data/{name}", digest) for name, digest in data.files.items())


def _configuration(report: AuditReport, sha256s: Mapping[str, str]) -> Iterator[Data]:
    yield _descriptor("environment.json", sha256s["environment.json"])
    if report.published:
        yield {"name": report.published.id, "uri": report.published.source}


def _outcomes(report: AuditReport, alignments: Mapping[Subject, AlignmentResult]) -> Iterator[tuple[str, bool]]:
    """Yield every check's name and whether it passed; a gate that did not run after an earlier failure has not."""
    for subject, result in alignments.items():
        for gate in result.gates:
            yield f"alignment of {subject}: {gate.name}", gate.passed is True
    yield "accuracy: consistent with or above the published figure", report.passed


def _descriptor(name: str, digest: str) -> Data:
    return {"name": name, "digest": {"sha256": digest}}
