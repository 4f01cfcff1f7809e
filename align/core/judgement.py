"""The judgement over what an alignment found: gates, verdict, first divergence, and the sentence for CI."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from align.core.compare import LayerDiff
from align.core.result import (
    FRAMEWORKS,
    LOGITS,
    SIDES,
    AlignmentResult,
    Divergence,
    Finding,
    Gate,
    LayerRow,
    Reference,
    Section,
    Verdict,
)

VACUOUS = (
    "every logit is 0 on every side, so comparing them proves nothing. Give the head weights; timm initialises it to 0"
)


def judge(
    structure: Iterable[Finding],
    weights: Sequence[Finding] | None,
    layers: tuple[LayerRow, ...],
    *,
    reference: Reference = "timm",
) -> tuple[tuple[Gate, ...], Verdict, Divergence | None]:
    """Return the gates, the verdict and the first divergence.

    Args:
        structure: Findings about points, shapes, dtypes and keys, in forward order.
        weights: Parameters whose bits are not the source's, in forward order; None when they could not be compared.
        layers: The measured layers, in forward order; empty when the structure left nothing to compare.
        reference: What stood on the reference's side.
    """
    side = FRAMEWORKS[reference]
    wrong_structure = [*structure, *_not_finite(layers, side)]
    logits = next((row.float32.inherited for row in layers if row.name == LOGITS), None)
    over64 = [row for row in layers if not all(diff.passed for diff in row.float64.each())]
    over32 = [row for row in layers if not row.float32.introduced.passed]
    vacuous = [Finding(layer=LOGITS, sentence=VACUOUS)] if logits is not None and logits.scale == 0 else []
    gates = (
        _structure_gate(layers, [*wrong_structure, *vacuous]),
        _weights_gate(weights),
        _float64_gate(layers, over64),
        _float32_gate(layers, over32, logits),
    )
    sound = not wrong_structure and bool(layers) and all(gate.passed for gate in gates[1:3]) and not over32
    verdict = _verdict(sound=sound, vacuous=bool(vacuous), logits=logits)
    divergence = None
    if verdict == "diverged":
        divergence = _first_divergence(wrong_structure, weights or [], layers, side)
    elif vacuous:
        divergence = Divergence(layer=LOGITS, sentence=f"{LOGITS}: {VACUOUS}")
    return gates, verdict, divergence


def _verdict(*, sound: bool, vacuous: bool, logits: LayerDiff | None) -> Verdict:
    if not sound:
        return "diverged"
    if vacuous:
        return "inconclusive"
    return "aligned" if logits is not None and logits.passed else "rounding"


def with_section(result: AlignmentResult, section: Section) -> AlignmentResult:
    """Return the result with one more gate; one that fails turns a good verdict into a bad one."""
    verdict = verdict_with(section.gate, result.gates, result.verdict)
    return replace(
        result,
        gates=(*result.gates, section.gate),
        sections=(*result.sections, section),
        verdict=verdict,
        first_divergence=result.first_divergence if verdict == result.verdict else section.divergence,
    )


def verdict_with(gate: Gate, before: Sequence[Gate], verdict: Verdict) -> Verdict:
    """Return the verdict when a gate joins those before.

    A side that does not repeat itself proves nothing either way, so a failed determinism gate is inconclusive, unless
    structure or weights, which nothing random can touch, are at fault.
    """
    if gate.passed is not False:
        return verdict
    if gate.name == "determinism" and all(g.passed is not False for g in before if g.name in ("structure", "weights")):
        return "inconclusive"
    return verdict if verdict in ("diverged", "inconclusive") else "diverged"


def _structure_gate(layers: tuple[LayerRow, ...], findings: Sequence[Finding]) -> Gate:
    if findings:
        return Gate(name="structure", passed=False, sentence=_summary(findings))
    sentence = f"{len(layers)} points, all finite" if layers else "nothing was compared"
    return Gate(name="structure", passed=bool(layers), sentence=sentence)


def _weights_gate(findings: Sequence[Finding] | None) -> Gate:
    if findings is None:
        return Gate(name="weights", passed=None, sentence="not run")
    sentence = _summary(findings) if findings else "every parameter holds the source's bits"
    return Gate(name="weights", passed=not findings, sentence=sentence)


def _summary(findings: Sequence[Finding]) -> str:
    return findings[0].sentence + (f" (and {len(findings) - 1} more)" if len(findings) > 1 else "")


def _float64_gate(layers: tuple[LayerRow, ...], over: list[LayerRow]) -> Gate:
    if not layers:
        return Gate(name="float64", passed=None, sentence="not run")
    worst = max((diff for row in layers for diff in row.float64.each()), key=_severity)
    sentence = f"{len(over)} of {len(layers)} points over; worst {_figure(worst)} at {worst.name}"
    return Gate(name="float64", passed=not over, sentence=sentence)


def _float32_gate(layers: tuple[LayerRow, ...], over: list[LayerRow], logits: LayerDiff | None) -> Gate:
    if logits is None:
        return Gate(name="float32", passed=None, sentence="not run")
    worst = max((row.float32.introduced for row in layers), key=lambda diff: _nan_last(diff.max_ulp_diff))
    sentence = (
        f"logits {_figure(logits)}; introduced at most {worst.max_ulp_diff:.3g} ulp (at {worst.name}), "
        f"{len(over)} of {len(layers)} points over"
    )
    return Gate(name="float32", passed=logits.passed and not over, sentence=sentence)


def _first_divergence(
    structure: Sequence[Finding], weights: Sequence[Finding], layers: tuple[LayerRow, ...], side: str
) -> Divergence | None:
    """Return the first layer whose introduced float64 difference is over, else the first with any other evidence."""
    introduced64 = [row for row in layers if not row.float64.introduced.passed]
    if introduced64:
        row = introduced64[0]
        cause = next((f"; {f.sentence}" for f in weights if f.layer == row.name), "")
        return Divergence(
            layer=row.name, sentence=f"{_introduced(row, 'float64', side)}{cause}; {_who_left(row, side)}"
        )
    for finding in (*structure, *weights):
        return Divergence(layer=finding.layer, sentence=f"{finding.layer}: {finding.sentence}")
    return next(_other_evidence(layers, side), None)


def _other_evidence(layers: tuple[LayerRow, ...], side: str) -> Iterator[Divergence]:
    for row in layers:
        if not row.float32.introduced.passed:
            yield Divergence(layer=row.name, sentence=f"{_introduced(row, 'float32', side)}; {_who_left(row, side)}")
    for row in layers:
        for diff in row.float64.each():
            if not diff.passed:
                sentence = f"{row.name}: float64 difference {_figure(diff)}; {_who_left(row, side)}"
                yield Divergence(layer=row.name, sentence=sentence)


def _introduced(row: LayerRow, precision: Literal["float64", "float32"], side: str) -> str:
    diff = row.float64.introduced if precision == "float64" else row.float32.introduced
    return (
        f"{row.name}: introduced {precision} difference {_figure(diff)} in {diff.num_over} of {diff.num_elements} "
        f"elements, at {list(diff.worst_index)} {side} {diff.reference_value:.9g}, Paddle {diff.candidate_value:.9g}"
    )


def _who_left(row: LayerRow, side: str) -> str:
    """Say which side left the witness at this layer, on its own activations in float64."""
    reference, paddle = row.float64.reference_vs_witness, row.float64.candidate_vs_witness
    if reference.passed and paddle.passed:
        return "in float64 both sides agree with the NumPy witness here"
    if reference.passed:
        return f"Paddle left the NumPy witness ({paddle.max_abs_diff:.1e}; {side} {reference.max_abs_diff:.1e})"
    if paddle.passed:
        return f"{side} left the NumPy witness ({reference.max_abs_diff:.1e}; Paddle {paddle.max_abs_diff:.1e})"
    return f"both left the NumPy witness ({side} {reference.max_abs_diff:.1e}, Paddle {paddle.max_abs_diff:.1e})"


def _not_finite(layers: tuple[LayerRow, ...], side: str) -> Iterator[Finding]:
    """Yield a finding for each layer where any side, in either precision, shows a NaN or an infinity."""
    for row in layers:
        for differences, figure in itertools.product((row.float64, row.float32), SIDES):
            diff = getattr(differences, figure)
            if not math.isfinite(diff.max_abs_diff):
                values = zip(SIDES[figure], (diff.reference_value, diff.candidate_value), strict=True)
                who = " and ".join(name.format(reference=side) for name, value in values if not math.isfinite(value))
                yield Finding(layer=row.name, sentence=f"{who} is not finite at {list(diff.worst_index)}")
                break


def _figure(diff: LayerDiff) -> str:
    sign = "≤" if diff.max_abs_diff <= diff.bound else "exceeds"
    return f"{diff.max_abs_diff:.2e} {sign} {diff.bound:.1e}"


def _severity(diff: LayerDiff) -> float:
    return _nan_last(diff.max_abs_diff / diff.bound)


def _nan_last(value: float) -> float:
    """Order NaN above every number."""
    return math.inf if math.isnan(value) else value
