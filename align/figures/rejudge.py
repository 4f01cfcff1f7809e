"""A result read back from a file, judged again from those of its figures that follow from nothing else. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from align.core.bounds import FEW, UNBOUNDED, Precision, Roundings, Tolerance
from align.core.compare import LayerDiff, in_ulp
from align.core.judgement import Judgement, judge, with_section
from align.core.point import Point
from align.core.result import AlignmentResult, Check, Differences, Finding, Gate, LayerRow, Section
from align.figures.layer_rows import evidence_of
from align.figures.reader import Malformed
from align.figures.sections import SENTENCES, good_sentence
from convert.arrays import Shape


def rejudged(found: AlignmentResult, points: Sequence[Point], atol: float) -> AlignmentResult:
    """Return the result recomputed from its figures: bounds, passes, gates, verdict, first divergence, sentences.

    Findings about structure or weights, and the reason why a gate failed, leave no figures behind. They are taken as
    recorded, and can only count against the port.

    Args:
        found: The result as it was read.
        points: The points that the models have, in forward order, with their shapes.
        atol: The bound on the headline in float32.

    Raises:
        Malformed: Its points are not these, or a figure is not one that a comparison can give.
    """
    if found.layers and [row.name for row in found.layers] != [point.name for point in points]:
        raise Malformed(f"its points are not the {len(points)} of such a model")
    layers = _Rows(found, atol).again({point.name: point for point in points})
    judged = _judged(found, layers)
    result = replace(
        found,
        layers=layers,
        gates=judged.gates,
        verdict=judged.verdict,
        first_divergence=judged.first_divergence,
        sections=(),
    )
    for section in found.sections:
        result = with_section(result, _section(section, found))
    return result


def roundings_of(found: AlignmentResult) -> Roundings:
    """Return what a result says about rounding at each point."""
    roundings = Roundings()
    for row in found.layers:
        if row.size is not None:
            roundings.note_size(row.name, row.size, row.slack)
    for row in found.layers:
        if (true := row.float32.reference_vs_witness) is not None:
            roundings.note_found(row.name, _distance(true), math.prod(true.shape))
    return roundings


def _judged(found: AlignmentResult, layers: Sequence[LayerRow]) -> Judgement:
    structure, weights = found.gates[:2]
    bad = None if weights.passed is None else [] if weights.passed else [_finding(weights)]
    evidence = evidence_of([], bad, layers, found.sides, found.left_out)
    judged = judge(evidence)
    if judged.gates[0].passed is not False and structure.passed is False:
        judged = judge(replace(evidence, structure=[_finding(structure)]))
    told = structure.passed is False or weights.passed is False
    return replace(judged, first_divergence=found.first_divergence) if told else judged


def _finding(gate: Gate) -> Finding:
    return Finding(layer="", sentence=gate.sentence)


@dataclass(slots=True)
class _Rows:
    """The rows of a result, whose bounds are recomputed from sizes and from the reference's own rounding."""

    found: AlignmentResult
    atol: float

    def again(self, points: Mapping[str, Point]) -> tuple[LayerRow, ...]:
        """Return the rows recomputed from their figures."""
        rows, roundings = self.found.layers, roundings_of(self.found)
        self._check_rounds()
        again = tuple(self._row(row, points[row.name], roundings) for row in rows)
        self._check_sizes(again)
        return again

    def _row(self, row: LayerRow, point: Point, roundings: Roundings) -> LayerRow:
        headline = Tolerance(atol=self.atol, rtol=0.0) if row.name == self.found.sides.headline else UNBOUNDED
        whole = roundings.whole(row.name)
        introduced: dict[Precision, Tolerance] = {
            precision: roundings.introduced(row.name, precision, follows=point.follows)
            for precision in ("float64", "float32")
        }
        shape = point.shape or row.float64.inherited.shape
        wide = _Form(row.name, shape, "float64", row.float64.inherited)
        narrow = _Form(row.name, shape, "float32", row.float32.inherited)
        return replace(
            row,
            float64=wide.differences(row.float64, inherited=whole, introduced=introduced["float64"], whole=whole),
            float32=narrow.differences(
                row.float32, inherited=headline, introduced=introduced["float32"], whole=UNBOUNDED
            ),
        )

    def _check_rounds(self) -> None:
        """Check that float32 differs from the truth somewhere: among many values, some are always rounded.

        Raises:
            Malformed: It differs nowhere.
        """
        true = [row.float32.reference_vs_witness for row in self.found.layers]
        many = [one for one in true if one is not None and one.num_elements >= FEW and one.scale > 0]
        if many and all(one.max_abs_diff == 0 for one in many):
            raise Malformed("its float32 figures are all 0, and float32 rounds")

    def _check_sizes(self, rows: Sequence[LayerRow]) -> None:
        """Check that no bound is above every value, as it would let anything pass.

        Raises:
            Malformed: A bound is above every value.
        """
        largest = max((row.float32.inherited.scale for row in rows), default=0.0)
        for row in rows:
            if row.float32.introduced.bound > largest > 0:
                raise Malformed(f"{row.name}: its bound is above every value")


