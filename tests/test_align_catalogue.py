"""What the full gate catches in weights and structure, a recorded trace catches too, and blames on the same layer."""

from __future__ import annotations

from typing import Any

import pytest

from align.faults.fault import Planted
from align.mixer.faults import STRUCTURE, WEIGHTS
from align.probes import paddle_probe
from align.run import Settings, Subject
from align.selftest.run import CONFIGS
from align.trace import gate
from align.trace.result import TraceResult
from align.trace.trace_file import GoldenTrace
from convert.arrays import StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

SMALL = [name for name in CONFIGS if name != "s32"]


@pytest.mark.slow
@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("name", SMALL)
def test_a_trace_catches_every_fault_of_weights_and_structure(name: str) -> None:
    config = CONFIGS[name]
    source = init_state_dict(config, 0)
    trace = gate.record(Subject(source=source, config=config, name=name), Settings())
    converted = convert_state_dict(source, config).state_dict
    assert gate.check(trace, converted).verdict == "aligned"
    planted = {fault.name: fault.plant(config) for fault in (*WEIGHTS, *STRUCTURE)}
    applicable = {fault: it for fault, it in planted.items() if it is not None}
    assert len(applicable) >= 30
    blamed = {fault: checked(trace, converted, it) for fault, it in applicable.items()}
    assert blamed == {fault: it.layer for fault, it in applicable.items()}


def checked(trace: GoldenTrace, converted: StateDict, planted: Planted) -> str:
    """Return the layer that the check blames; a text that says so where it does not fail."""
    candidate = dict(converted)
    planted.weights(candidate)

    def build(config: MixerConfig, state_dict: StateDict) -> Any:
        model = paddle_probe.build(config, state_dict)
        planted.model(model)
        return model

    result: TraceResult = gate.check(trace, candidate, build_candidate=build)
    if result.verdict != "diverged" or result.first_divergence is None:
        return f"none: {result.verdict}"
    return result.first_divergence.layer
