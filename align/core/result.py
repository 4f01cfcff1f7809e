"""What an alignment found: plain records of scalars, from one difference up to the whole result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from align.core.compare import LayerDiff

Verdict = Literal["aligned", "rounding", "diverged", "inconclusive"]
GateName = Literal["structure", "weights", "float64", "float32", "determinism", "backward", "training"]
LOGITS = "logits"
Reference = Literal["timm", "flax"]
FRAMEWORKS: dict[Reference, str] = {"timm": "torch", "flax": "Flax"}
"""What to call the reference's side in a sentence."""

SIDES = {
    "introduced": ("{reference}", "Paddle"),
    "inherited": ("{reference}", "Paddle"),
    "reference_vs_witness": ("the witness", "{reference}"),
    "candidate_vs_witness": ("the witness", "Paddle"),
}
"""Who stands on the reference's side and on the candidate's side of each figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """One layer in one precision.

    inherited: each side ran on its own activations. introduced: the candidate was given the reference's input to this
    layer. The other two: each side's own distance from the witness.
    """

    inherited: LayerDiff
    introduced: LayerDiff
    reference_vs_witness: LayerDiff
    candidate_vs_witness: LayerDiff

    def each(self) -> tuple[LayerDiff, LayerDiff, LayerDiff, LayerDiff]:
        """Return all four."""
        return self.inherited, self.introduced, self.reference_vs_witness, self.candidate_vs_witness


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One comparison point in both precisions."""

    name: str
    float64: Differences
    float32: Differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong at a layer that is not a difference of activations: a shape, a parameter, a missing point."""

    layer: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate's outcome: passed, failed, or None where an earlier failure left nothing to run."""

    name: GateName
    passed: bool | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where the sides part first, and the one line that says so."""

    layer: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure of a gate that does not go by layers, against its bound.

    name says what was measured (a parameter, an optimizer's step), detail where it is worst. A figure without a bound
    is shown and not judged.
    """

    name: str
    layer: str
    figure: float
    bound: float | None
    detail: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A gate beyond the forward's four: determinism, backward, training."""

    gate: Gate
    checks: tuple[Check, ...]
    divergence: Divergence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentResult:
    """The whole outcome of one alignment."""

    variant: str
    gates: tuple[Gate, ...]
    layers: tuple[LayerRow, ...]
    verdict: Verdict
    first_divergence: Divergence | None
    input_sha256: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    sections: tuple[Section, ...] = ()

    def gate(self, name: GateName) -> Gate:
        """Return one gate's outcome."""
        return next(gate for gate in self.gates if gate.name == name)

    def failed(self, *, accept_rounding: bool = False) -> bool:
        """Return whether a CI job has to stop."""
        return self.verdict != "aligned" and not (self.verdict == "rounding" and accept_rounding)
