"""A reproduction pack as lines of text or as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from align.probes.environment import environment
from align.reprod.log import FILES, KeyDiff, Stage, diffs_of
from align.reprod.stages import Pack
from convert.disk.hashing import file_sha256

SCHEMA = "mixer-align/reprod/1"


def lines(pack: Pack, folder: Path, count: int) -> list[str]:
    """Return a line per stage, then the verdict, which names the first stage and key at fault.

    Args:
        pack: What was recorded.
        folder: Where it was written.
        count: How many files were written.
    """
    stages = [_line(stage, pack.failures.get(stage.name)) for stage in pack.stages]
    if not pack.failures:
        return [*stages, f"reproduced: {pack.name}: {len(pack.stages)} stages passed; {count} files in {folder}"]
    name, sentence = next(iter(pack.failures.items()))
    return [*stages, f"not reproduced: {pack.name}: {name}: {sentence}"]


def as_data(pack: Pack, written: Iterable[Path]) -> dict[str, Any]:
    """Return the pack as JSON takes it, without its arrays, with the SHA-256 of each file that was written."""
    return {
        "schema": SCHEMA,
        "variant": pack.name,
        "verdict": "not reproduced" if pack.failures else "reproduced",
        "stages": [
            {
                "stage": stage.name,
                "passed": stage.name not in pack.failures,
                "files": FILES[stage.name],
                "note": stage.note,
                "keys": [_key(diff) for diff in diffs_of(stage)],
            }
            for stage in pack.stages
        ],
        "sha256": {path.name: file_sha256(path) for path in written},
        "environment": environment(),
    }


def _line(stage: Stage, failed: str | None) -> str:
    shown = failed or max(diffs_of(stage), key=lambda diff: diff.max).sentence
    return f"{stage.name:<10} {'FAILED' if failed else 'passed':<8} {shown}"


def _key(diff: KeyDiff) -> dict[str, Any]:
    """Return one key's figures; NaN, which JSON lacks, becomes the string `nan`."""
    data = asdict(diff)
    return data | {name: str(data[name]) for name in ("min", "max", "mean") if not math.isfinite(data[name])}
