"""What an alignment found: plain records of scalars, from one difference up to the whole result."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from align.core.bounds import Accepted
from align.core.compare import LayerDiff

Verdict = Literal["aligned", "rounding", "diverged", "inconclusive"]
GateName = Literal[
    "structure",
    "weights",
    "float64",
    "float32",
    "output",
    "batch",
    "stress",
    "redrawn",
    "determinism",
    "state",
    "settings",
    "backward",
    "training",
]

FIGURES = {
    "introduced": ("{reference}", "{candidate}"),
    "inherited": ("{reference}", "{candidate}"),
    "reference_vs_witness": ("{witness}", "{reference}"),
    "candidate_vs_witness": ("{witness}", "{candidate}"),
}
"""Which side stands in the reference's place and which in the candidate's, for each figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """The differences at one layer in one precision.

    inherited: each side ran on its own activations. introduced: the candidate was given the reference's input to this
    layer. The other two: each side's own distance from the witness or, without a witness, from the reference in
    float64; None in float64 without a witness.
    """

    inherited: LayerDiff
    introduced: LayerDiff
    reference_vs_witness: LayerDiff | None
    candidate_vs_witness: LayerDiff | None

    def each(self) -> dict[str, LayerDiff]:
        """Return the differences that were measured, by the name of the figure."""
        figures = {figure: getattr(self, figure) for figure in FIGURES}
        return {figure: diff for figure, diff in figures.items() if diff is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One comparison point in both precisions, and what its bounds follow from.

    size, slack: As in `align.core.bounds.Roundings`; size is None if the arithmetic of the point is not known.
    """

    name: str
    float64: Differences
    float32: Differences
    size: float | None = None
    slack: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong at a layer that is not a difference of activations: a shape, a parameter, a missing point.

    is_open: Whether nothing was seen to be wrong, but something was not compared, so that nothing is proved.
    """

    layer: str
    sentence: str
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate's outcome: passed, failed, or None where an earlier failure left nothing to run."""

    name: GateName
    passed: bool | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where the sides first diverge, and the sentence that says so."""

    layer: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure and its bound, from a gate that is not judged layer by layer.

    group says which run it belongs to (an optimizer, a schedule, a step), subject what was measured, kind how (float64,
    float32, finite difference), detail where it is worst. A figure without a bound is shown but not judged.
    """

    group: tuple[str, ...] = ()
    subject: str
    kind: str = ""
    layer: str
    figure: float
    bound: float | None
    detail: str
    passed: bool

    @property
    def name(self) -> str:
        """What a report calls it."""
        return "/".join(part for part in (*self.group, self.subject, self.kind) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A gate beyond the forward's four, such as determinism or training."""

    gate: Gate
    checks: tuple[Check, ...] = ()
    divergence: Divergence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What a sentence calls the sides, the point of the models' result, and whether there is a witness."""

    reference: str
    candidate: str
    headline: str
    witness: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AlignmentResult:
    """The whole outcome of one alignment; it is true if the verdict is `aligned`, so that it can be asserted.

    With accept_rounding it is also true if the verdict is `rounding`. The verdict itself is the same either way.

    verdict: aligned, rounding, diverged or inconclusive. gates: What had to hold, each passed (True), failed (False) or
    not run (None), with a sentence. first_divergence: The first layer at fault and the sentence that says so, or None.
    layers: A row per comparison point, in forward order, with the differences in float64 and float32. left_out: The
    points that could not be compared, and why. accepted: The points whose difference is accepted. A notebook shows the
    verdict, the gates and the chart of the layers.

    Example:
        >>> import paddle, torch
        >>> result = align.align(torch.nn.Linear(4, 3), paddle.nn.Linear(4, 3), input_shape=[4], draw=True)
        >>> isinstance(result, align.AlignmentResult), [gate.name for gate in result.gates][:4]
        (True, ['structure', 'weights', 'float64', 'float32'])
    """

    variant: str
    sides: Sides
    gates: tuple[Gate, ...]
    layers: tuple[LayerRow, ...]
    verdict: Verdict
    first_divergence: Divergence | None
    left_out: Mapping[str, str]
    input_sha256: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    sections: tuple[Section, ...] = ()
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    accept_rounding: bool = False

    def __bool__(self) -> bool:
        """Return whether the verdict is `aligned`, or is `rounding` and that is accepted."""
        return not self.failed(accept_rounding=self.accept_rounding)

    def __repr__(self) -> str:
        """Return the verdict and what did not pass; the rest is in the fields."""
        wrong = [gate.name for gate in self.gates if gate.passed is False]
        where = f" at {self.first_divergence.layer}" if self.first_divergence else ""
        failed = f", failed: {', '.join(wrong)}" if wrong else ""
        return f"<AlignmentResult {self.variant}: {self.verdict}{where}, {len(self.layers)} points{failed}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows. The renderer is looked up by name: a result does not know how it is shown."""
        return str(pkgutil.resolve_name("align.render.notebook:fragment")(self))

    def gate(self, name: GateName) -> Gate:
        """Return one gate's outcome."""
        return next(gate for gate in self.gates if gate.name == name)

    @property
    def headline(self) -> LayerRow | None:
        """The row of the models' result, such as the logits; None if nothing was measured."""
        return next((row for row in self.layers if row.name == self.sides.headline), None)

    def failed(self, *, accept_rounding: bool = False) -> bool:
        """Return whether a CI job has to fail."""
        return self.verdict != "aligned" and not (self.verdict == "rounding" and accept_rounding)
