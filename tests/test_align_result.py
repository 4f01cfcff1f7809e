"""The judgement alone, over made-up figures."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from align.core.compare import FLOAT64, UNBOUNDED, LayerDiff, Tolerance, compare, float32_introduced
from align.core.judgement import judge, with_section
from align.core.result import (
    AlignmentResult,
    Differences,
    Divergence,
    Finding,
    Gate,
    GateName,
    LayerRow,
    Section,
)
from align.render import verdict_line


def diff(value: float, tolerance: Tolerance) -> LayerDiff:
    return compare("x", np.ones(3), np.array([1.0, 1.0 + value, 1.0]), tolerance, 1.0)


def row(name: str, **changes: LayerDiff) -> LayerRow:
    """Return a layer whose float64 and float32 figures are all zero, with some float64 or float32 figure replaced."""
    wide, logits = diff(0, FLOAT64), Tolerance(atol=1e-5, rtol=0.0)
    narrow = diff(0, UNBOUNDED)
    inherited = diff(0, logits) if name == "logits" else narrow
    row = LayerRow(
        name=name,
        float64=Differences(inherited=wide, introduced=wide, reference_vs_witness=wide, candidate_vs_witness=wide),
        float32=Differences(
            inherited=inherited,
            introduced=diff(0, float32_introduced(1)),
            reference_vs_witness=narrow,
            candidate_vs_witness=narrow,
        ),
    )
    for key, value in changes.items():
        precision, figure = key.split("_", 1)
        changed = dataclasses.replace(getattr(row, precision), **{figure: value})
        row = dataclasses.replace(row, **{precision: changed})
    return row


def test_all_well() -> None:
    gates, verdict, divergence = judge([], [], (row("stem"), row("logits")))
    assert [gate.passed for gate in gates] == [True] * 4
    assert (verdict, divergence) == ("aligned", None)


def test_nothing_compared_is_no_pass() -> None:
    gates, verdict, _ = judge([], [], ())
    assert [gate.passed for gate in gates] == [False, True, None, None]
    assert verdict == "diverged"


def test_rounding_is_the_logits_bound_alone() -> None:
    logits = row("logits", float32_inherited=diff(1e-4, Tolerance(atol=1e-5, rtol=0.0)))
    gates, verdict, divergence = judge([], [], (row("stem"), logits))
    assert [gate.passed for gate in gates] == [True, True, True, False]
    assert (verdict, divergence) == ("rounding", None)
    also = row("stem", float32_introduced=diff(1e-4, float32_introduced(1)))
    assert judge([], [], (also, logits))[1] == "diverged"


@pytest.mark.parametrize("figure", ["inherited", "introduced", "reference_vs_witness", "candidate_vs_witness"])
@pytest.mark.parametrize("value", [1e-11, math.nan, math.inf])
def test_each_float64_figure_can_fail(figure: str, value: float) -> None:
    _, verdict, divergence = judge([], [], (row("stem", **{f"float64_{figure}": diff(value, FLOAT64)}), row("logits")))
    assert verdict == "diverged"
    assert divergence is not None
    assert divergence.layer == "stem"


@pytest.mark.parametrize("figure", ["inherited", "introduced", "reference_vs_witness", "candidate_vs_witness"])
def test_each_float32_figure_has_to_be_finite(figure: str) -> None:
    gates, verdict, divergence = judge(
        [], [], (row("stem", **{f"float32_{figure}": diff(math.nan, UNBOUNDED)}), row("logits"))
    )
    assert gates[0].passed is False
    assert verdict == "diverged"
    assert divergence is not None
    assert "is not finite at [1]" in divergence.sentence


def test_the_introduced_difference_decides_before_anything_else() -> None:
    layers = (
        row("stem", float64_inherited=diff(1.0, FLOAT64)),
        row("blocks.0", float64_introduced=diff(1e-9, FLOAT64)),
        row("logits", float32_introduced=diff(1.0, float32_introduced(1))),
    )
    weights = [Finding(layer="stem", sentence="w"), Finding(layer="blocks.0", sentence="this one")]
    divergence = judge([], weights, layers)[2]
    assert divergence is not None
    assert divergence.layer == "blocks.0"
    assert "this one" in divergence.sentence


def test_changed_weights_fail_even_when_no_activation_shows_it() -> None:
    gates, verdict, divergence = judge([], [Finding(layer="norm", sentence="w")], (row("logits"),))
    assert gates[1].passed is False
    assert verdict == "diverged"
    assert divergence is not None
    assert divergence.layer == "norm"


class TestFurtherGates:
    def test_a_failed_determinism_gate_is_inconclusive(self) -> None:
        result = with_section(aligned(), section("determinism", passed=False))
        assert result.verdict == "inconclusive"
        assert result.failed(accept_rounding=True)
        assert verdict_line(result) == "inconclusive: x: twice: torch did not repeat itself"

    @pytest.mark.parametrize("name", ["backward", "training"])
    def test_any_other_failed_gate_diverges(self, name: GateName) -> None:
        result = with_section(aligned(), section(name, passed=False))
        assert result.verdict == "diverged"
        assert result.first_divergence is not None

    @pytest.mark.parametrize("passed", [True, None])
    def test_a_gate_that_does_not_fail_leaves_the_verdict(self, passed: bool | None) -> None:
        result = with_section(aligned(), section("backward", passed=passed))
        assert (result.verdict, result.first_divergence) == ("aligned", None)
        assert result.gate("backward").passed is passed

    def test_the_forward_comes_first(self) -> None:
        first = Divergence(layer="stem", sentence="stem: x")
        diverged = dataclasses.replace(aligned(), verdict="diverged", first_divergence=first)
        assert with_section(diverged, section("backward", passed=False)).first_divergence == first

    @pytest.mark.parametrize(
        ("gate", "verdict"),
        [("structure", "diverged"), ("weights", "diverged"), ("float64", "inconclusive"), ("float32", "inconclusive")],
    )
    def test_a_difference_proves_nothing_where_a_side_does_not_repeat_itself(
        self, gate: GateName, verdict: str
    ) -> None:
        failed = Gate(name=gate, passed=False, sentence="")
        diverged = dataclasses.replace(aligned(), verdict="diverged", gates=(failed,))
        assert with_section(diverged, section("determinism", passed=False)).verdict == verdict


def aligned() -> AlignmentResult:
    return AlignmentResult(
        variant="x",
        gates=(),
        layers=(),
        verdict="aligned",
        first_divergence=None,
        input_sha256="",
        settings={},
        environment={},
    )


def section(name: GateName, *, passed: bool | None) -> Section:
    divergence = None if passed else Divergence(layer="", sentence="twice: torch did not repeat itself")
    return Section(gate=Gate(name=name, passed=passed, sentence=""), checks=(), divergence=divergence)
