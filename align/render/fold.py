"""Many points in the few rows that a screen shows: a block in one row, represented by its worst point."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

NUMBER = re.compile(r"\d+(?=\.|$)")
FOLD_HEADERS = ("layers", "points", "worst point")
"""Headers of the cells that `names_of` returns."""

LEAST = 8
"""Characters below which no column of names is narrowed."""


class Named(Protocol):
    """Anything with the name of a point."""

    @property
    def name(self) -> str:
        """The name, with dots."""


Row = TypeVar("Row", bound=Named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold(Generic[Row]):
    """One row: points that are shown together, represented by the worst of them."""

    name: str
    count: int
    worst: Row


def fold(points: Sequence[Row], *, severity: Callable[[Row], float], alone: Callable[[Row], bool]) -> list[Fold[Row]]:
    """Return the points folded by blocks, in forward order.

    Args:
        points: In forward order.
        severity: Says how near its bound a point comes.
        alone: Says which points are never folded, such as those over their bound.
    """
    holds = Counter(prefix for point in points for prefix in _prefixes(point.name))
    blocks: dict[str, list[Row]] = {}
    for point in points:
        block = next((prefix for prefix in _prefixes(point.name) if holds[prefix] > 1), "")
        key = f"={point.name}" if alone(point) or not block else block
        blocks.setdefault(key, []).append(point)
    return [
        Fold(name=key if len(held) > 1 else held[0].name, count=len(held), worst=max(held, key=severity))
        for key, held in blocks.items()
    ]


def share(figure: float, bound: float | None) -> float:
    """Return a figure in units of its bound, NaN counting as infinite; 0 where there is no bound."""
    if not math.isfinite(figure):
        return math.inf
    if bound is None or math.isinf(bound):
        return 0.0
    if bound == 0:
        return 0.0 if figure == 0 else math.inf
    return figure / bound


def names_of(found: Fold[Row]) -> tuple[str, str, str]:
    """Return the cells that name a row: the block, how many points, and the worst of them, named within it."""
    if found.count == 1:
        return found.name, "1", ""
    return found.name, str(found.count), found.worst.name.removeprefix(f"{found.name}.")


def fitted(
    headers: Sequence[str], rows: Sequence[tuple[str, ...]], width: int, names: Sequence[int] = (0, 2)
) -> list[tuple[str, ...]]:
    """Return the rows with names shortened in the middle so that the table fits a width.

    Args:
        headers: The table's headers; their words may be stacked, one below the other.
        rows: Rows of one text per header.
        width: The width in characters.
        names: The columns that may be shortened; the widest goes first.
    """
    words = [max(map(len, header.split() or [""])) for header in headers]
    widths = [max(word, *(len(row[i]) for row in rows)) for i, word in enumerate(words)]
    spare = width - 2 * (len(widths) - 1) - sum(widths)
    while spare < 0 and max(widths[i] for i in names) > LEAST:
        widest = max(names, key=widths.__getitem__)
        widths[widest] -= 1
        spare += 1
    return [tuple(_short(text, widths[i]) if i in names else text for i, text in enumerate(row)) for row in rows]


def said(points: Sequence[Row], folds: Sequence[Fold[Row]]) -> str:
    """Return the line beneath a folded table; an empty string if nothing was folded."""
    if len(folds) == len(points):
        return ""
    return f"{len(points)} points in {len(folds)} rows, a block by its worst point; --all-layers shows each."


def _prefixes(name: str) -> Iterator[str]:
    """Yield the parts of a name that end with a number, the longest first."""
    for found in reversed(list(NUMBER.finditer(name))):
        if found.start() == 0 or name[found.start() - 1] == ".":
            yield name[: found.end()]


def _short(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
