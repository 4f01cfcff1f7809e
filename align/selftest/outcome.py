"""What the self-test found: what became of each fault, how right ports fared, and the smallest faults that are seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from align.core.inputs import Kind

Outcome = Literal["caught", "misplaced", "missed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """What became of one fault in one config.

    gates are those that failed; blamed is the layer that the verdict names, planted the one that it should name. logits
    is the float32 difference of the logits, all that a gate on logits alone would see; None if nothing was compared.
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
    """How a right port fared on one seed and kind of input.

    closest: how near it came to each bound, as a share of the bound, by the bound's name; empty if not measured.
    """

    config: str
    seed: int
    inputs: Kind
    verdict: str
    closest: Mapping[str, float] = field(default_factory=dict)

    @property
    def false_alarm(self) -> bool:
        """Whether it failed; `rounding` is no failure, as it says that the function is right."""
        return self.verdict not in ("aligned", "rounding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The smallest power of ten by which one thing can be wrong and be caught, and the largest at which it is not.

    Either is None if there is none.
    """

    config: str
    what: str
    smallest: float | None
    unseen: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """The whole outcome of a self-test."""

    findings: tuple[Caught, ...]
    right_ports: tuple[RightPort, ...]
    sensitivities: tuple[Sensitivity, ...]

    @property
    def survivors(self) -> list[Caught]:
        """The faults that were not caught, or were blamed on the wrong layer."""
        return [finding for finding in self.findings if finding.outcome != "caught"]

    @property
    def false_alarms(self) -> list[RightPort]:
        """The right ports that failed."""
        return [port for port in self.right_ports if port.false_alarm]

    @property
    def passed(self) -> bool:
        """Whether every fault was caught and placed, no right port failed, and both were tried."""
        return bool(self.findings and self.right_ports) and not self.survivors and not self.false_alarms
