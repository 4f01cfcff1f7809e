"""That the benchmarks' record is read as it was written, and that what became worse, or misses its target, is said."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """What the benchmarks share, with a record of its own."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import timing

    monkeypatch.setattr(timing, "RECORD", tmp_path / "record.json")
    yield timing
    sys.modules.pop("timing")


@pytest.mark.parametrize(
    ("target", "values", "missed"),
    [
        ("≤ 2", [1, 2, 9], False),
        ("≤ 2", [2.1], True),
        ("≥ 4", [1, 4, 4], False),
        ("≥ 4", [3.9], True),
        ("", [9], False),
    ],
)
def test_a_target_is_for_the_median(timing: ModuleType, target: str, values: Sequence[float], *, missed: bool) -> None:
    assert timing.Ratio(what="x", target=target, values=values).missed is missed


@pytest.mark.parametrize(
    ("target", "now", "worse"),
    [("≤ 2", 3.0, False), ("≤ 2", 3.1, True), ("≥ 2", 1.0, False), ("≥ 2", 0.9, True), ("", 99.0, False)],
)
def test_worse_is_outside_of_all_that_was(timing: ModuleType, target: str, now: float, *, worse: bool) -> None:
    before = timing.Ratio(what="x", target=target, values=[1.0, 2.0, 3.0])
    assert timing.Ratio(what="x", target=target, values=[now]).worse_than(before) is worse


def run_all(monkeypatch: pytest.MonkeyPatch, figures: dict[str, list[float]], *scripts: str) -> int:
    """Run all.py where each script prints the figures that are given for it, of a ratio that is to be small."""

    def printed(command: Sequence[str], **_: Any) -> SimpleNamespace:
        name = Path(command[-1]).name
        ratio = {"what": name, "target": "≤ 2", "values": figures.get(name, [1.0])}
        return SimpleNamespace(stdout=f"noise\n{json.dumps([ratio])}\n")

    monkeypatch.setattr(subprocess, "run", printed)
    monkeypatch.setattr(sys, "argv", ["all.py", *scripts])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / "all.py"))
    return int(ended.value.code or 0)


def test_what_became_worse_is_said_and_recorded(
    timing: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_all(monkeypatch, {"gate.py": [1.0, 1.2]}) == 0
    assert run_all(monkeypatch, {"gate.py": [1.1, 1.2]}) == 0
    assert "worse" not in capsys.readouterr().out
    assert run_all(monkeypatch, {"gate.py": [1.3, 1.4]}) == 1
    assert "worse than before: gate.py, 1.35 | 1.30 | 1.40; was 1.15 | 1.10 | 1.20" in capsys.readouterr().out
    assert timing.recorded()[1]["gate.py"][0].values == [1.3, 1.4]


def test_of_some_alone_the_others_figures_stay(timing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    run_all(monkeypatch, {"gate.py": [1.0], "read.py": [1.5]})
    run_all(monkeypatch, {"gate.py": [0.5], "read.py": [9.0]}, "gate.py")
    found = timing.recorded()[1]
    assert (found["gate.py"][0].values, found["read.py"][0].values) == ([0.5], [1.5])


def test_the_record_is_of_every_script_and_its_page_names_what_is_missed(timing: ModuleType) -> None:
    data = json.loads((BENCHMARKS.parent / "docs" / "benchmarks.json").read_text(encoding="utf-8"))
    assert all((BENCHMARKS / name).exists() for name in data["ratios"])
    page = (BENCHMARKS.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    ratios = [timing.Ratio(**ratio) for each in data["ratios"].values() for ratio in each]
    assert all(ratio.row() in page for ratio in ratios)
    (missed,) = [line for line in page.splitlines() if line.startswith("Missed: ")]
    assert missed == f"Missed: {'; '.join(ratio.what for ratio in ratios if ratio.missed)}."
