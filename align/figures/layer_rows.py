"""A layer's figures as evidence: what is judged of them, and the sentences that say so."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.core.bounds import Precision
from align.core.compare import LayerDiff
from align.core.judgement import Evidence, Headline, nan_last
from align.core.result import FIGURES, Divergence, Finding, LayerRow, Sides

VACUOUS = (
    "every value is 0 on every side, so comparing them proves nothing. Give the head weights; timm initialises it to 0"
)


ANOTHER_VALUE = 1e-3
"""Share of the largest value that both figures of a point exceed if it shows another layer's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEvidence:
    """One layer in both precisions, and what to call the sides."""

    row: LayerRow
    sides: Sides

    @property
    def name(self) -> str:
        """The point's name."""
        return self.row.name

    def passed(self, precision: Precision) -> bool:
        """Return whether every float64 figure, or the difference introduced in float32, is within its bound."""
        if precision == "float32":
            return self.row.float32.introduced.passed
        return all(diff.passed for diff in self.row.float64.each().values())

    def severity(self, precision: Precision) -> float:
        """Return the worst float64 figure as a multiple of its bound, or the ulps introduced in float32."""
        return _severity(self._worst64()) if precision == "float64" else nan_last(self._introduced32.max_ulp_diff)

    def figure(self, precision: Precision) -> str:
        """Return the figure behind `severity` in words."""
        if precision == "float64":
            return f"{said(self._worst64())} at {self.name}"
        return f"introduced at most {self._introduced32.max_ulp_diff:.3g} ulp (at {self.name})"

    def placed(self, precision: Precision) -> str | None:
        """Return what the layer itself introduces and which side left the witness; None if within the bound."""
        diff = self.row.float64.introduced if precision == "float64" else self._introduced32
        if diff.passed:
            return None
        return (
            f"introduced {precision} difference {said(diff)} in {diff.num_over} of {diff.num_elements} elements, at "
            f"{list(diff.worst_index)} {self.sides.reference} {diff.reference_value:.9g}, {self.sides.candidate} "
            f"{diff.candidate_value:.9g}{self._who_left()}"
        )

    def not_finite(self) -> str | None:
        """Return which side shows a NaN or an infinity, in either precision; None if all are finite."""
        for differences, figure in itertools.product((self.row.float64, self.row.float32), FIGURES):
            diff = differences.each().get(figure)
            if diff is not None and not math.isfinite(diff.max_abs_diff):
                names = (name.format(**self._names) for name in FIGURES[figure])
                values = zip(names, (diff.reference_value, diff.candidate_value), strict=True)
                who = " and ".join(name for name, value in values if not math.isfinite(value))
                return f"{who} is not finite at {list(diff.worst_index)}"
        return None

    def beyond(self) -> str | None:
        """Return the first float64 figure over its bound, in words; None if all are within."""
        over = next((diff for diff in self.row.float64.each().values() if not diff.passed), None)
        return None if over is None else f"float64 difference {said(over)}{self._who_left()}"

    @property
    def is_apart(self) -> bool:
        """Whether the sides show different values here in float64, both inherited and introduced."""
        wide = self.row.float64
        return all(not d.passed and d.max_abs_diff > ANOTHER_VALUE * d.scale for d in (wide.inherited, wide.introduced))

    @property
    def _introduced32(self) -> LayerDiff:
        return self.row.float32.introduced

    @property
    def _names(self) -> dict[str, str]:
        reference = self.sides.reference
        truth = "the witness" if self.sides.witness else f"{reference} in float64"
        return {"reference": reference, "candidate": self.sides.candidate, "witness": truth}

    def _worst64(self) -> LayerDiff:
        return max(self.row.float64.each().values(), key=_severity)

    def _who_left(self) -> str:
        """Return a clause that says which side left the witness here, on its own activations in float64."""
        reference, candidate = self.row.float64.reference_vs_witness, self.row.float64.candidate_vs_witness
        if reference is None or candidate is None:
            return ""
        sides, by_reference, by_candidate = self.sides, f"{reference.max_abs_diff:.1e}", f"{candidate.max_abs_diff:.1e}"
        if reference.passed and candidate.passed:
            return "; in float64 both sides agree with the NumPy witness here"
        if reference.passed:
            return f"; {sides.candidate} left the NumPy witness ({by_candidate}; {sides.reference} {by_reference})"
        if candidate.passed:
            return f"; {sides.reference} left the NumPy witness ({by_reference}; {sides.candidate} {by_candidate})"
        return f"; both left the NumPy witness ({sides.reference} {by_reference}, {sides.candidate} {by_candidate})"


def evidence_of(
    structure: Sequence[Finding],
    weights: Sequence[Finding] | None,
    layers: Sequence[LayerRow],
    sides: Sides,
    left_out: Mapping[str, str] | None = None,
) -> Evidence:
    """Return what an alignment found, as evidence to be judged.

    Args:
        structure: Findings about points, shapes, dtypes and keys, in forward order.
        weights: Parameters whose bits are not the source's, in forward order; None when they could not be compared.
        layers: The measured layers, in forward order; empty when the structure left nothing to compare.
        sides: What to call the sides.
        left_out: The points that could not be compared, and why.
    """
    found = next((row.float32.inherited for row in layers if row.name == sides.headline), None)
    rows = [LayerEvidence(row=row, sides=sides) for row in layers]
    headline = _headline(found) if found is not None else None
    is_paired = not sides.witness and weights is not None and not (structure or weights)
    return Evidence(
        structure=structure,
        weights=weights,
        rows=rows,
        headline=headline,
        left_out=left_out,
        mispaired=_mispaired(rows) if is_paired else None,
    )


def _mispaired(rows: Sequence[LayerEvidence]) -> Divergence | None:
    """Return the first point that shows another value although later points agree; None where one may have diverged.

    On its own activations the candidate has to agree at every other point, including the one right after each such
    point and the model's output. What is introduced after it does not count: the candidate was given a value that does
    not belong there. Only other outputs come after the headline, the first tensor that the model returns, so that no
    later point would show whether the model has diverged there.
    """
    apart = [i for i, row in enumerate(rows) if row.is_apart]
    returned = next((i for i, row in enumerate(rows) if row.name == row.sides.headline), len(rows))
    inherits = [i for i, row in enumerate(rows) if not row.row.float64.inherited.passed]
    if not apart or inherits != apart or any(i + 1 in apart or i >= returned for i in apart):
        return None
    if any(not row.passed("float64") for row in rows[: apart[0]]):
        return None
    row = rows[apart[0]]
    said = f"mispaired: {row.sides.candidate} shows another value here ({row.beyond()}), and what lies behind it agrees"
    more = f", as it does behind {len(apart) - 1} more such points" if len(apart) > 1 else ""
    return Divergence(
        layer=row.name, sentence=f"{row.name}: {said}{more}. Say in [points] where it is, or leave it out"
    )


def _headline(found: LayerDiff) -> Headline:
    return Headline(
        name=found.name,
        passed=found.passed,
        sentence=f"{found.name} {said(found)}",
        vacuous=VACUOUS if found.scale == 0 else "",
    )


def said(diff: LayerDiff) -> str:
    """Return a difference and its bound in words."""
    sign = "≤" if diff.max_abs_diff <= diff.bound else "exceeds"
    return f"{diff.max_abs_diff:.2e} {sign} {diff.bound:.1e}"


def _severity(diff: LayerDiff) -> float:
    return nan_last(diff.max_abs_diff / diff.bound)
