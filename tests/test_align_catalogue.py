"""What the full gate catches in weights and structure, a recorded trace catches too, and blames on the same layer."""

from __future__ import annotations

import pytest

from align.core.case import Settings
from align.faults.fault import Planted
from align.mixer.alignment import ALIGNMENT
from align.mixer.faults import STRUCTURE, WEIGHTS
from align.mixer.specimens import SPECIMENS
from align.trace import gate
from align.trace.golden import GoldenTrace
from convert.arrays import StateDict

SMALL = [name for name in SPECIMENS if name != "s32"]


@pytest.mark.slow
@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("name", SMALL)
def test_a_trace_catches_every_fault_of_weights_and_structure(name: str) -> None:
    case = SPECIMENS[name].case(Settings(), 0)
    trace = gate.record(case, Settings())
    assert gate.check(trace, case).verdict == "aligned"
    planted = {fault.name: fault.plant(case) for fault in (*WEIGHTS, *STRUCTURE)}
    applicable = {fault: it for fault, it in planted.items() if it is not None}
    assert len(applicable) >= 30
    blamed = {fault: checked(trace, case.expected, it) for fault, it in applicable.items()}
    assert blamed == {fault: it.layer for fault, it in applicable.items()}


def checked(trace: GoldenTrace, converted: StateDict, planted: Planted) -> str:
    """Return the layer that the check blames; a text that says so where it does not fail."""
    candidate = dict(converted)
    planted.weights(candidate)
    result = gate.check(trace, planted.into(gate.case_of_trace(trace, ALIGNMENT, candidate)))
    if result.verdict != "diverged" or result.first_divergence is None:
        return f"none: {result.verdict}"
    return result.first_divergence.layer
