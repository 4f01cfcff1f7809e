"""The published figures in words."""

from __future__ import annotations

from collections.abc import Iterator

from reports.score.published import PublishedFigure

HEADERS = ("figure", "percent", "upstream", "images", "protocol", "source")


def figure_rows(figures: tuple[PublishedFigure, ...]) -> list[tuple[str, ...]]:
    """Return a row of text per published figure, one text per header."""
    return [
        (
            figure.id,
            f"{figure.percent:.2f}",
            figure.upstream,
            f"{figure.counted:,} of {figure.of:,}",
            figure.preprocessing.said.partition(" (")[0],
            f"{figure.source}, {figure.locator}",
        )
        for figure in figures
    ]


def figure_notes(figures: tuple[PublishedFigure, ...]) -> Iterator[str]:
    """Yield what to know about each figure: its recipe, its remark, and the source of its protocol."""
    for figure in figures:
        yield f"{figure.id}: {figure.recipe}. {figure.remark[0].upper()}{figure.remark[1:]}."
        yield f"  protocol: {figure.protocol_source}"
