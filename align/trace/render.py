"""A check against a recorded trace as plain data or as lines of text, in the style of `align.render`."""

from __future__ import annotations

from typing import Any

from align.render import finite
from align.render.fold import FOLD_HEADERS, fold, names_of, said
from align.render.text import NO_WITNESS
from align.trace.result import TraceResult, TraceRow

SCHEMA = "mixer-align/check/1"
HEADERS = ("layer", "shape", "float64", "bound", "extrema, norm", "bound", "float32", "bound", "")
FOLDED_HEADERS = (*FOLD_HEADERS, "float64", "bound", "float32", "bound", "")
"""Headers of a row per block, with its worst point's figures; --all-layers shows each point, with extrema and norm."""


def as_data(result: TraceResult) -> dict[str, Any]:
    """Return the result as plain data for JSON; NaN and infinities become strings."""
    data: dict[str, Any] = {"schema": SCHEMA, **finite(result)}
    del data["accept_rounding"]  # says how the result reads as a bool, not what was found
    return data


def rows(result: TraceResult) -> list[tuple[str, ...]]:
    """Return a row of cells per point, one for each of `HEADERS`."""
    return [_row(row) for row in result.points]


def folded_rows(result: TraceResult) -> tuple[list[tuple[str, ...]], str]:
    """Return a row of cells per block, one for each of `FOLDED_HEADERS`, and the line to show beneath them."""
    folds = fold(result.points, severity=lambda row: row.severity("float64"), alone=lambda row: bool(_remark(row)))
    return [(*names_of(found), *_folded_row(found.worst)) for found in folds], said(result.points, folds)


def verdict_line(result: TraceResult) -> str:
    """Return the one line that a CI log is read for; it starts with the verdict."""
    start = f"{result.verdict}: {result.name}: "
    if result.first_divergence is not None:
        return start + result.first_divergence.sentence
    if result.verdict == "diverged" or result.logits is None:
        return start + next(gate.sentence for gate in result.gates if gate.passed is False)
    wide, narrow = next(row for row in result.points if row.name == result.headline).float64, result.logits
    figures = f"{result.headline} lies {wide.distance:.1e} from what was recorded in float64"
    if result.headline == "logits":
        figures = f"the logits lie {wide.distance:.1e} from the recorded ones in float64"
    if left := _not_proved(result):
        figures += f" ({left})"
    large = "logits this large" if result.headline == "logits" else "values this large"
    if result.verdict == "rounding":
        return (
            f"{start}{figures}, so Paddle computes the same function, but {narrow.max_abs_diff:.1e} in float32, over "
            f"{narrow.bound:.0e}, which {large} do not hold. Pass --accept-rounding or --atol."
        )
    return f"{start}{figures} and {narrow.max_abs_diff:.1e} ≤ {narrow.bound:.0e} in float32."


def _row(row: TraceRow) -> tuple[str, ...]:
    wide, narrow = row.float64, row.float32
    return (
        row.name,
        "x".join(map(str, row.shape)),
        f"{wide.distance:.1e}",
        f"{wide.bound:.1e}",
        f"{wide.summary:.1e}",
        f"{wide.summary_bound:.1e}",
        f"{narrow.distance:.1e}",
        f"{narrow.bound:.1e}",
        _remark(row),
    )


def _folded_row(row: TraceRow) -> tuple[str, ...]:
    figures = (row.float64.distance, row.float64.bound, row.float32.distance, row.float32.bound)
    return (*(f"{figure:.1e}" for figure in figures), _remark(row))


def _remark(row: TraceRow) -> str:
    if not (row.float64.passed and row.float32.passed):
        return "over"
    return "" if row.accepted is None else "accepted"


def _not_proved(result: TraceResult) -> str:
    """Return the reservations that go with the verdict: no witness, accepted differences; "" if there are none."""
    count = len(result.accepted)
    accepted = [f"{count} accepted difference{'s' if count > 1 else ''}"] if count else []
    return ", ".join(([] if result.witness else [NO_WITNESS]) + accepted)
