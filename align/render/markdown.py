"""One result, or several, as GitHub-flavoured Markdown, for a job's summary or a comment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from align.render.data import (
    OUTCOMES,
    Data,
    accepted_rows,
    compared,
    diffs,
    failing_layer,
    figure_name,
    outcome,
    ratio,
    without_witness,
    worst_ratio,
)
from align.render.several import HEADERS, Attempt, conclusion, rows
from convert.commands.tables import Rows
from convert.commands.tables import markdown as table

WORST = 5
SIGNS = {"aligned": "✅", "rounding": "⚠️", "diverged": "❌", "inconclusive": "❔"}
MARKS = {True: "✅", False: "❌", None: "➖"}
SPECIAL = re.compile(r"[\\`*_\[\]|~<>&$@]")
"""Characters that GitHub-flavoured Markdown or HTML could read as markup within a line."""


def markdown(data: Data, *, seconds: float | None = None) -> str:
    """Return the whole document; seconds is how long the comparison took, if that is known."""
    parts = [
        f"## {SIGNS[data['verdict']]} mixer-align: {cell(data['verdict'])}",
        cell(data["sentence"]),
        *_first_divergence(data),
        *_no_witness(data),
        _table(("gate", "", "finding"), [_gate(gate) for gate in data["gates"]]),
        *_left_out(data),
        *_accepted(data),
        *_worst(data),
        *(part for section in data["sections"] for part in _section(section)),
        *_all_layers(data),
        f"{_took(seconds)}Batch SHA-256 {cell(data['input_sha256'])}; {cell(_versions(data))}",
    ]
    return "\n\n".join(parts) + "\n"


def markdown_of_several(attempts: Sequence[Attempt]) -> str:
    """Return one document of all alignments: how each ended, then each result under its name."""
    parts = [f"## mixer-align: {cell(conclusion(attempts))}\n\n{_table(HEADERS, rows(attempts))}\n"]
    for attempt in attempts:
        if attempt.data is not None:
            own = markdown(attempt.data, seconds=attempt.seconds)
            parts.append(f"# {cell(attempt.name)}\n\n{own}")
    return "\n".join(parts)


def cell(text: object) -> str:
    """Return text on one line that Markdown shows as it is; it must not come first on a block's first line."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split()))


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"Took {seconds:.1f} s. "


def _first_divergence(data: Data) -> list[str]:
    where = failing_layer(data)
    return [f"**First divergence: {cell(where)}**"] if where else []


def _no_witness(data: Data) -> list[str]:
    said = without_witness(data)
    return [f"**{cell(said[0].upper() + said[1:])}.**"] if said else []


def _left_out(data: Data) -> list[str]:
    """Return the parts on the points that could not be compared."""
    if not data["left_out"]:
        return []
    return ["### Points left out", _table(("point", "why"), data["left_out"].items())]


def _accepted(data: Data) -> list[str]:
    """Return the parts on the differences that are accepted."""
    rows = accepted_rows(data)
    return ["### Accepted differences", _table(("point", "bound", "reason"), rows)] if rows else []


def _gate(gate: Data) -> tuple[str, ...]:
    return gate["name"], f"{MARKS[gate['passed']]} {OUTCOMES[gate['passed']]}", gate["sentence"]


def _worst(data: Data) -> list[str]:
    """Return the parts on the layers that come nearest to a bound, or exceed it most."""
    layers = sorted(data["layers"], key=worst_ratio, reverse=True)[:WORST]
    if not layers:
        return []
    return [
        "### Worst layers, by ratio to the bound",
        _table(("layer", "figure", "", "ratio"), (_worst_row(data, layer) for layer in layers)),
    ]


def _worst_row(data: Data, layer: Data) -> tuple[str, ...]:
    precision, figure, diff = max(diffs(layer), key=lambda each: ratio(each[2]["max_abs_diff"], each[2]["bound"]))
    said = compared(diff["max_abs_diff"], diff["bound"], passed=diff["passed"])
    return (
        layer["name"],
        figure_name(data, precision, figure),
        f"{said} {_mark(diff)}",
        f"{ratio(diff['max_abs_diff'], diff['bound']):.2g}",
    )


def _section(section: Data) -> list[str]:
    if not section["checks"]:
        return []
    checks = [
        (check["name"], check["layer"], _figure(check), check["detail"], _mark(check)) for check in section["checks"]
    ]
    return _folded(
        f"{section['gate']['name']}: {len(checks)} checks", _table(("check", "layer", "figure", "detail", ""), checks)
    )


def _mark(found: Data) -> str:
    """Return the mark of a check or a difference; one that is not judged is marked as skipped, not as passed."""
    judged = outcome(found)
    return f"{MARKS[judged]} skipped" if judged is None else MARKS[judged]


def _figure(check: Data) -> str:
    return compared(check["figure"], check["bound"], passed=check["passed"])


def _all_layers(data: Data) -> list[str]:
    if not data["layers"]:
        return []
    headers = (
        "layer",
        *(figure_name(data, precision, figure) for precision, figure, _ in diffs(data["layers"][0])),
    )
    lines = [
        (layer["name"], *(f"{float(d['max_abs_diff']):.1e}{'' if d['passed'] else ' ❌'}" for _, _, d in diffs(layer)))
        for layer in data["layers"]
    ]
    return _folded(f"All {len(lines)} layers", _table(headers, lines))


def _folded(summary: str, content: str) -> list[str]:
    return ["<details>", f"<summary>{summary}</summary>", content, "</details>"]


def _table(headers: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    escaped: Rows = [[cell(text) for text in line] for line in lines]
    return table(headers, escaped)


def _versions(data: Data) -> str:
    found = data["environment"].get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)
