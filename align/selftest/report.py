"""The self-test's outcome as plain data, and that data as a matrix and as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

from align.faults.fault import Kind
from align.probes.environment import environment
from align.selftest.run import SelfTest

SCHEMA = "mixer-align/selftest/1"
Row = tuple[str, ...]
KINDS: tuple[str, ...] = get_args(Kind)
MARKS = {"caught": "caught", "missed": "MISSED", "misplaced": "MISPLACED"}


def as_data(outcome: SelfTest) -> dict[str, Any]:
    """Return the outcome as JSON takes it."""
    right_ports: dict[str, Counter[str]] = {}
    for port in outcome.right_ports:
        right_ports.setdefault(f"{port.config}, {port.inputs}", Counter())[port.verdict] += 1
    findings = [asdict(finding) for finding in outcome.findings]
    for finding in findings:
        finding["logits"] = None if finding["logits"] is None else f"{finding['logits']:.1e}"
    return {
        "schema": SCHEMA,
        "passed": outcome.passed,
        "findings": findings,
        "sensitivities": [asdict(sensitivity) for sensitivity in outcome.sensitivities],
        "right_ports": {name: dict(verdicts) for name, verdicts in right_ports.items()},
        "false_alarms": [asdict(port) for port in outcome.false_alarms],
        "environment": environment(),
    }


def headers(data: dict[str, Any]) -> Row:
    """Return the matrix's headers: a column per config at the end."""
    return ("kind", "fault", "planted at", "gates that fail", "float32 logits", *_configs(data))


def rows(data: dict[str, Any]) -> list[Row]:
    """Return the matrix: a row per fault. Layer, gates and logits are those of the first config that can have it."""
    by_fault: dict[str, list[dict[str, Any]]] = {}
    for finding in data["findings"]:
        by_fault.setdefault(finding["fault"], []).append(finding)
    in_order = sorted(by_fault.values(), key=lambda findings: KINDS.index(findings[0]["kind"]))
    return [_row(findings, _configs(data)) for findings in in_order]


def sentences(data: dict[str, Any]) -> list[str]:
    """Return what else was found: the smallest faults, the right ports, and the verdict in the last line."""
    return [*_smallest(data), *_right_ports(data), _verdict(data)]


def _row(findings: Sequence[dict[str, Any]], configs: Sequence[str]) -> Row:
    first = findings[0]
    marks = {finding["config"]: _mark(finding) for finding in findings}
    return (
        first["kind"],
        first["fault"],
        first["planted"] or "—",
        ", ".join(first["gates"]),
        first["logits"] or "—",
        *(marks.get(config, "—") for config in configs),
    )


def _mark(finding: dict[str, Any]) -> str:
    mark = MARKS[finding["outcome"]]
    return f"{mark} ({finding['blamed'] or 'nothing'} blamed)" if finding["outcome"] == "misplaced" else mark


def _smallest(data: dict[str, Any]) -> list[str]:
    by_what: dict[str, list[str]] = {}
    for sensitivity in data["sensitivities"]:
        figure = "nothing" if sensitivity["smallest"] is None else f"{sensitivity['smallest']:.0e}"
        by_what.setdefault(sensitivity["what"], []).append(f"{figure} ({sensitivity['config']})")
    return [f"smallest fault caught, {what}: {', '.join(figures)}" for what, figures in by_what.items()]


def _right_ports(data: dict[str, Any]) -> list[str]:
    total = Counter[str]()
    for verdicts in data["right_ports"].values():
        total.update(verdicts)
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(total.items()))
    return [f"right ports: {told}; {len(data['false_alarms'])} false alarms"]


def _verdict(data: dict[str, Any]) -> str:
    survivors = [finding for finding in data["findings"] if finding["outcome"] != "caught"]
    if survivors:
        return f"failed: {_survivor(survivors[0])}" + (f" (and {len(survivors) - 1} more)" if survivors[1:] else "")
    if data["false_alarms"]:
        port = data["false_alarms"][0]
        found = f"seed {port['seed']}, {port['inputs']} inputs, was {port['verdict']}"
        return f"failed: {port['config']}: a right port, {found}"
    if not data["passed"]:
        return "failed: nothing was tried"
    faults = {finding["fault"] for finding in data["findings"]}
    planted = f"planted {len(data['findings'])} times in {len(_configs(data))} configs"
    return f"passed: {len(faults)} faults, {planted}, each caught and placed"


def _survivor(finding: dict[str, Any]) -> str:
    blamed = f", {finding['blamed'] or 'nothing'} was blamed" if finding["outcome"] == "misplaced" else ""
    planted = f"{finding['fault']}, planted at {finding['planted'] or 'no layer'}"
    return f"{finding['config']}: {planted}, was {finding['outcome']}{blamed}"


def _configs(data: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(finding["config"] for finding in data["findings"]))
