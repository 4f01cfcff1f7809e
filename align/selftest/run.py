"""The gate's own test: every planted fault has to be caught and placed, and no right port may be failed."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from align.core.inputs import DRAW, Kind
from align.core.result import LOGITS, AlignmentResult
from align.core.weights import in_float32
from align.faults.fault import Fault, Planted
from align.mixer import faults
from align.probes import paddle_probe, torch_probe
from align.run import Settings, Subject, align
from convert.arrays import StateDict
from convert.errors import MixerConvertError
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, MixerKind, get_variant

Outcome = Literal["caught", "misplaced", "missed"]
REFUSED = "refused"
"""Stands for the gate where the comparison would not even start."""

DIGITS = 16
"""As many as float64 has: no smaller fault can be planted."""

SMALL = MixerConfig(
    image_size=32, patch_size=4, num_blocks=4, hidden_dim=24, tokens_mlp_dim=64, channels_mlp_dim=96, num_classes=10
)
"""64 tokens and tokens_mlp_dim 64: square weights, whose layout no shape tells."""


def small(family: MixerKind) -> MixerConfig:
    """Return the small config of a family."""
    return replace(SMALL, family=family, tokens_mlp_dim=64 if family in ("mixer", "gmixer") else 0)


CONFIGS: Mapping[str, MixerConfig] = {
    "s32": get_variant("s32").config,
    "small-mixer": small("mixer"),
    "small-gmixer": small("gmixer"),
    "small-resmlp": small("resmlp"),
    "small-gmlp": small("gmlp"),
}
"""What the self-test runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one fault in one config.

    gates are those that failed; blamed is the layer that the verdict names, planted the one that it should. logits is
    the float32 difference of the logits, which a gate on logits alone would see; None where nothing was compared.
    """

    fault: str
    kind: str
    config: str
    outcome: Outcome
    planted: str
    blamed: str
    gates: tuple[str, ...]
    logits: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RightPort:
    """How a right port fared on one seed and kind of input."""

    config: str
    seed: int
    inputs: Kind
    verdict: str

    @property
    def false_alarm(self) -> bool:
        """Whether it was failed; `rounding` says that the function is the right one."""
        return self.verdict not in ("aligned", "rounding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The smallest power of ten, as a ratio, by which one thing can be wrong and still be caught; None if none is."""

    config: str
    what: str
    smallest: float | None


SENSITIVITIES: Mapping[str, Callable[[float], Fault]] = {
    "one layer's output, relative": faults.scaled,
    "one layer's output, relative, float32 only": lambda by: faults.scaled(by, float32_only=True),
    "LayerNorm epsilon, relative": faults.epsilon_off,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """The whole outcome."""

    findings: tuple[Finding, ...]
    right_ports: tuple[RightPort, ...]
    sensitivities: tuple[Sensitivity, ...]

    @property
    def survivors(self) -> list[Finding]:
        """The faults that were not caught, or blamed on the wrong layer."""
        return [finding for finding in self.findings if finding.outcome != "caught"]

    @property
    def false_alarms(self) -> list[RightPort]:
        """The right ports that were failed."""
        return [port for port in self.right_ports if port.false_alarm]

    @property
    def passed(self) -> bool:
        """Whether every fault was caught and placed, no right port failed, and both were tried."""
        return bool(self.findings and self.right_ports) and not self.survivors and not self.false_alarms


def selftest(
    names: Sequence[str] = tuple(CONFIGS), *, seeds: int = 3, progress: Callable[[str], None] = lambda _: None
) -> SelfTest:
    """Return how the gate did on every fault of the catalogue and on right ports.

    Args:
        names: Of CONFIGS.
        seeds: How many seeds, of weights and images, a right port is run with; each on every kind of input.
        progress: Is told what is about to run.
    """
    findings: list[Finding] = []
    right_ports: list[RightPort] = []
    sensitivities: list[Sensitivity] = []
    for name in names:
        config = CONFIGS[name]
        source = init_state_dict(config, 0)
        for fault in faults.CATALOGUE:
            planted = fault.plant(config)
            if planted is not None:
                progress(f"{name}: {fault.name}")
                findings.append(try_fault(fault, planted, name, config, source))
        progress(f"{name}: the smallest fault")
        sensitivities += _sensitivities(name, config, source)
        right_ports += _right_ports(name, config, seeds, progress)
    return SelfTest(findings=tuple(findings), right_ports=tuple(right_ports), sensitivities=tuple(sensitivities))


def try_fault(fault: Fault, planted: Planted, name: str, config: MixerConfig, source: StateDict) -> Finding:
    """Return what the gate makes of one fault."""
    blamed, failed = planted.layer, True
    gates: tuple[str, ...] = (REFUSED,)
    logits: float | None = None
    with contextlib.suppress(MixerConvertError):
        result = align_with(planted, config, source)
        blamed = result.first_divergence.layer if result.first_divergence else ""
        gates = tuple(gate.name for gate in result.gates if gate.passed is False)
        logits = next((row.float32.inherited.max_abs_diff for row in result.layers if row.name == LOGITS), None)
        failed = result.failed() and result.verdict != "rounding"
    return Finding(
        fault=fault.name,
        kind=fault.kind,
        config=name,
        outcome="missed" if not failed else "caught" if blamed == planted.layer else "misplaced",
        planted=planted.layer,
        blamed=blamed,
        gates=gates,
        logits=logits,
    )


def align_with(planted: Planted, config: MixerConfig, source: StateDict) -> AlignmentResult:
    """Return the alignment of a port with this fault."""
    altered = dict(source)
    planted.source(altered)
    candidate = dict(convert_state_dict(altered, config).state_dict)
    planted.weights(candidate)
    subject = Subject(source=altered, config=config, name="planted", candidate=candidate)

    def build_reference(subject: Subject) -> Any:
        model = torch_probe.build(subject.config, subject.variant, in_float32(subject.source))
        planted.reference(model)
        return model

    def build_candidate(config: MixerConfig, state_dict: StateDict) -> Any:
        model = paddle_probe.build(config, state_dict)
        planted.model(model)
        return model

    with planted.around():
        return align(subject, build_reference=build_reference, build_candidate=build_candidate)


def _right_ports(name: str, config: MixerConfig, seeds: int, progress: Callable[[str], None]) -> Iterator[RightPort]:
    for seed in range(seeds):
        subject = Subject(source=init_state_dict(config, seed), config=config, name=name)
        for kind in DRAW:
            progress(f"{name}: a right port, seed {seed}, {kind} inputs")
            result = align(subject, Settings(input_seed=seed, inputs=kind))
            yield RightPort(config=name, seed=seed, inputs=kind, verdict=result.verdict)


def _sensitivities(name: str, config: MixerConfig, source: StateDict) -> Iterator[Sensitivity]:
    for what, fault_of in SENSITIVITIES.items():
        if fault_of(1.0).plant(config) is None:
            continue

        def caught(exponent: int, fault_of: Callable[[float], Fault] = fault_of) -> bool:
            fault = fault_of(10.0**-exponent)
            planted = fault.plant(config)
            return planted is not None and try_fault(fault, planted, name, config, source).outcome == "caught"

        finest = bisect.bisect_left(range(1, DIGITS + 1), x=True, key=lambda exponent: not caught(exponent))
        yield Sensitivity(config=name, what=what, smallest=10.0**-finest if finest else None)
