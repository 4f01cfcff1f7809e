"""The judgement alone, over made-up figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from align.core.bounds import FLOAT64, UNBOUNDED, Tolerance
from align.core.compare import LayerDiff, compare
from align.core.judgement import Judgement, judge, verdict_with, with_section
from align.core.result import (
    AlignmentResult,
    Differences,
    Divergence,
    Finding,
    Gate,
    GateName,
    LayerRow,
    Section,
    Sides,
)
from align.figures.layer_rows import evidence_of
from align.render import verdict_line

SIDES = Sides(reference="torch", candidate="Paddle", headline="logits")
IN_FLOAT32 = Tolerance(atol=4e-6, rtol=0.0)
ALONE = dataclasses.replace(SIDES, witness=False)


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
            introduced=diff(0, IN_FLOAT32),
            reference_vs_witness=narrow,
            candidate_vs_witness=narrow,
        ),
    )
    for key, value in changes.items():
        precision, figure = key.split("_", 1)
        changed = dataclasses.replace(getattr(row, precision), **{figure: value})
        row = dataclasses.replace(row, **{precision: changed})
    return row


def unwitnessed(row: LayerRow) -> LayerRow:
    """Return the layer as it is measured where there is no witness."""
    nothing = {"reference_vs_witness": None, "candidate_vs_witness": None}
    return dataclasses.replace(row, float64=dataclasses.replace(row.float64, **nothing))


def judged(*layers: LayerRow, weights: Sequence[Finding] = (), sides: Sides = SIDES) -> Judgement:
    return judge(evidence_of([], weights, layers, sides))


def blamed(found: Judgement) -> Divergence:
    assert found.verdict == "diverged"
    assert found.first_divergence is not None
    return found.first_divergence


def test_all_well() -> None:
    found = judged(row("stem"), row("logits"))
    assert [gate.passed for gate in found.gates] == [True] * 4
    assert (found.verdict, found.first_divergence) == ("aligned", None)


def test_what_was_left_out_is_said_and_does_not_fail() -> None:
    out = {"norm": "its module is never called", "pooled": "computed by a function"}
    found = judge(evidence_of([], [], [row("stem"), row("logits")], SIDES, out))
    assert found.verdict == "aligned"
    said = "2 points, all finite; left out, its module is never called: norm; left out, computed by a function: pooled"
    assert found.gates[0].sentence == said


def mispaired(name: str, inherited: float = 0.7, introduced: float = 0.7) -> LayerRow:
    """Return a layer that shows another value on its own activations, and on the reference's."""
    figures = {
        "float64_inherited": diff(inherited, FLOAT64),
        "float64_introduced": diff(introduced, FLOAT64),
        "float32_introduced": diff(introduced, IN_FLOAT32),
    }
    return unwitnessed(row(name, **figures))


