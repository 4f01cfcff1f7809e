"""A Mixer that was really trained: convert without --variant, and align; the reports' tests count right answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run

pytestmark = pytest.mark.usefixtures("frameworks")


@pytest.fixture
def converted(mixer_convert: Run, trained: Path, tmp_path: Path) -> Path:
    out = tmp_path / "mixer.pdparams"
    result = mixer_convert("--checkpoint", trained, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_it_converts_without_a_variant_and_aligns(
    mixer_align: Run, trained: Path, converted: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    result = mixer_align("--checkpoint", trained, "--candidate", converted, "--json", report)
    assert result.exit_code == 0, result.output
    data = json.loads(report.read_text())
    figures = [diff["max_abs_diff"] for layer in data["layers"] for diff in layer["float64"].values()]
    assert max(figures) < 1e-12
