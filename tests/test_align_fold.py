"""The table of the points by blocks: what is folded, what is not, and how wide it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import made_up
import pytest
from click import unstyle
from click.testing import CliRunner
from test_align_result import diff, row

from align.commands import cli
from align.commands.layer_table import print_folded
from align.core.bounds import FLOAT64
from align.core.result import AlignmentResult, LayerRow
from align.render import FOLDED_HEADERS, folded_rows
from align.render.fold import fitted, fold
from align.trace import render
from align.trace.result import SketchDiff, TraceRow
from convert.commands.tables import plain


def folded(*names: str, over: Sequence[str] = ()) -> list[tuple[str, int]]:
    points = [SimpleNamespace(name=name) for name in names]
    found = fold(points, severity=lambda _: 0.0, alone=lambda point: point.name in over)
    return [(each.name, each.count) for each in found]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["stem", "blocks.3.norm1", "blocks.3.mlp.fc1", "blocks.3", "norm"],
            [("stem", 1), ("blocks.3", 3), ("norm", 1)],
        ),
        (["layer1.0.conv1", "layer1.0.bn1", "layer1.1.conv1"], [("layer1.0", 2), ("layer1.1.conv1", 1)]),
        (["features.2.0", "features.2.1", "features.12.0"], [("features.2", 2), ("features.12.0", 1)]),
        (
            ["layers.0.blocks.1.a", "layers.0.blocks.1.b", "layers.0.down"],
            [("layers.0.blocks.1", 2), ("layers.0.down", 1)],
        ),
        (["blocks.3.mlp.0", "blocks.3.norm"], [("blocks.3", 2)]),
        (["conv1", "conv2", "fc1.weight"], [("conv1", 1), ("conv2", 1), ("fc1.weight", 1)]),
        (["0.a", "0.b", "1"], [("0", 2), ("1", 1)]),
    ],
)
def test_the_longest_prefix_with_a_number_that_holds_several_points(names: list[str], expected: Any) -> None:
    assert folded(*names) == expected


def test_what_is_over_stands_alone() -> None:
    names = ("a.0.x", "a.0.y", "a.0.z")
    assert folded(*names, over=["a.0.y"]) == [("a.0", 2), ("a.0.y", 1)]
    assert folded(*names, over=names) == [(name, 1) for name in names]


def big(blocks: int, parts: Sequence[str], prefix: str = "blocks") -> AlignmentResult:
    """Return a result whose second part is the worst of each block."""
    names = [f"{prefix}.{i}.{part}" for i in range(blocks) for part in parts]
    return made_up.result(
        *(worse(name) if name.endswith(parts[1]) else made_up.small(name) for name in names), made_up.small("logits")
    )


def worse(name: str) -> LayerRow:
    return row(name, float64_inherited=diff(7e-13, FLOAT64))


def test_a_block_shows_its_worst_point() -> None:
    rows, beneath = folded_rows(big(12, ("norm1", "mlp_channels.fc1", "norm2")))
    assert [cells[:3] for cells in rows[:2]] == [
        ("blocks.0", "3", "mlp_channels.fc1"),
        ("blocks.1", "3", "mlp_channels.fc1"),
    ]
    assert rows[0][3] == "7.0e-13"
    assert len(rows) == 13
    assert beneath.startswith("37 points in 13 rows")


def run(monkeypatch: pytest.MonkeyPatch, result: AlignmentResult, *arguments: str) -> list[str]:
    monkeypatch.setattr(cli, "_align", lambda **_: result)
    return CliRunner().invoke(cli.main, [*arguments]).stdout.splitlines()


def test_a_log_is_folded_too_and_ends_with_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    result = big(12, ("norm1", "mlp_channels.fc1", "norm2"))
    short, whole = run(monkeypatch, result), run(monkeypatch, result, "--all-layers")
    assert not [line for line in short if line.startswith("blocks.3.norm2")]
    assert [line for line in whole if line.startswith("blocks.3.norm2")]
    assert len(whole) - len(short) == 37 - 13 - 1  # the line beneath
    assert short[-1].startswith("aligned: ")
    assert short[-1 - len(result.gates) :] == whole[-1 - len(result.gates) :]


def test_each_layer_over_its_bound_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run(monkeypatch, made_up.diverged())
    over = [line.split()[0] for line in lines if line.endswith(" over") and line.split()[1] == "1"]
    assert over == [made_up.FAULTY, "blocks.1.mlp_tokens.fc1"]


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("prefix", ["blocks", "backbone.some_encoder_of_a_long_name.stages.2.blocks"])
def test_it_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, prefix: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    print_folded(FOLDED_HEADERS, *folded_rows(big(12, ("norm1", "mlp_channels.fc1"), prefix)), title="x")
    lines = unstyle(capsys.readouterr().out).splitlines()
    assert max(map(len, lines[:-1])) <= width
    assert "7.0e-13" in "".join(lines)


def test_a_name_is_shortened_in_its_middle() -> None:
    (cells,) = fitted(("a", "b", "c"), [("backbone.stages.12", "1", "x")], 18)
    assert cells == ("backb…ges.12", "1", "x")
    assert plain(("a", "b", "c"), [cells]).splitlines()[1] == f"{cells[0]}  1  x"


def checked(name: str, distance: float, accepted: float | None = None) -> TraceRow:
    wide = SketchDiff(distance=distance, bound=1e-12, summary=0.0, summary_bound=1e-12, passed=distance <= 1e-12)
    return TraceRow(name=name, shape=(1,), float64=wide, float32=wide, accepted=accepted)


def test_a_check_against_a_trace_is_folded_likewise() -> None:
    points = [checked("blocks.0.a", 1e-15), checked("blocks.0.b", 1e-13)]
    points += [checked("blocks.0.c", 1e-3), checked("blocks.0.d", 1e-15, accepted=1e-3)]
    rows, beneath = render.folded_rows(SimpleNamespace(points=points))  # type: ignore[arg-type]
    assert [(cells[:3], cells[-1]) for cells in rows] == [
        (("blocks.0", "2", "b"), ""),
        (("blocks.0.c", "1", ""), "over"),
        (("blocks.0.d", "1", ""), "accepted"),
    ]
    assert all(len(cells) == len(render.FOLDED_HEADERS) for cells in rows)
    assert beneath.startswith("4 points in 3 rows")