class TestMispaired:
    """A point that differs although what lies behind it agrees: the pairing is at fault, not the models."""

    RIGHT, LOGITS = unwitnessed(row("conv")), unwitnessed(row("logits"))
    MISLED = unwitnessed(row("conv", float64_introduced=diff(0.4, FLOAT64), float32_introduced=diff(0.4, IN_FLOAT32)))
    """What was given the value of another layer."""

    def test_it_is_said_and_nothing_is_proved(self) -> None:
        found = judged(self.RIGHT, mispaired("norm"), self.MISLED, mispaired("norm2"), self.LOGITS, sides=ALONE)
        assert found.verdict == "inconclusive"
        assert found.first_divergence is not None
        assert found.first_divergence.layer == "norm"
        assert found.first_divergence.sentence.startswith("norm: mispaired: Paddle shows another value here (")
        assert "what lies behind it agrees, as it does behind 1 more such points" in found.first_divergence.sentence

    @pytest.mark.parametrize(
        "layers",
        [
            pytest.param((mispaired("norm"), mispaired("logits")), id="the output differs"),
            pytest.param((mispaired("norm"), mispaired("act"), LOGITS), id="the next point differs"),
            pytest.param((mispaired("norm", 1e-9, 1e-9), LOGITS), id="too little for another value"),
            pytest.param((mispaired("norm", introduced=0.0), RIGHT, LOGITS), id="inherited alone"),
            pytest.param((mispaired("norm", inherited=0.0), RIGHT, LOGITS), id="introduced alone"),
            pytest.param((MISLED, mispaired("norm"), RIGHT, LOGITS), id="one before it is over"),
            pytest.param((mispaired("norm"), RIGHT, mispaired("late", 1e-9, 0.0), LOGITS), id="a small one later"),
        ],
    )
    def test_a_divergence_is_none(self, layers: tuple[LayerRow, ...]) -> None:
        assert judged(*layers, sides=ALONE).verdict == "diverged"

    def test_a_witness_decides_otherwise(self) -> None:
        assert judged(mispaired("norm"), self.RIGHT, self.LOGITS, sides=SIDES).verdict == "diverged"

    def test_other_weights_do_too(self) -> None:
        wrong = Finding(layer="conv", sentence="conv.weight: one bit")
        layers = (mispaired("norm"), self.RIGHT, self.LOGITS)
        assert judged(*layers, weights=[wrong], sides=ALONE).verdict == "diverged"
        assert judged(*layers, sides=ALONE).verdict == "inconclusive"

    def test_an_output_that_float32_moves_too_far_does_too(self) -> None:
        far = dataclasses.replace(
            self.LOGITS,
            float32=dataclasses.replace(self.LOGITS.float32, inherited=diff(1e-4, Tolerance(atol=1e-5, rtol=0.0))),
        )
        assert judged(mispaired("norm"), self.RIGHT, far, sides=ALONE).verdict == "diverged"

    @pytest.mark.parametrize(
        ("name", "verdict"), [("output", "diverged"), ("redrawn", "diverged"), ("stress", "inconclusive")]
    )
    def test_an_output_that_differs_under_other_weights_is_a_divergence(self, name: GateName, verdict: str) -> None:
        before = judged(mispaired("norm"), self.RIGHT, self.LOGITS, sides=ALONE)
        gate = Gate(name=name, passed=False, sentence="other weights")
        assert verdict_with(gate, before.gates, before.verdict) == verdict


class TestWithoutAWitness:
    def test_all_well(self) -> None:
        found = judged(unwitnessed(row("stem")), unwitnessed(row("logits")), sides=ALONE)
        assert [gate.passed for gate in found.gates] == [True] * 4
        assert found.verdict == "aligned"

    @pytest.mark.parametrize("figure", ["inherited", "introduced"])
    def test_a_difference_is_blamed_without_a_word_of_a_witness(self, figure: str) -> None:
        bad = unwitnessed(row("stem", **{f"float64_{figure}": diff(1e-11, FLOAT64)}))
        found = blamed(judged(bad, unwitnessed(row("logits")), sides=ALONE))
        assert found.layer == "stem"
        assert "witness" not in found.sentence

    def test_the_reference_in_float64_is_named_where_it_alone_is_not_finite(self) -> None:
        bad = compare("x", np.array([1.0, math.nan]), np.ones(2), UNBOUNDED, 1.0)
        layers = (unwitnessed(row("stem", float32_reference_vs_witness=bad)), unwitnessed(row("logits")))
        assert blamed(judged(*layers, sides=ALONE)).sentence == "stem: torch in float64 is not finite at [1]"
        assert blamed(judged(row("stem", float32_reference_vs_witness=bad), row("logits"))).sentence == (
            "stem: the witness is not finite at [1]"
        )


class TestVerdictLine:
    @pytest.mark.parametrize(("sides", "told"), [(SIDES, False), (ALONE, True)])
    @pytest.mark.parametrize("verdict", ["aligned", "rounding", "diverged", "inconclusive"])
    def test_it_says_where_there_is_no_witness(self, sides: Sides, told: bool, verdict: str) -> None:
        logits = row("logits", float32_inherited=diff(1e-4, Tolerance(atol=1e-5, rtol=0.0)))
        wrong = row("stem", float64_introduced=diff(1e-3, FLOAT64))
        layers = {"aligned": [row("logits")], "rounding": [logits], "diverged": [wrong, row("logits")]}
        found = judged(*map(unwitnessed, layers.get(verdict, [row("logits")])), sides=sides)
        result = aligned(sides, found)
        if verdict == "inconclusive":
            result = with_section(result, section("determinism", passed=False))
        line = verdict_line(result)
        assert line.startswith(f"{verdict}: x")
        assert line.count("no witness") == told


