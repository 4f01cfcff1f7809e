"""The table of a comparison's points on the terminal: folded by block, or whole."""

from __future__ import annotations

from collections.abc import Sequence

import click

ALL_LAYERS = click.option("--all-layers", is_flag=True, help="Print a row for each point, not one for each block.")


def print_folded(headers: Sequence[str], rows: Sequence[tuple[str, ...]], beneath: str, *, title: str) -> None:
    """Print a row per block, fitted to the terminal's width if there is one, and the line beneath the table."""
    import shutil
    import sys

    from align.render.fold import fitted
    from convert.commands.tables import print_table

    shown = fitted(headers, rows, shutil.get_terminal_size().columns) if sys.stdout.isatty() else rows
    print_table(headers, shown, title=title)
    if beneath:
        print(beneath)
