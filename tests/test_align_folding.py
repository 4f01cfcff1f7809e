"""The layers' table folded to blocks, and two files named without their options."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
from pathlib import Path

import made_up
import pytest
from click.testing import CliRunner

from align.commands import cli
from align.core.result import AlignmentResult
from align.render.folding import FOLDED_HEADERS, block_of, folded_rows


def enlarged(result: AlignmentResult, name: str, points: int = 3) -> AlignmentResult:
    """Return a result with another block of several points, as good as the first, of which the last is worse."""
    first = result.layers[0]
    wide = first.float64.inherited
    worse = dataclasses.replace(first.float64, inherited=dataclasses.replace(wide, max_abs_diff=wide.bound / 2))
    added = [dataclasses.replace(first, name=f"{name}.{at}") for at in "abcdefgh"[:points]]
    added[-1] = dataclasses.replace(added[-1], float64=worse)
    return dataclasses.replace(result, layers=(*result.layers, *added))


@pytest.mark.parametrize(
    ("name", "block"),
    [("blocks.3.mlp.fc1", "blocks.3"), ("encoder.layers.0.norm", "encoder.layers.0"), ("head.fc", "head"), ("x", "x")],
)
def test_a_block_is_named_up_to_its_number(name: str, block: str) -> None:
    assert block_of(name) == block


def test_a_block_shows_its_worst_point_and_how_many_it_has() -> None:
    result = enlarged(made_up.ALL["aligned"](), "tower.7")
    half = result.layers[-1].float64.inherited.max_abs_diff
    assert folded_rows(result)[-1][:3] == ("tower.7.c", "3", f"{half:.1e}")


def test_every_layer_that_is_over_is_shown() -> None:
    result = enlarged(made_up.ALL["diverged"](), "tower.7")
    over = [
        row.name
        for row in result.layers
        if not all(d.passed for b in (row.float64, row.float32) for d in b.each().values())
    ]
    assert over
    assert [row[0] for row in folded_rows(result) if row[-1] == "over"] == over


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 100])
def test_it_fits_the_terminal_and_ends_with_the_verdict(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    result = enlarged(made_up.ALL["aligned"](), f"{'very_long_name.' * 9}7")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    cli._print_folded(result)
    assert FOLDED_HEADERS[1] in out.getvalue()
    assert "…" in out.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(map(len, plain.splitlines()[:-1])) <= columns
    assert "┃" in plain


@pytest.mark.parametrize("all_layers", [False, True])
def test_all_layers_shows_every_point(all_layers: bool, capsys: pytest.CaptureFixture[str]) -> None:
    result = enlarged(made_up.ALL["aligned"](), "tower.7")
    cli._print(result, all_layers=all_layers)
    shown = capsys.readouterr().out
    assert ("tower.7.a " in shown) is all_layers
    assert ("--all-layers" in shown) is not all_layers
    assert shown.splitlines()[-1].startswith("aligned")


def test_two_files_are_told_their_options(tmp_path: Path) -> None:
    one, other = tmp_path / "a b.pth", tmp_path / "b.pdparams"
    found = CliRunner().invoke(cli.main, [str(one), str(other)])
    assert found.exit_code == 2
    assert f"--checkpoint '{one}' --candidate {other}." in found.output
