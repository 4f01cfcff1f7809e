"""An alignment read back from a bundle, judged again from its figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from align.core.bounds import LOGITS_ATOL
from align.core.compare import LayerDiff
from align.core.judgement import judge, verdict_with
from align.core.layer_rows import evidence_of
from align.core.result import FIGURES, Differences, Finding, Gate, LayerRow, Sides

FORWARD = 4
"""Gates of the forward pass, which follow from the layers' figures."""

FORMER_SIDES = {"timm": "torch", "flax": "Flax"}
"""What alignments called the reference's side before they said so themselves."""


def contradiction(data: dict[str, Any]) -> str | None:
    """Return what in an alignment does not follow from its figures, or None.

    A finding about structure or weights leaves no figure behind: it is taken as it stands, and can only be bad.
    """
    layers = tuple(_row(layer) for layer in data["layers"])
    sides = _sides(data)
    if (wrong := next(_misjudged(layers, sides), None)) is not None:
        return wrong
    gates = [Gate(**gate) for gate in data["gates"]]
    evidence = evidence_of([], _weights(gates[1]), layers, sides, data.get("left_out", {}))
    judged = judge(evidence)
    if judged.gates[0].passed and gates[0].passed is False:
        judged = judge(replace(evidence, structure=[Finding(layer="", sentence=gates[0].sentence)]))
    found, verdict = judged.gates, judged.verdict
    for again, gate in zip(found, gates[:FORWARD], strict=True):
        stated = (gate.name, gate.passed, gate.sentence if gate.passed else "")
        if stated != (again.name, again.passed, again.sentence if gate.passed else ""):
            return f"gate {gate.name} does not follow from the layers"
    further = [Gate(**section["gate"]) for section in data["sections"]]
    if further != gates[FORWARD:]:
        return "the further gates are not those of the sections"
    for gate in further:
        found, verdict = (*found, gate), verdict_with(gate, found, verdict)
    return None if verdict == data["verdict"] else f"verdict {data['verdict']} does not follow from the gates"


def _sides(data: dict[str, Any]) -> Sides:
    former = {"reference": FORMER_SIDES[data["settings"]["reference"]], "candidate": "Paddle", "headline": "logits"}
    return Sides(**data.get("sides", former))


def _row(layer: dict[str, Any]) -> LayerRow:
    return LayerRow(name=layer["name"], **{one: _differences(layer[one]) for one in ("float64", "float32")})


def _differences(data: dict[str, Any]) -> Differences:
    figures: dict[str, Any] = {figure: _diff(data[figure]) for figure in FIGURES}
    return Differences(**figures)


def _diff(data: dict[str, Any] | None) -> LayerDiff | None:
    """Return the difference; NaN and infinities are texts in JSON."""
    if data is None:
        return None
    numbers = ("scale", "max_abs_diff", "max_ulp_diff", "reference_value", "candidate_value", "bound")
    return LayerDiff(**{**data, **{name: float(data[name]) for name in numbers}})


def _misjudged(layers: tuple[LayerRow, ...], sides: Sides) -> Iterator[str]:
    for row in layers:
        if sides.witness is (row.float64.candidate_vs_witness is None or row.float64.reference_vs_witness is None):
            yield f"{row.name}: whether there was a witness does not follow from the figures"
        for diff in (*row.float64.each().values(), *row.float32.each().values()):
            if diff.passed is not (diff.max_abs_diff <= diff.bound and math.isfinite(diff.max_abs_diff)):
                yield f"{row.name}: passed does not follow from the difference and its bound"
        if row.name == sides.headline and row.float32.inherited.bound != LOGITS_ATOL:
            yield f"{row.name}: the bound is not {LOGITS_ATOL:g}"


def _weights(gate: Gate) -> list[Finding] | None:
    if gate.passed is None:
        return None
    return [] if gate.passed else [Finding(layer="", sentence=gate.sentence)]
