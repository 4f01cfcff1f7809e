"""What each gate is for: the faults that it catches, and those that no other gate does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from align.core.result import GateName
from align.selftest.outcome import Caught, SelfTest

OTHERS = ("backward", "training", "settings")
"""Gates that run on request only, and the one that is shown but fails no alignment."""

GATES: tuple[str, ...] = tuple(name for name in get_args(GateName) if name not in OTHERS)
"""Gates that every alignment runs and that can fail it, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many faults a gate caught, and how many of them would survive in some config without it."""

    caught: int
    alone: int


def shares(findings: Sequence[Caught]) -> dict[str, Share]:
    """Return each gate's share, including gates that caught nothing, and that of the refusal to compare at all."""
    found = [finding for finding in findings if finding.outcome == "caught"]
    others = dict.fromkeys(gate for finding in found for gate in finding.gates if gate not in GATES)
    return {gate: _share(gate, found) for gate in (*GATES, *others)}


def without(outcome: SelfTest, gate: str) -> SelfTest:
    """Return the outcome that the self-test would have had without a gate: what it alone caught is missed."""
    return replace(outcome, findings=tuple(_without(finding, gate) for finding in outcome.findings))


def _share(gate: str, found: Sequence[Caught]) -> Share:
    caught = {finding.fault for finding in found if gate in finding.gates}
    alone = {finding.fault for finding in found if finding.gates == (gate,)}
    return Share(caught=len(caught), alone=len(alone))


def _without(finding: Caught, gate: str) -> Caught:
    left = tuple(name for name in finding.gates if name != gate)
    if left or not finding.gates:
        return replace(finding, gates=left)
    return replace(finding, gates=left, outcome="missed", blamed="")
