"""Bundles for the tests: one that an audit wrote of a tiny model, and ways to alter it as somebody careful would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from reports.audit.bundle import ENVELOPE, SUMS, as_json, sha256, sums_of
from reports.audit.derived import derived
from reports.audit.names import RENDERED, STATEMENT, names_of
from reports.audit.records import read_records
from reports.data.cifar10 import ARCHIVE_SHA256
from reports.render.report import Facts, facts_of
from reports.score.predictions import read_predictions
from reports.score.published import PublishedFigure

Data = dict[str, Any]
COUNT = 30
NAMES = {
    *("report.html", "report.json", "report.md", "predictions.npz", "environment.json", "statement.intoto.json"),
    *("alignment-source.json", "alignment-finetuned.json", "conversion-source.json", "conversion-finetuned.json"),
    *("manifest-finetuned.json", "curve.png", SUMS),
}


def run(*arguments: object) -> Result:
    from reports.commands.cli import main

    return CliRunner().invoke(main, [str(a) for a in arguments])


def audit_of(folder: Path, *options: object, out: str = "bundle") -> Result:
    inputs = ["--checkpoint", folder / "small.safetensors", "--weights", folder / "small.pdparams"]
    return run("audit", *inputs, "--data", folder / "tiny.tar.gz", "--out", folder / out, *options)


def copy_of(bundle: Path, folder: Path) -> Path:
    return Path(shutil.copytree(bundle, folder / "copy", dirs_exist_ok=False))


def load_json(bundle: Path, name: str) -> Data:
    return json.loads((bundle / name).read_text())  # type: ignore[no-any-return]


def alter(bundle: Path, name: str, change: Callable[[Data], None]) -> None:
    """Change a JSON file of a bundle and make everything that is derived from it fit again, the checksums too."""
    data = load_json(bundle, name)
    change(data)
    (bundle / name).write_bytes(as_json(data))
    mend(bundle)


def mend(bundle: Path) -> None:
    """Render the reports, the Statement and the checksums again."""
    files = {file.name: file.read_bytes() for file in bundle.iterdir()}
    records = read_records(files)
    sha256s = {name: sha256(files[name]) for name in files if name not in (*RENDERED, STATEMENT, SUMS, ENVELOPE)}
    again = derived(records.report, records.environment, records.alignments, sha256s)
    for name, content in again.items():
        (bundle / name).write_bytes(content)
    sum_up(bundle)


def sum_up(bundle: Path) -> None:
    """Write the checksums of what is there."""
    (bundle / SUMS).unlink(missing_ok=True)
    (bundle / SUMS).write_bytes(sums_of({file.name: file.read_bytes() for file in bundle.iterdir()}))


def facts_in(bundle: Path) -> Facts:
    """Return what a bundle holds."""
    own = names_of(manifest=True)
    records = read_records({file.name: file.read_bytes() for file in bundle.iterdir() if file.name in own})
    return facts_of(
        records.report,
        read_predictions(bundle / "predictions.npz"),
        conversions=records.conversions,
        alignments=records.alignments,
        manifest=records.manifest,
    )


def with_circumstances(bundle: Path, figure: PublishedFigure, **changes: Any) -> Facts:
    """Return a real bundle's facts as if its weights and images were those that a published row is about."""
    facts = facts_in(bundle)
    weights, sha256 = replace(facts.weights, upstream=figure.upstream), ARCHIVE_SHA256["python"]
    around = {
        "figure": figure,
        "weights": weights,
        "origin": replace(facts.origin, canonical=True, sha256=sha256),
        "preprocessing": figure.preprocessing,
    }
    return replace(facts, **{**around, **changes})


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if isinstance(value, int) else value * 1.001 + 1e-3
    return [*value, 1] if isinstance(value, list) else f"{value} "
