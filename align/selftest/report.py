"""The self-test's outcome as plain data, and the data as a matrix and as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

from align.faults.fault import Kind
from align.probes.environment import environment
from align.selftest.attribution import shares
from align.selftest.outcome import RightPort, SelfTest

SCHEMA = "mixer-align/selftest/2"
Row = tuple[str, ...]
KINDS: tuple[str, ...] = get_args(Kind)
GATE_HEADERS: Row = ("gate", "faults caught", "of these by it alone")
MARKS = {"caught": "caught", "missed": "MISSED", "misplaced": "MISPLACED"}


def as_data(outcome: SelfTest) -> dict[str, Any]:
    """Return the outcome as data that JSON can represent."""
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
        "gates": {gate: asdict(share) for gate, share in shares(outcome.findings).items()},
        "sensitivities": [asdict(sensitivity) for sensitivity in outcome.sensitivities],
        "right_ports": {name: dict(verdicts) for name, verdicts in right_ports.items()},
        "closest": closest(outcome.right_ports),
        "false_alarms": [asdict(port) for port in outcome.false_alarms],
        "environment": environment(),
    }


def headers(data: dict[str, Any]) -> Row:
    """Return the matrix's headers: a column per config at the end."""
    return ("kind", "fault", "planted at", "gates that fail", "float32 logits", *_configs(data))


def rows(data: dict[str, Any]) -> list[Row]:
    """Return the matrix: a row per fault. Layer, gates and logits are those of the first config with the fault."""
    by_fault: dict[str, list[dict[str, Any]]] = {}
    for finding in data["findings"]:
        by_fault.setdefault(finding["fault"], []).append(finding)
    in_order = sorted(by_fault.values(), key=lambda findings: KINDS.index(findings[0]["kind"]))
    return [_row(findings, _configs(data)) for findings in in_order]


def gate_rows(data: dict[str, Any]) -> list[Row]:
    """Return what each gate is for: a row per gate, under GATE_HEADERS."""
    return [(gate, str(share["caught"]), str(share["alone"])) for gate, share in data["gates"].items()]


def closest(right_ports: Sequence[RightPort]) -> dict[str, float]:
    """Return how near the nearest right port came to each bound, as a share of the bound."""
    nearest: dict[str, float] = {}
    for port in right_ports:
        for bound, share in port.closest.items():
            nearest[bound] = max(share, nearest.get(bound, 0.0))
    return nearest


def sentences(data: dict[str, Any]) -> list[str]:
    """Return what else was found, in sentences: gates, limits, right ports, and in the last one the verdict."""
    return [*_gates(data), *_limits(data), *_right_ports(data), *_closest(data), _verdict(data)]


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


def _gates(data: dict[str, Any]) -> list[str]:
    told = (f"{gate} {caught} ({alone})" for gate, caught, alone in gate_rows(data))
    return [f"faults caught by each gate (by it alone): {', '.join(told)}"] if data["findings"] else []


def _limits(data: dict[str, Any]) -> list[str]:
    """Return, for each fault of variable size, the size from which it is seen, and that at which it is not."""
    by_what: dict[str, dict[str, list[str]]] = {}
    for found in data["sensitivities"]:
        seen = "never seen" if found["smallest"] is None else f"seen from {found['smallest']:.0e}"
        unseen = "" if found["unseen"] is None else f", not at {found['unseen']:.0e}"
        by_what.setdefault(found["what"], {}).setdefault(seen + unseen, []).append(found["config"])
    return [f"limit, {what}: {'; '.join(_with_configs(figures))}" for what, figures in by_what.items()]


def _with_configs(figures: dict[str, list[str]]) -> list[str]:
    return [f"{said} ({', '.join(configs)})" for said, configs in figures.items()]


def _closest(data: dict[str, Any]) -> list[str]:
    if not data["closest"]:
        return []
    told = (f"{bound} {share:.2g}" for bound, share in data["closest"].items())
    return [f"the nearest that a right port came to each bound, as a share of it: {', '.join(told)}"]


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
