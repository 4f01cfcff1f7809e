"""How near figures come to their bounds, over made-up figures whose ratios are plain."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from align.core.bounds import UNBOUNDED, Tolerance
from align.core.compare import LayerDiff, compare
from align.core.result import AlignmentResult, Check, Differences, Gate, GateName, LayerRow, Section, Sides
from align.rounding.closeness import closeness

SHOWN = compare("x", np.zeros(3), np.array([0.0, 5.0, 0.0]), UNBOUNDED, 1.0)


def diff(figure: float, bound: float) -> LayerDiff:
    return dataclasses.replace(SHOWN, max_abs_diff=figure, bound=bound, passed=figure <= bound)


def row(name: str, *, wide: LayerDiff, introduced: LayerDiff, inherited: LayerDiff = SHOWN) -> LayerRow:
    """Return a layer whose four float64 figures are the same."""
    float64 = Differences(inherited=wide, introduced=wide, reference_vs_witness=wide, candidate_vs_witness=wide)
    float32 = Differences(
        inherited=inherited, introduced=introduced, reference_vs_witness=SHOWN, candidate_vs_witness=SHOWN
    )
    return LayerRow(name=name, float64=float64, float32=float32)


def section(name: GateName, *figures: tuple[float, float | None]) -> Section:
    checks = tuple(
        Check(subject="x", layer="", figure=figure, bound=bound, detail="", passed=True) for figure, bound in figures
    )
    return Section(gate=Gate(name=name, passed=True, sentence=""), checks=checks)


def result(layers: tuple[LayerRow, ...] = (), sections: tuple[Section, ...] = ()) -> AlignmentResult:
    return AlignmentResult(
        variant="made up",
        sides=Sides(reference="torch", candidate="Paddle", headline="logits"),
        gates=(),
        layers=layers,
        verdict="aligned",
        first_divergence=None,
        left_out={},
        input_sha256="",
        settings={},
        environment={},
        sections=sections,
    )


def test_the_greatest_ratio_of_each_bound_counts_and_not_the_greatest_figure() -> None:
    layers = (
        row("stem", wide=diff(6.0, 8.0), introduced=diff(1.0, 8.0)),
        row("logits", wide=diff(1.0, 4.0), introduced=diff(3.0, 4.0), inherited=diff(20.0, 10.0)),
    )
    assert closeness(result(layers)) == {
        "float64 inherited": 0.75,
        "float64 introduced": 0.75,
        "float64 reference_vs_witness": 0.75,
        "float64 candidate_vs_witness": 0.75,
        "float32 introduced": 0.75,
        "float32 logits": 2.0,
    }


def test_the_headline_is_apart_only_where_it_is_the_headline() -> None:
    """A float32 bound on what another point inherits, should one be judged, does not hide behind the logits'."""
    none = diff(0.0, 1.0)
    layers = (
        row("stem", wide=none, introduced=none, inherited=diff(3.0, 4.0)),
        row("logits", wide=none, introduced=none, inherited=diff(1.0, 4.0)),
    )
    found = closeness(result(layers))
    assert (found["float32 inherited"], found["float32 logits"]) == (0.75, 0.25)


def test_without_a_witness_nothing_is_said_of_it() -> None:
    layer = row("stem", wide=diff(1.0, 2.0), introduced=diff(1.0, 2.0))
    alone = dataclasses.replace(layer.float64, reference_vs_witness=None, candidate_vs_witness=None)
    found = closeness(result((dataclasses.replace(layer, float64=alone),)))
    assert found == {"float64 inherited": 0.5, "float64 introduced": 0.5, "float32 introduced": 0.5}


def test_sections_go_by_their_name_and_what_is_not_judged_by_figure_is_left_out() -> None:
    sections = (
        section("determinism", (0.0, 0.0), (7.0, None)),
        section("batch", (1.0, 8.0), (1.0, 2.0)),
        section("training", (3.0, 4.0)),
    )
    assert closeness(result(sections=sections)) == {"batch": 0.5, "training": 0.75}


@pytest.mark.parametrize(
    ("figure", "bound", "ratio"),
    [
        (0.0, 0.0, 0.0),
        (1e-45, 0.0, math.inf),
        (math.nan, 1.0, math.inf),
        (math.inf, 1.0, math.inf),
        (1.0, math.nan, math.inf),
        (0.0, math.nan, math.inf),
    ],
)
def test_what_cannot_be_divided(figure: float, bound: float, ratio: float) -> None:
    """Equal bits keep to any bound; whatever is no number keeps to none."""
    found = closeness(result((row("stem", wide=diff(0.0, 1.0), introduced=diff(figure, bound)),)))
    assert found["float32 introduced"] == ratio


@pytest.mark.usefixtures("frameworks")
class TestOfAnAlignment:
    """Over a real result, its ratios are over 1 exactly where its gates fail."""

    def found(self) -> AlignmentResult:
        from align.core.case import Settings
        from align.mixer.specimens import SPECIMENS
        from align.run import align

        return align(SPECIMENS["small-mixer"].case(Settings(), 0))

    def test_a_right_port_keeps_to_all(self) -> None:
        found = closeness(self.found())
        assert found.keys() >= {"float64 introduced", "float32 introduced", "float32 logits", "batch"}
        assert 0 < max(found.values()) <= 1

    def test_bounds_that_none_keeps_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = Tolerance.bound
        monkeypatch.setattr(Tolerance, "bound", lambda self, scale: 1e-9 * whole(self, scale))
        tight = self.found()
        assert tight.verdict == "diverged"
        assert max(closeness(tight).values()) > 1
