"""The layers' table folded to blocks: the worst point of each, and every point that is over its bound."""

from __future__ import annotations

from collections.abc import Iterator

from align.core.judgement import nan_last
from align.core.result import AlignmentResult, LayerRow
from align.render.data import ratio

FOLDED_HEADERS = ("layer", "points", "float64 worst", "float32 introduced", "")
OTHER_COLUMNS = 46
"""How wide a terminal's table is without its first column's text."""
LEAST_NAME = 16


def block_of(name: str) -> str:
    """Return what a point belongs to: its dotted name up to the first number, or else its first part."""
    parts = name.split(".")
    numbered = next((at for at, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: numbered + 1])


def folded_rows(result: AlignmentResult, width: int | None = None) -> list[tuple[str, ...]]:
    """Return a row of text for the worst point of each block, or for each of its points that are over.

    Args:
        result: What was compared.
        width: The terminal's, into which the names are shortened; None: they are whole.
    """
    blocks: dict[str, list[LayerRow]] = {}
    for layer in result.layers:
        blocks.setdefault(block_of(layer.name), []).append(layer)
    return [row for block in blocks.values() for row in _rows_of(block, width)]


def _rows_of(block: list[LayerRow], width: int | None) -> Iterator[tuple[str, ...]]:
    over = [layer for layer in block if not _passed(layer)]
    for at, layer in enumerate(over or [max(block, key=_severity)]):
        wide = max((diff.max_abs_diff for diff in layer.float64.each().values()), key=nan_last)
        yield (
            _shortened(layer.name, width),
            "" if at else str(len(block)),
            f"{wide:.1e}",
            f"{layer.float32.introduced.max_abs_diff:.1e}",
            "over" if over else "",
        )


def _passed(layer: LayerRow) -> bool:
    return all(diff.passed for both in (layer.float64, layer.float32) for diff in both.each().values())


def _severity(layer: LayerRow) -> float:
    """Return the worst float64 figure over its bound."""
    return max(nan_last(ratio(diff.max_abs_diff, diff.bound)) for diff in layer.float64.each().values())


def _shortened(name: str, width: int | None) -> str:
    """Return a name with its middle left out where the terminal has no room for it."""
    room = len(name) if width is None else max(width - OTHER_COLUMNS, LEAST_NAME)
    if len(name) <= room:
        return name
    return f"{name[: (room - 1) // 2]}…{name[-(room // 2) :]}"
