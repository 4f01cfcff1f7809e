"""An alignment read back from a bundle, judged again from its figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from align.core.compare import LOGITS_ATOL, LayerDiff
from align.core.judgement import judge, verdict_with
from align.core.result import LOGITS, SIDES, Differences, Finding, Gate, LayerRow

FORWARD = 4
"""Gates of the forward pass, which follow from the layers' figures."""


def contradiction(data: dict[str, Any]) -> str | None:
    """Return what in an alignment does not follow from its figures, or None.

    A finding about structure or weights leaves no figure behind: it is taken as it stands, and can only be bad.
    """
    layers = tuple(_row(layer) for layer in data["layers"])
    if (wrong := next(_misjudged(layers), None)) is not None:
        return wrong
    gates = [Gate(**gate) for gate in data["gates"]]
    structure = [] if layers or gates[0].passed else [Finding(layer="", sentence=gates[0].sentence)]
    found, verdict, _ = judge(structure, _weights(gates[1]), layers, reference=data["settings"]["reference"])
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


def _row(layer: dict[str, Any]) -> LayerRow:
    both = {
        precision: Differences(**{figure: _diff(layer[precision][figure]) for figure in SIDES})
        for precision in ("float64", "float32")
    }
    return LayerRow(name=layer["name"], **both)


def _diff(data: dict[str, Any]) -> LayerDiff:
    """Return the difference; NaN and infinities are texts in JSON."""
    numbers = ("scale", "max_abs_diff", "max_ulp_diff", "reference_value", "candidate_value", "bound")
    return LayerDiff(**{**data, **{name: float(data[name]) for name in numbers}})


def _misjudged(layers: tuple[LayerRow, ...]) -> Iterator[str]:
    for row in layers:
        for diff in (*row.float64.each(), *row.float32.each()):
            if diff.passed is not (diff.max_abs_diff <= diff.bound and math.isfinite(diff.max_abs_diff)):
                yield f"{row.name}: passed does not follow from the difference and its bound"
        if row.name == LOGITS and row.float32.inherited.bound != LOGITS_ATOL:
            yield f"{row.name}: the bound is not {LOGITS_ATOL:g}"


def _weights(gate: Gate) -> list[Finding] | None:
    if gate.passed is None:
        return None
    return [] if gate.passed else [Finding(layer="", sentence=gate.sentence)]
