"""Bundles for the tests: one that an audit wrote of a tiny model, and ways to alter it as somebody careful would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from reports.audit.assemble import RENDERED, STATEMENT, as_json, derived
from reports.audit.bundle import SUMS, sums_of
from reports.data.cifar10 import ARCHIVE_SHA256
from reports.render.report import SUBJECTS, Facts, facts_of
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
    report, environment = load_json(bundle, "report.json"), load_json(bundle, "environment.json")
    alignments = {name: load_json(bundle, f"alignment-{name}.json") for name in SUBJECTS}
    files = {file.name: file.read_bytes() for file in bundle.iterdir()}
    others = {name: content for name, content in files.items() if name not in (*RENDERED, STATEMENT, SUMS)}
    for name, content in derived(report, environment, alignments, others).items():
        (bundle / name).write_bytes(content)
    sum_up(bundle)


def sum_up(bundle: Path) -> None:
    """Write the checksums of what is there."""
    (bundle / SUMS).unlink(missing_ok=True)
    (bundle / SUMS).write_bytes(sums_of({file.name: file.read_bytes() for file in bundle.iterdir()}))


def with_circumstances(bundle: Path, figure: PublishedFigure, **changes: Any) -> Facts:
    """Return a real bundle's facts as if its weights and images were those that a published row is about."""
    files = {file.stem: json.loads(file.read_bytes()) for file in bundle.glob("*.json")}
    facts = facts_of(files["report"], read_predictions(bundle / "predictions.npz"), files)
    weights, sha256 = {**facts.weights, "upstream": figure.upstream}, ARCHIVE_SHA256["python"]
    around = {
        "figure": figure,
        "weights": weights,
        "origin": replace(facts.origin, canonical=True, sha256=sha256),
        "preprocessing": figure.preprocessing,
    }
    return replace(facts, **{**around, **changes})
