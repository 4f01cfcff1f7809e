"""The gate's own test: every planted fault has to be caught and placed, and every right port has to pass."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from align.alignment import Specimen
from align.core.case import Settings
from align.core.inputs import DRAW
from align.core.result import AlignmentResult
from align.faults.fault import Fault, Planted
from align.run import align
from align.selftest.outcome import Caught, RightPort, SelfTest, Sensitivity
from convert.errors import MixerConvertError

REFUSED = "refused"
"""What stands in place of a gate's name if the comparison was refused."""

DIGITS = 16
"""Number of powers of ten tried, as many as float64 has digits: no smaller fault can be planted."""

Closeness = Callable[[AlignmentResult], Mapping[str, float]]
"""Returns how near a result comes to each bound, as a share of the bound, by the bound's name."""


def selftest(
    specimens: Mapping[str, Specimen],
    *,
    seeds: int = 3,
    progress: Callable[[str], None] = lambda _: None,
    closeness: Closeness = lambda _: {},
) -> SelfTest:
    """Return how the gate did on every fault of the catalogues and on right ports.

    Args:
        specimens: What to plant the faults in, by name.
        seeds: How many seeds, of weights and images, a right port is run with; each on every kind of input.
        progress: Called with what is about to run.
        closeness: Measures how near each right port comes to the bounds.
    """
    findings: list[Caught] = []
    right_ports: list[RightPort] = []
    sensitivities: list[Sensitivity] = []
    for name, specimen in specimens.items():
        right = specimen.case(Settings(), 0)
        for fault in specimen.faults():
            planted = fault.plant(right)
            if planted is not None:
                progress(f"{name}: {fault.name}")
                findings.append(try_fault(fault, planted, name, specimen))
        progress(f"{name}: the smallest fault")
        sensitivities += _sensitivities(name, specimen)
        for port, result in _right_ports(name, specimen, seeds, progress):
            right_ports.append(replace(port, closest=closeness(result)))
    return SelfTest(findings=tuple(findings), right_ports=tuple(right_ports), sensitivities=tuple(sensitivities))


def try_fault(fault: Fault, planted: Planted, name: str, specimen: Specimen) -> Caught:
    """Return what becomes of one fault at the gate."""
    blamed, failed = planted.layer, True
    gates: tuple[str, ...] = (REFUSED,)
    logits: float | None = None
    with contextlib.suppress(MixerConvertError):
        result = align_with(planted, specimen)
        blamed = result.first_divergence.layer if result.first_divergence else ""
        gates = tuple(gate.name for gate in result.gates if gate.passed is False)
        logits = result.headline.float32.inherited.max_abs_diff if result.headline else None
        failed = result.failed() and result.verdict != "rounding"
    return Caught(
        fault=fault.name,
        kind=fault.kind,
        config=name,
        outcome="missed" if not failed else "caught" if blamed == planted.layer else "misplaced",
        planted=planted.layer,
        blamed=blamed,
        gates=gates,
        logits=logits,
    )


def align_with(planted: Planted, specimen: Specimen) -> AlignmentResult:
    """Return the result of aligning a port with this fault."""
    with planted.around():
        return align(specimen.case(Settings(), 0, planted))


def _right_ports(
    name: str, specimen: Specimen, seeds: int, progress: Callable[[str], None]
) -> Iterator[tuple[RightPort, AlignmentResult]]:
    for seed in range(seeds):
        for kind in DRAW:
            progress(f"{name}: a right port, seed {seed}, {kind} inputs")
            settings = Settings(input_seed=seed, inputs=kind)
            result = align(specimen.case(settings, seed), settings)
            yield RightPort(config=name, seed=seed, inputs=kind, verdict=result.verdict), result


def _sensitivities(name: str, specimen: Specimen) -> Iterator[Sensitivity]:
    right = specimen.case(Settings(), 0)
    for what, fault_of in specimen.sensitivities().items():
        if fault_of(1.0).plant(right) is None:
            continue

        def caught(exponent: int, fault_of: Callable[[float], Fault] = fault_of) -> bool:
            fault = fault_of(10.0**-exponent)
            planted = fault.plant(right)
            return planted is not None and try_fault(fault, planted, name, specimen).outcome == "caught"

        finest = bisect.bisect_left(range(1, DIGITS + 1), x=True, key=lambda exponent: not caught(exponent))
        smallest = 10.0**-finest if finest else None
        unseen = 10.0 ** -(finest + 1) if finest < DIGITS else None
        yield Sensitivity(config=name, what=what, smallest=smallest, unseen=unseen)
