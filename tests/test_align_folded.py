"""The layers' table is folded to blocks and fits a terminal; what is over a bound stays in sight."""

from __future__ import annotations

import math
from pathlib import Path

import made_up
import pytest
from conftest import Run, save_safetensors
from test_align_result import diff, row

from align.core.bounds import FLOAT64
from align.core.result import LayerRow
from align.render.folded import HEADERS, folded_rows
from convert.arrays import StateDict
from convert.commands.tables import plain

TERMINAL = 80


def of(*layers: LayerRow) -> dict[str, list[str]]:
    return {block: rest for block, *rest in folded_rows(layers)}


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (("stem", "blocks.0.norm1", "blocks.0.mlp.fc1", "blocks.10.norm1"), ("stem", "blocks.0", "blocks.10")),
        (("conv1", "layer1.0.conv1", "layer1.0.bn1", "layer1.1.conv1", "fc"), ("conv1", "layer1.0", "layer1.1", "fc")),
        (("features.0", "features.1.conv.0.0", "features.1.conv.0.1"), ("features.0", "features.1")),
        (("features.denseblock1.norm", "features.denseblock2.norm"), ("features.denseblock1", "features.denseblock2")),
        (("head.fc", "head.norm"), ("head.fc", "head.norm")),
    ],
)
def test_blocks_are_told_by_numbers(names: tuple[str, ...], blocks: tuple[str, ...]) -> None:
    assert tuple(of(*map(made_up.small, names))) == blocks


def test_a_block_shows_the_point_that_is_nearest_to_a_bound() -> None:
    """By its share of the bound, in either precision, and not by where it stands."""
    layers = [
        made_up.small("blocks.0.a"),
        row("blocks.0.b", float64_introduced=diff(9e-13, FLOAT64), float64_inherited=diff(9e-13, FLOAT64)),
        made_up.small("blocks.0.c"),
    ]
    assert of(*layers)["blocks.0"][:3] == ["3", "b", "9.0e-13"]


@pytest.mark.parametrize("value", [1e-3, math.nan])
def test_a_point_over_its_bound_stands_by_itself(value: float) -> None:
    found = of(*made_up.diverged(value).layers)
    assert found[made_up.FAULTY][0] == "1"
    assert found[made_up.FAULTY][-1] == "over"
    over = [name for name, rest in found.items() if rest[-1]]
    assert over == [layer.name for layer in made_up.diverged(value).layers if not layer.passed]
    assert sum(int(rest[0]) for rest in found.values()) == len(made_up.diverged(value).layers), "none is lost"


def test_it_fits_a_terminal_and_shows_everything_when_asked(
    mixer_align: Run, tmp_path: Path, source: StateDict
) -> None:
    checkpoint = save_safetensors(tmp_path / "x.safetensors", source)
    short, whole = mixer_align("--checkpoint", checkpoint), mixer_align("--checkpoint", checkpoint, "--all-layers")
    assert (short.exit_code, whole.exit_code) == (0, 0)
    table, every = (run.stdout.split("structure ")[0].splitlines() for run in (short, whole))
    assert table[0].split()[:2] == ["block", "points"]
    assert max(map(len, table)) <= TERMINAL
    assert every[0].split()[:2] == ["layer", "shape"]
    counts = [int(line.split()[1]) for line in table[1:]]
    assert sum(counts) == len(every) - 1 > len(counts)
    assert short.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1], "the verdict comes last"


def test_the_rows_have_a_cell_for_each_header() -> None:
    rows = folded_rows(made_up.aligned().layers)
    assert {len(one) for one in rows} == {len(HEADERS)}
    assert plain(HEADERS, rows)
