"""One result as lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from align.core.result import AlignmentResult, Check, Gate, LayerRow
from align.render.fold import FOLD_HEADERS, fold, names_of, said, share

HEADERS = (
    "layer",
    "shape",
    "float64 inherited",
    "float64 introduced",
    "float32 inherited",
    "float32 introduced",
    "ulp",
    "float32 reference-witness",
    "float32 Paddle-witness",
    "",
)

FOLDED_HEADERS = (*FOLD_HEADERS, "float64 inherited", "float64 introduced", "float32 introduced", "")
"""Headers of a block's row, its worst point's figures; --all-layers shows each point's, and the witness's."""

NO_WITNESS = "no witness"
"""Words in every report if float64 was compared between the two frameworks alone."""

NO_STRESS = "no stress gate"
"""Words in the verdict if --no-stress left that gate out."""

TRAINING_HEADERS = (
    "optimizer",
    "learning rate",
    "steps",
    "float64 loss",
    "float64 gradients",
    "float64 parameters",
    "float32 parameters from float64",
    "",
)


def headers(result: AlignmentResult) -> tuple[str, ...]:
    """Return the headers of the layers' rows; without a witness float32 is measured from the reference in float64."""
    truth = "witness" if result.sides.witness else f"{result.sides.reference} in float64"
    return tuple(header.replace("witness", truth) for header in HEADERS)


def rows(result: AlignmentResult) -> list[tuple[str, ...]]:
    """Return a row of text per layer, one text per header."""
    return [_row(layer) for layer in result.layers]


def folded_rows(result: AlignmentResult) -> tuple[list[tuple[str, ...]], str]:
    """Return a row of text per block, one text per header of `FOLDED_HEADERS`, and the line beneath them."""
    folds = fold(result.layers, severity=_severity, alone=lambda layer: not _passed(layer))
    return [(*names_of(found), *_folded_row(found.worst)) for found in folds], said(result.layers, folds)


def training_rows(result: AlignmentResult) -> list[tuple[str, ...]]:
    """Return a row of text per optimizer and schedule, with the worst figures of all steps; none without training."""
    checks = [check for section in result.sections if section.gate.name == "training" for check in section.checks]
    runs: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        optimizer, schedule, _ = check.group
        runs.setdefault((optimizer, schedule), []).append(check)
    return [_training_row(optimizer, schedule, run) for (optimizer, schedule), run in runs.items()]


def gate_lines(gates: Sequence[Gate]) -> list[str]:
    """Return a line per gate."""
    words = {True: "passed", False: "FAILED", None: "not run"}
    return [f"{gate.name:<11} {words[gate.passed]:<8} {gate.sentence}" for gate in gates]


def verdict_line(result: AlignmentResult) -> str:
    """Return the one line that sums up the result in a CI log; it starts with the verdict."""
    named = f"{result.verdict}: {result.variant}{_less(result)}"
    if result.first_divergence is not None:
        return f"{named}: {result.first_divergence.sentence}"
    if result.verdict in ("diverged", "inconclusive"):
        return f"{named}: {next((gate.sentence for gate in result.gates if gate.passed is False), 'no gate says why')}"
    headline = result.headline
    if headline is None:
        return f"{named}: {'; '.join(gate.sentence for gate in result.gates)}"
    wide, narrow = headline.float64.inherited, headline.float32.inherited
    figures = f"{headline.name} differ by {wide.max_abs_diff:.1e} in float64"
    figures += _less(result)
    if result.verdict == "rounding":
        return (
            f"rounding: {result.variant}: {figures}, so the port is the same function, but by "
            f"{narrow.max_abs_diff:.1e} in float32, over {narrow.bound:.0e}, which values this large do not hold. "
            f"{'That is accepted.' if result.accept_rounding else 'Pass --accept-rounding or --atol.'}"
        )
    return f"aligned: {result.variant}: {figures} and by {narrow.max_abs_diff:.1e} ≤ {narrow.bound:.0e} in float32."


def _less(result: AlignmentResult) -> str:
    """Return in brackets what qualifies the verdict: no witness, no stress gate, accepted differences."""
    stressed = result.settings.get("stress", True)
    less = [said for said, missing in ((NO_WITNESS, not result.sides.witness), (NO_STRESS, not stressed)) if missing]
    if count := len(result.accepted):
        less.append(f"{count} accepted difference{'s' if count > 1 else ''}")
    return f" ({', '.join(less)})" if less else ""


def _folded_row(layer: LayerRow) -> tuple[str, ...]:
    wide, narrow = layer.float64, layer.float32
    figures = (wide.inherited, wide.introduced, narrow.introduced)
    return (*(f"{diff.max_abs_diff:.1e}" for diff in figures), "" if _passed(layer) else "over")


def _passed(layer: LayerRow) -> bool:
    return all(diff.passed for both in (layer.float64, layer.float32) for diff in both.each().values())


def _severity(layer: LayerRow) -> float:
    """Return the layer's worst figure in units of its bound; figures that are not judged count as 0."""
    return max(
        share(diff.max_abs_diff, diff.bound) for both in (layer.float64, layer.float32) for diff in both.each().values()
    )


def _row(layer: LayerRow) -> tuple[str, ...]:
    wide, narrow = layer.float64, layer.float32
    witnessed = (narrow.reference_vs_witness, narrow.candidate_vs_witness)
    return (
        layer.name,
        "x".join(map(str, narrow.inherited.shape)),
        f"{wide.inherited.max_abs_diff:.1e}",
        f"{wide.introduced.max_abs_diff:.1e}",
        f"{narrow.inherited.max_abs_diff:.1e}",
        f"{narrow.introduced.max_abs_diff:.1e}",
        f"{narrow.introduced.max_ulp_diff:.1f}",
        *(f"{diff.max_abs_diff:.1e}" if diff else "—" for diff in witnessed),
        "" if _passed(layer) else "over",
    )


def _training_row(optimizer: str, schedule: str, checks: list[Check]) -> tuple[str, ...]:
    def worst(figure: str) -> str:
        figures = [check.figure for check in checks if f"{check.subject}/{check.kind}" == figure]
        if not figures:
            return "—"
        return f"{math.nan if any(map(math.isnan, figures)) else max(figures):.1e}"

    figures = (worst(figure) for figure in ("loss/float64", "gradients/float64", "parameters/float64"))
    steps = len({check.group for check in checks})
    over = "" if all(check.passed for check in checks) else "over"
    return (optimizer, schedule, str(steps), *figures, worst("parameters/float32"), over)
