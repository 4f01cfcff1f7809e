"""A proposed pairing as a pairing file: each line with a comment that says why, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from align.core.inputs import Input
from align.pairing.file import read_pairing
from align.twins.doubts import Doubt
from align.twins.draft import INDEX
from align.twins.propose import ANOTHER, TOGETHER, Proposal
from align.twins.toml_text import given, quoted, tapped, weight
from align.twins.trial import SAME
from convert.disk.atomic import write_atomically
from convert.errors import IntegrityProblem, printable
from convert.pairing.file import SCHEMA

FROM_TYPE = "the table of layer types"
NOT_CALLED = "never called here, so nothing has tried it"


def text(proposal: Proposal, doubts: Sequence[Doubt], names: tuple[str, str], inputs: Sequence[Input] = ()) -> str:
    """Return a proposal as the text of a pairing file.

    Args:
        proposal: What was found.
        doubts: What is left open for a person to decide.
        names: What to call the reference and the candidate.
        inputs: The models' inputs; those with names are written to the file.
    """
    draft = proposal.best.draft
    parts = [
        [*(f"# {printable(line)}" for line in _head(proposal, names)), "", f"schema = {quoted(SCHEMA)}"],
        _table("inputs", ((one.name, given(one), "as it was given") for one in inputs if one.name), doubts),
        _table("weights", _weights(proposal, doubts), doubts),
        _table("modules", ((path, quoted(to), _said_of(proposal, path)) for path, to in draft.modules.items()), doubts),
        _table(
            "points",
            (
                (name, tapped(at), f"found by its value: {_distance(proposal, name)}")
                for name, at in draft.moved.items()
            ),
            doubts,
        ),
        _table("left-out", ((name, quoted(why), _seen(why)) for name, why in draft.left_out.items()), doubts),
        _table("not-covered", ((key, quoted(why), "by its dtype") for key, why in draft.not_covered.items()), doubts),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _head(proposal: Proposal, names: tuple[str, str]) -> Iterator[str]:
    best = proposal.best
    yield f"Proposed by mixer-align propose: {names[0]} is the reference, {names[1]} the candidate."
    yield f"Its layers with tensors are paired by {best.draft.order}: {summary(proposal)}."
    for order, why in proposal.others.items():
        yield f"Not by {order}: {why}."
    yield "Each line says how its pair did when both ran in float64 with the reference's weights, drawn by a seed."
    yield "Read it before you rely on it; what stands behind # open is for you to decide."


def lines(proposal: Proposal, doubts: Sequence[Doubt], out: Path) -> Iterator[str]:
    """Yield the lines that summarise a proposal for a person."""
    draft = proposal.best.draft
    paired, held = len(draft.rules.rules), len(draft.owners.sides[0].shapes)
    tensors = f"{paired} of {held} tensors paired by {draft.order}, {len(draft.dropped)} dropped"
    yield f"{out}: {tensors}; {summary(proposal)}."
    for order, why in proposal.others.items():
        yield f"not by {order}: {why}."
    if draft.left_out:
        yield f"{len(draft.left_out)} points left out, {len(draft.moved)} found elsewhere: see [left-out] and [points]."
    if not proposal.best.agrees:
        yield f"the outputs do not agree under it: run mixer-align with --pairing {out} to see where they part first."
    for doubt in doubts:
        yield f"open: {doubt.sentence}."


def write(out: Path, content: str, proposal: Proposal, doubts: Sequence[Doubt], *, force: bool) -> None:
    """Write a proposal's pairing file, and check it by reading it back before it is moved into place.

    Raises:
        IntegrityProblem: What was read back is another pairing.
        OutputRefused, IOProblem: As `write_atomically` says.
    """
    doubtful = {key for doubt in doubts for key in doubt.keys}
    wanted = proposal.best.draft.pairing
    entries = [entry for entry in proposal.best.draft.weights if entry.name not in doubtful]

    def check(path: Path) -> None:
        found = read_pairing(path)
        weights = [*found.weights.entries] if found.weights else []
        tables = ("modules", "points", "left_out", "not_covered")
        same = all(getattr(found, table) == getattr(wanted, table) for table in tables)
        if not same or weights != entries:
            raise IntegrityProblem(f"{out}: what was written is not the pairing that was tried. Report it.")

    def fill(stream: BinaryIO) -> None:
        stream.write(content.encode())

    write_atomically(out, fill, check, force=force)


def summary(proposal: Proposal) -> str:
    """Return in words how many points agree, and whether the output does."""
    best = proposal.best
    points = f"{best.trial.agreeing} of {len(best.points)} points agree in float64"
    if best.agrees:
        how = f"within {best.output:.0e} of its largest value" if best.output else "exactly"
        return f"{points}, and so does the output, {how}"
    forced = ", each layer given the reference's values" if best.trial.agreeing else ""
    apart = f"{best.output:.0e} of its largest value apart" if best.output < float("inf") else "of another shape"
    return f"{points}{forced}; the output is {apart}"


def _weights(proposal: Proposal, doubts: Sequence[Doubt]) -> Iterator[tuple[str, str, str]]:
    draft, doubtful = proposal.best.draft, {key for doubt in doubts for key in doubt.keys}
    for entry in draft.weights:
        if entry.name not in doubtful:
            path = entry.name.rpartition(".")[0]
            why = (
                "seen by running" if path in draft.idle else "by its dtype" if entry.why_dropped == INDEX else FROM_TYPE
            )
            if entry.to is not None:
                why = f"{draft.order}, {draft.owners.kind(path)}: {_said_of(proposal, path)}"
            yield entry.name, weight(entry), why


def _seen(why: str) -> str:
    return "seen by running both in float64" if why == ANOTHER or why.startswith(TOGETHER) else "by the order of calls"


def _said_of(proposal: Proposal, path: str) -> str:
    """Return in words how the outputs of a layer and of its counterpart compared."""
    best, calls = proposal.best, [call for call in proposal.bench.calls[0] if call.path == path]
    if not calls:
        return NOT_CALLED
    names = [p.name for p in best.points if p.reference.module == path]
    if not names:
        return "its own output is not compared, what lies behind it is" if best.agrees else "its output is not compared"
    return _distance(proposal, max(names, key=lambda name: best.trial.distances[name]))


def _distance(proposal: Proposal, point: str) -> str:
    """Return in words how a point compared."""
    found = proposal.best.trial.distances[point]
    if found <= SAME:
        return f"agrees within {found:.0e}" if found else "agrees exactly"
    return f"differs by {found:.0e} of its largest value" if found < float("inf") else "its output has another shape"


def _table(name: str, entries: Iterator[tuple[str, str, str]] | tuple[()], doubts: Sequence[Doubt]) -> list[str]:
    """Return a table's lines, with what it leaves open as comments; an empty list where there is neither."""
    lines = [f"{quoted(key)} = {value}{f'  # {printable(why)}' if why else ''}" for key, value, why in entries]
    for doubt in doubts:
        if doubt.table == name:
            lines.append(f"# open: {printable(doubt.sentence)}")
            lines += [f"# {quoted(key)} = {value}" for key, value in doubt.ways]
    return [f"[{name}]", *lines] if lines else []
