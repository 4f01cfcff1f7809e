"""One result as lines of text."""

from __future__ import annotations

from align.result import LOGITS, AlignmentResult, LayerRow

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


def rows(result: AlignmentResult) -> list[tuple[str, ...]]:
    """Return a row of text per layer, one text per header."""
    return [_row(layer) for layer in result.layers]


def gate_lines(result: AlignmentResult) -> list[str]:
    """Return a line per gate."""
    words = {True: "passed", False: "FAILED", None: "not run"}
    return [f"{gate.name:<10} {words[gate.passed]:<8} {gate.sentence}" for gate in result.gates]


def verdict_line(result: AlignmentResult) -> str:
    """Return the one line that a CI log is read for; it starts with the verdict."""
    if result.first_divergence is not None:
        return f"{result.verdict}: {result.variant}: {result.first_divergence.sentence}"
    if result.verdict in ("diverged", "inconclusive"):
        sentence = next(gate.sentence for gate in result.gates if gate.passed is False)
        return f"{result.verdict}: {result.variant}: {sentence}"
    logits = next((layer for layer in result.layers if layer.name == LOGITS), None)
    if logits is None:
        return f"{result.verdict}: {result.variant}: {'; '.join(gate.sentence for gate in result.gates)}"
    wide, narrow = logits.float64.inherited, logits.float32.inherited
    figures = f"logits differ by {wide.max_abs_diff:.1e} in float64"
    if result.verdict == "rounding":
        return (
            f"rounding: {result.variant}: {figures}, so the port is the same function, but by "
            f"{narrow.max_abs_diff:.1e} in float32, over {narrow.bound:.0e}, which logits this large do not hold. "
            "Pass --accept-rounding or --atol."
        )
    return f"aligned: {result.variant}: {figures} and by {narrow.max_abs_diff:.1e} ≤ {narrow.bound:.0e} in float32."


def _row(layer: LayerRow) -> tuple[str, ...]:
    wide, narrow = layer.float64, layer.float32
    passed = all(diff.passed for diff in (*wide.each(), *narrow.each()))
    return (
        layer.name,
        "x".join(map(str, narrow.inherited.shape)),
        f"{wide.inherited.max_abs_diff:.1e}",
        f"{wide.introduced.max_abs_diff:.1e}",
        f"{narrow.inherited.max_abs_diff:.1e}",
        f"{narrow.introduced.max_abs_diff:.1e}",
        f"{narrow.introduced.max_ulp_diff:.1f}",
        f"{narrow.reference_vs_witness.max_abs_diff:.1e}",
        f"{narrow.candidate_vs_witness.max_abs_diff:.1e}",
        "" if passed else "over",
    )