@dataclass(frozen=True, slots=True)
class _Form:
    """What all figures of a point in one precision share; own: the inherited one, on each side's own activations."""

    name: str
    shape: Shape
    precision: Precision
    own: LayerDiff

    def differences(
        self, found: Differences, *, inherited: Tolerance, introduced: Tolerance, whole: Tolerance
    ) -> Differences:
        """Return the figures recomputed, each with its bound."""
        reference, candidate = found.reference_vs_witness, found.candidate_vs_witness
        return Differences(
            inherited=self._diff(found.inherited, inherited),
            introduced=self._diff(found.introduced, introduced),
            reference_vs_witness=None if reference is None else self._diff(reference, whole),
            candidate_vs_witness=None if candidate is None else self._diff(candidate, whole),
        )

    def _diff(self, diff: LayerDiff, tolerance: Tolerance) -> LayerDiff:
        index, elements = diff.worst_index, math.prod(self.shape)
        if len(index) != len(self.shape) or not all(0 <= i < n for i, n in zip(index, self.shape, strict=True)):
            raise Malformed(f"{self.name}: {list(index)} is no place in {list(self.shape)}")
        scale, greatest = self._scale(), _distance(diff)
        bound = tolerance.bound(scale)
        passed = greatest <= bound and math.isfinite(greatest)
        return replace(
            diff,
            name=self.name,
            shape=self.shape,
            dtype=self.precision,
            scale=scale,
            max_abs_diff=greatest,
            max_ulp_diff=in_ulp(greatest, scale),
            bound=bound,
            num_over=0 if passed else min(max(diff.num_over, 1), elements),
            num_elements=elements,
            passed=passed,
        )

    def _scale(self) -> float:
        """Return the reference's largest magnitude: the recorded one, or its recorded value if that is larger."""
        shown = abs(self.own.reference_value)
        return shown if shown > self.own.scale else self.own.scale


def _distance(diff: LayerDiff) -> float:
    return abs(diff.reference_value - diff.candidate_value)


def _section(section: Section, found: AlignmentResult) -> Section:
    """Return a gate recomputed from its checks; a failed one stays failed, as the reason may have no figure."""
    checks = tuple(_check(check) for check in section.checks)
    gate, passed = section.gate, all(check.passed for check in checks) if checks else None
    if gate.name not in SENTENCES or gate.passed is False or passed is False:
        failed = gate.passed is False or passed is False
        return replace(section, checks=checks, gate=replace(gate, passed=False) if failed else gate)
    sentence = good_sentence(gate.name, checks, found.sides) if passed else "not run"
    return Section(gate=replace(gate, passed=passed, sentence=sentence), checks=checks)


def _check(check: Check) -> Check:
    return replace(check, passed=check.bound is None or check.figure <= check.bound)
