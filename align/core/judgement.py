"""The judgement of what was found, in an alignment or against a recorded trace: gates, verdict, first divergence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from align.core.bounds import Precision
from align.core.result import AlignmentResult, Divergence, Finding, Gate, Section, Verdict

LISTED = 6
"""Maximum number of points that a sentence names among those left out for one reason."""


class Row(Protocol):
    """What was measured at one point, whichever figures that takes."""

    @property
    def name(self) -> str:
        """The name of the point."""

    def passed(self, precision: Precision) -> bool:
        """Return whether all that is judged at the point is within its bounds."""

    def severity(self, precision: Precision) -> float:
        """Return how bad its worst figure is, for comparison with other rows; NaN counts as infinite."""

    def figure(self, precision: Precision) -> str:
        """Return its worst figure and the bound, worded for a gate's sentence."""

    def placed(self, precision: Precision) -> str | None:
        """Return in words what went wrong at this very point; None if nothing did."""

    def not_finite(self) -> str | None:
        """Return in words which side is not finite at the point; None if all are."""

    def beyond(self) -> str | None:
        """Return in words what is over its bound at the point, wherever it comes from; None if nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The float32 figure of the headline point, the models' result; vacuous says why it proves nothing, if it does."""

    name: str
    passed: bool
    sentence: str
    vacuous: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was found, to be judged.

    structure: Findings about points, shapes, dtypes and keys. weights: Parameters whose bits are not those expected;
    None when they could not be compared. rows: The points measured; empty when the structure left nothing to compare.
    All in forward order. headline: None if there are no rows. whose: Whose bits the weights have to have. left_out: The
    points that could not be compared, and why. mispaired: A point that differs although nothing after it does, so that
    its pairing is at fault, not the models.
    """

    structure: Sequence[Finding]
    weights: Sequence[Finding] | None
    rows: Sequence[Row]
    headline: Headline | None
    whose: str = "the source's"
    left_out: Mapping[str, str] | None = None
    mispaired: Divergence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The gates in order, the verdict, and where the sides first diverge."""

    gates: tuple[Gate, ...]
    verdict: Verdict
    first_divergence: Divergence | None


def judge(evidence: Evidence) -> Judgement:
    """Return the gates of structure, weights, float64 and float32, the verdict, and the first divergence."""
    rows, headline = evidence.rows, evidence.headline
    infinite = (Finding(layer=row.name, sentence=said) for row in rows if (said := row.not_finite()))
    structure = [*evidence.structure, *infinite]
    vacuous = headline.vacuous if headline else ""
    void = [Finding(layer=headline.name, sentence=vacuous)] if headline and vacuous else []
    gates = (
        _findings_gate("structure", [*structure, *void], _points(evidence), ran=bool(rows)),
        _findings_gate("weights", evidence.weights, f"every parameter holds {evidence.whose} bits", ran=True),
        _float64_gate(rows),
        _float32_gate(rows, headline),
    )
    within = all(row.passed("float32") for row in rows)
    is_open = bool(structure) and all(finding.is_open for finding in structure)
    compared = not structure and bool(rows)
    sound = (compared or is_open) and all(gate.passed is not False for gate in gates[1:3]) and within
    verdict = _verdict(sound=sound, headline=headline, is_open=is_open)
    divergence = None
    if evidence.mispaired is not None and headline is not None and headline.passed and not (structure or void):
        verdict, divergence = "inconclusive", evidence.mispaired
    elif verdict == "diverged" or is_open:
        divergence = next(_divergences(structure, evidence.weights or (), rows), None)
    elif headline is not None and vacuous:
        divergence = Divergence(layer=headline.name, sentence=f"{headline.name}: {vacuous}")
    return Judgement(gates=gates, verdict=verdict, first_divergence=divergence)


def with_section(result: AlignmentResult, section: Section) -> AlignmentResult:
    """Return the result with one more gate, which turns a good verdict into a bad one if it fails."""
    verdict = verdict_with(section.gate, result.gates, result.verdict)
    return replace(
        result,
        gates=(*result.gates, section.gate),
        sections=(*result.sections, section),
        verdict=verdict,
        first_divergence=result.first_divergence if verdict == result.verdict else section.divergence,
    )


