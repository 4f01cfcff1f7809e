"""The layers' table folded to blocks, each with its worst point: what fits a screen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from align.core.result import LayerRow

HEADERS = ("block", "points", "worst at", "float64", "float32", "ulp", "")
TITLE = "introduced differences, the worst of each block; --all-layers shows every point"


def folded_rows(layers: Sequence[LayerRow]) -> list[tuple[str, ...]]:
    """Return a row of text per block, one text per header; a point that is over a bound has a row of its own.

    A block is what has the same name up to its first number: `blocks.3`, `layer1.0`, `features.denseblock2`.
    """
    blocks: dict[str, list[LayerRow]] = {}
    for layer in layers:
        blocks.setdefault(_block(layer.name) if layer.passed else layer.name, []).append(layer)
    return [_row(block, members) for block, members in blocks.items()]


def _block(name: str) -> str:
    """Return the name up to its first part that is a number, or else up to the first that ends in one."""
    parts = name.split(".")
    counted = [i for i, part in enumerate(parts) if part.isdigit()]
    numbered = [i for i, part in enumerate(parts[:-1]) if part[-1:].isdigit()]
    at = next(chain(counted, numbered), len(parts) - 1)
    return ".".join(parts[: at + 1])


def _row(block: str, layers: Sequence[LayerRow]) -> tuple[str, ...]:
    worst = max(layers, key=_share)
    narrow = worst.float32.introduced
    within = worst.name.removeprefix(block).removeprefix(".")
    return (
        block,
        str(len(layers)),
        within or "—",
        f"{worst.float64.introduced.max_abs_diff:.1e}",
        f"{narrow.max_abs_diff:.1e}",
        f"{narrow.max_ulp_diff:.1f}",
        "" if worst.passed else "over",
    )


def _share(layer: LayerRow) -> float:
    """Return how near to its bound the nearer of its introduced differences comes."""
    introduced = (layer.float64.introduced, layer.float32.introduced)
    return max(diff.max_abs_diff / diff.bound if diff.bound else diff.max_abs_diff for diff in introduced)
