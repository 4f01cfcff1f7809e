"""The page of all errors: a heading per exit code, a table per module of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from error_sentences import WITHIN, Entry, entries, trees

SENTENCE_END = re.compile(r"(?<=[.?]) (?=[A-Z`‹])")


def shared_out(sentence: str) -> tuple[str, str]:
    """Return what a sentence says is wrong, and what it says to do."""
    first, *others = SENTENCE_END.split(sentence)
    return first, " ".join(others)


HEADS = {
    2: "Wrong usage: the command was called in a way that cannot be carried out.",
    3: "Bad or unsafe input: a file is not what it has to be, or is not safe to read.",
    4: "Input, output or network: a disk, a folder or the network refused.",
    5: "Integrity: something changed while it was used, or does not match its hash.",
    1: "A run that ended otherwise than it should have.",
}
ADVICE = {
    2: "Change what it names; `--help` lists the options.",
    4: "Mend what it names, and run the command again.",
    5: "Get the file again, or make it anew.",
    1: "Look at what was printed before it.",
}
"""What to do where the sentence leaves it open; of a file, to get another."""
OTHERWISE = "Get the file again, or save it anew."


def page(modules: Mapping[str, ast.Module] | None = None) -> str:
    """Return the generated part of the page, of these modules or all: a heading per exit code, a table per module."""
    every = entries(modules or trees())
    codes = [code for code in HEADS if any(entry.kind.exit_code == code for entry in every)]
    codes += sorted({entry.kind.exit_code for entry in every} - HEADS.keys())
    counted = f"{len(every)} places in the code make an error. All of them:\n"
    return "\n".join([counted, *(line for code in codes for line in _of_code(code, every))])


def _of_code(code: int, every: list[Entry]) -> Iterator[str]:
    mine = [entry for entry in every if entry.kind.exit_code == code]
    yield f"### Exit code {code}\n\n{HEADS.get(code, 'Stopped: the command was told to end, and can be resumed.')}\n"
    for module in dict.fromkeys(entry.module for entry in mine):
        rows = [entry for entry in mine if entry.module == module]
        yield f"**{rows[0].about or module}** (`{module}`)\n"
        yield "| what it says | what to do |\n| --- | --- |"
        yield "\n".join(dict.fromkeys(_row(entry) for entry in rows)) + "\n"


def _row(entry: Entry) -> str:
    wrong, advice = shared_out(entry.sentence)
    if entry.kind.name in WITHIN:
        wrong, advice = f"FILE: {wrong.rstrip('.')}.", advice or OTHERWISE
    return f"| {_cell(wrong)} | {_cell(advice or ADVICE.get(entry.kind.exit_code, OTHERWISE))} |"


def _cell(text: str) -> str:
    for sign in "\\|<>*_[]":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(text.split())