def verdict_with(gate: Gate, before: Sequence[Gate], verdict: Verdict) -> Verdict:
    """Return the verdict after one more gate.

    A side that does not repeat itself proves nothing either way, so a failed determinism gate is inconclusive, unless
    structure or weights, which nothing random can affect, are at fault. A mispaired point is no excuse for an output
    that differs.
    """
    if gate.passed is not False:
        return verdict
    failed = {one.name for one in before if one.passed is False}
    if gate.name in ("output", "redrawn") and "float64" in failed and "determinism" not in failed:
        return "diverged"
    if gate.name == "determinism" and all(g.passed is not False for g in before if g.name in ("structure", "weights")):
        return "inconclusive"
    return verdict if verdict in ("diverged", "inconclusive") else "diverged"


def nan_last(value: float) -> float:
    """Return the value, or infinity for NaN, so that NaN sorts after every number."""
    return math.inf if math.isnan(value) else value


def _verdict(*, sound: bool, headline: Headline | None, is_open: bool) -> Verdict:
    if not sound or (headline is None and not is_open):
        return "diverged"
    if headline is None or is_open or headline.vacuous:
        return "inconclusive"
    return "aligned" if headline.passed else "rounding"


def _points(evidence: Evidence) -> str:
    """Return the structure gate's sentence if nothing is wrong: how many points, and those left out."""
    left_out = evidence.left_out or {}
    said = f"{len(evidence.rows)} points, all finite"
    for why in dict.fromkeys(left_out.values()):
        points = [name for name, reason in left_out.items() if reason == why]
        more = f" and {len(points) - LISTED} more" if len(points) > LISTED else ""
        said += f"; left out, {why}: {', '.join(points[:LISTED])}{more}"
    return said


def _findings_gate(name: str, findings: Sequence[Finding] | None, good: str, *, ran: bool) -> Gate:
    gate = Gate(name="structure" if name == "structure" else "weights", passed=None, sentence="not run")
    if findings is None:
        return gate
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        return replace(gate, passed=False, sentence=findings[0].sentence + more)
    return replace(gate, passed=ran, sentence=good if ran else "nothing was compared")


def _float64_gate(rows: Sequence[Row]) -> Gate:
    if not rows:
        return Gate(name="float64", passed=None, sentence="not run")
    over, worst = _over_and_worst(rows, "float64")
    sentence = f"{over} of {len(rows)} points over; worst {worst.figure('float64')}"
    return Gate(name="float64", passed=not over, sentence=sentence)


def _float32_gate(rows: Sequence[Row], headline: Headline | None) -> Gate:
    if headline is None:
        return Gate(name="float32", passed=None, sentence="not run")
    over, worst = _over_and_worst(rows, "float32")
    sentence = f"{headline.sentence}; {worst.figure('float32')}, {over} of {len(rows)} points over"
    return Gate(name="float32", passed=headline.passed and not over, sentence=sentence)


def _over_and_worst(rows: Sequence[Row], precision: Precision) -> tuple[int, Row]:
    over = sum(not row.passed(precision) for row in rows)
    return over, max(rows, key=lambda row: row.severity(precision))


def _divergences(structure: Iterable[Finding], weights: Sequence[Finding], rows: Sequence[Row]) -> Iterator[Divergence]:
    """Yield what may be to blame, most convincing first: a point over its bound in float64, then any other evidence."""
    for row in rows:
        if (said := row.placed("float64")) is not None:
            cause = next((f"; {finding.sentence}" for finding in weights if finding.layer == row.name), "")
            yield Divergence(layer=row.name, sentence=f"{row.name}: {said}{cause}")
    for finding in (*structure, *weights):
        yield Divergence(layer=finding.layer, sentence=f"{finding.layer}: {finding.sentence}")
    for row in rows:
        if (said := row.placed("float32")) is not None:
            yield Divergence(layer=row.name, sentence=f"{row.name}: {said}")
    for row in rows:
        if (said := row.beyond()) is not None:
            yield Divergence(layer=row.name, sentence=f"{row.name}: {said}")