def test_nothing_compared_is_no_pass() -> None:
    found = judged()
    assert [gate.passed for gate in found.gates] == [False, True, None, None]
    assert found.verdict == "diverged"


def test_rounding_is_the_logits_bound_alone() -> None:
    logits = row("logits", float32_inherited=diff(1e-4, Tolerance(atol=1e-5, rtol=0.0)))
    found = judged(row("stem"), logits)
    assert [gate.passed for gate in found.gates] == [True, True, True, False]
    assert (found.verdict, found.first_divergence) == ("rounding", None)
    also = row("stem", float32_introduced=diff(1e-4, IN_FLOAT32))
    assert judged(also, logits).verdict == "diverged"


@pytest.mark.parametrize("figure", ["inherited", "introduced", "reference_vs_witness", "candidate_vs_witness"])
@pytest.mark.parametrize("value", [1e-11, math.nan, math.inf])
def test_each_float64_figure_can_fail(figure: str, value: float) -> None:
    found = judged(row("stem", **{f"float64_{figure}": diff(value, FLOAT64)}), row("logits"))
    assert blamed(found).layer == "stem"


@pytest.mark.parametrize("figure", ["inherited", "introduced", "reference_vs_witness", "candidate_vs_witness"])
def test_each_float32_figure_has_to_be_finite(figure: str) -> None:
    found = judged(row("stem", **{f"float32_{figure}": diff(math.nan, UNBOUNDED)}), row("logits"))
    assert found.gates[0].passed is False
    assert "is not finite at [1]" in blamed(found).sentence


def test_the_introduced_difference_decides_before_anything_else() -> None:
    layers = (
        row("stem", float64_inherited=diff(1.0, FLOAT64)),
        row("blocks.0", float64_introduced=diff(1e-9, FLOAT64)),
        row("logits", float32_introduced=diff(1.0, IN_FLOAT32)),
    )
    weights = [Finding(layer="stem", sentence="w"), Finding(layer="blocks.0", sentence="this one")]
    divergence = blamed(judged(*layers, weights=weights))
    assert divergence.layer == "blocks.0"
    assert "this one" in divergence.sentence


def test_changed_weights_fail_even_when_no_activation_shows_it() -> None:
    found = judged(row("logits"), weights=[Finding(layer="norm", sentence="w")])
    assert found.gates[1].passed is False
    assert blamed(found).layer == "norm"


class TestFurtherGates:
    def test_a_failed_determinism_gate_is_inconclusive(self) -> None:
        result = with_section(aligned(), section("determinism", passed=False))
        assert result.verdict == "inconclusive"
        assert result.failed(accept_rounding=True)
        assert verdict_line(result) == "inconclusive: x: twice: torch did not repeat itself"

    @pytest.mark.parametrize("name", ["output", "batch", "backward", "training"])
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


def aligned(sides: Sides = SIDES, judgement: Judgement | None = None) -> AlignmentResult:
    found = judgement or judged(row("logits"))
    return AlignmentResult(
        variant="x",
        sides=sides,
        gates=found.gates,
        layers=(row("logits", float32_inherited=diff(0, Tolerance(atol=1e-5, rtol=0.0))),),
        verdict=found.verdict,
        first_divergence=found.first_divergence,
        left_out={},
        input_sha256="",
        settings={},
        environment={},
    )


def section(name: GateName, *, passed: bool | None) -> Section:
    divergence = None if passed else Divergence(layer="", sentence="twice: torch did not repeat itself")
    return Section(gate=Gate(name=name, passed=passed, sentence=""), checks=(), divergence=divergence)
