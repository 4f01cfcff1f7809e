"""A table of text: rich on a terminal, aligned columns elsewhere, Markdown for documents."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest

Rows = Sequence[Sequence[str]]
UNLIMITED = 10_000
LAST_COLUMN = 4
"""Minimum width of the last column, the only one that is wrapped."""


def print_table(headers: Sequence[str], rows: Rows, *, title: str = "") -> None:
    """Print a table to standard output: a rich one on a terminal that is wide enough, else `plain` or `stacked`."""
    if not sys.stdout.isatty():
        print(plain(headers, rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, header_style="bold")
    for header in headers[:-1]:
        table.add_column(header.replace(" ", "\n"), no_wrap=True)
    table.add_column(headers[-1], overflow="fold", min_width=LAST_COLUMN)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False)  # names come from files and may look like either
    needed = console.measure(table, options=console.options.update(max_width=UNLIMITED)).minimum
    if needed <= console.width:
        console.print(table)
        return
    text = plain(headers, rows)
    too_wide = max(map(len, text.splitlines())) > console.width
    print(stacked(headers, rows) if too_wide else text)


def plain(headers: Sequence[str], rows: Rows) -> str:
    """Return aligned columns, two spaces apart."""
    lines = [headers, *rows]
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=False)).rstrip() for line in lines)


def stacked(headers: Sequence[str], rows: Rows) -> str:
    """Return aligned columns with the words of each header stacked, all their last words on the same line."""
    words = [header.split() for header in headers]
    height = max(map(len, words))
    lines = [[""] * (height - len(column)) + column for column in words]
    first, *more = zip(*lines, strict=True)
    return plain(first, [*more, *rows])


def markdown(headers: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
