"""Several alignments of one command, in the forms that people and CI systems read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

from align.core.result import AlignmentResult
from align.render.data import Data, as_data, schema_text
from convert.errors import printable
from convert.files import strict_json

SCHEMA = "mixer-align/results/1"
HEADERS = ("verdict", "of", "where it diverges first, or the error")
"""Headers of the rows; the name is not first, as a runner could take a line that begins with it for a command."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An alignment and how it ended: with a result, or with an error, as a sentence and an exit code.

    name: what distinguishes it from the others; empty if it is the only one. seconds: how long it took.
    """

    name: str = ""
    result: AlignmentResult | None = None
    error: str = ""
    exit_code: int = 0
    seconds: float | None = None

    @cached_property
    def data(self) -> Data | None:
        """The result as the plain data that every report takes; None if there is no result."""
        return None if self.result is None else as_data(self.result)

    @property
    def ended(self) -> str:
        """The verdict, or `error` if there is none."""
        return "error" if self.result is None else self.result.verdict


def status(attempts: Sequence[Attempt], *, accept_rounding: bool) -> int:
    """Return the exit code of all alignments: that of the first error, else 1 if one failed, else 0."""
    errors = (attempt.exit_code for attempt in attempts if attempt.result is None)
    results = [attempt.result for attempt in attempts if attempt.result is not None]
    return next(errors, int(any(result.failed(accept_rounding=accept_rounding) for result in results)))


def rows(attempts: Sequence[Attempt]) -> list[tuple[str, ...]]:
    """Return a row of text per alignment, one text per header."""
    return [(attempt.ended, printable(attempt.name), _where(attempt)) for attempt in attempts]


def conclusion(attempts: Sequence[Attempt]) -> str:
    """Return the line that sums up a CI log; it names the alignments that are not aligned."""
    counts = Counter(attempt.ended for attempt in attempts)
    others = ", ".join(printable(attempt.name) for attempt in attempts if attempt.ended != "aligned")
    said = ", ".join(f"{count} {ended}" for ended, count in counts.items())
    return f"{len(attempts)} alignments: {said}" + (f" ({others})" if others else "")


def as_list(attempts: Sequence[Attempt]) -> Data:
    """Return all alignments as JSON takes them; each result is the same as on its own."""
    return {"schema": SCHEMA, "results": [_entry(attempt) for attempt in attempts]}


def list_schema_text() -> str:
    """Return the JSON Schema (draft 2020-12) that `as_list` keeps to, with that of a result included."""
    schema = strict_json.parse(resources.files("align.render").joinpath("results.schema.json").read_bytes())
    result = {key: part for key, part in strict_json.parse(schema_text()).items() if key not in ("$schema", "$id")}
    schema["$defs"] |= {**result.pop("$defs"), "result": result}
    return f"{json.dumps(schema, indent=2)}\n"


def _entry(attempt: Attempt) -> Data:
    error = {"sentence": attempt.error, "exit_code": attempt.exit_code} if attempt.data is None else None
    return {"name": attempt.name, "result": attempt.data, "error": error}


def _where(attempt: Attempt) -> str:
    if attempt.result is None:
        return attempt.error
    divergence = attempt.result.first_divergence
    return divergence.layer if divergence else ""
