"""One result in the forms that people and CI systems read, all of them rendered from the same plain data.

Each form has a module: `text` for the terminal, `data` for JSON, and `markdown`, `junit`, `annotations` and `html`,
which render what `data.as_data` returns. These four are imported only where they are needed, as are their libraries.
"""

from __future__ import annotations

from align.render.data import SCHEMA, as_data, finite, schema_text
from align.render.text import (
    FOLDED_HEADERS,
    TRAINING_HEADERS,
    folded_rows,
    gate_lines,
    headers,
    rows,
    training_rows,
    verdict_line,
)

__all__ = [
    "FOLDED_HEADERS",
    "SCHEMA",
    "TRAINING_HEADERS",
    "as_data",
    "finite",
    "folded_rows",
    "gate_lines",
    "headers",
    "rows",
    "schema_text",
    "training_rows",
    "verdict_line",
]
