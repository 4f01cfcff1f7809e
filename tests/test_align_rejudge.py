"""A result read back is judged again: what follows from its figures is computed, and nothing of it is taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from align.core.case import Settings
from align.core.result import AlignmentResult, Divergence, LayerRow
from align.figures.reader import Malformed
from align.figures.rejudge import rejudged
from align.mixer.case import Subject, case_of
from align.mixer.points import points_of
from align.render import as_data
from align.run import align as run
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig

CONFIG = MixerConfig(
    image_size=16, patch_size=8, num_blocks=1, hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32, num_classes=10
)
POINTS = points_of(CONFIG, Settings().batch)


def aligned(**wrong: Any) -> AlignmentResult:
    source = init_state_dict(CONFIG, 0)
    found = run(case_of(Subject(source=source, config=CONFIG, name="tiny", **wrong)))
    return AlignmentResult(**{field.name: getattr(found, field.name) for field in fields(found)})


@pytest.fixture(scope="module")
def right(frameworks: None) -> AlignmentResult:
    return aligned()


def again(found: AlignmentResult) -> AlignmentResult:
    return rejudged(found, POINTS, Settings().atol)


def follows(found: AlignmentResult) -> bool:
    return as_data(again(found)) == as_data(found)


def first_row(found: AlignmentResult, **changes: Any) -> AlignmentResult:
    return replace(found, layers=(replace(found.layers[0], **changes), *found.layers[1:]))


def with_bounds(found: AlignmentResult, bound: float) -> AlignmentResult:
    """Return a result whose bounds are all as wide as this, and whose points all differ by 0.3."""

    def wide(row: LayerRow) -> LayerRow:
        both = {}
        for precision in ("float64", "float32"):
            differences = getattr(row, precision)
            forged = {
                name: replace(diff, bound=bound, candidate_value=diff.reference_value + 0.3, max_abs_diff=0.3)
                for name, diff in differences.each().items()
            }
            both[precision] = replace(differences, **forged)
        return replace(row, **both)

    return replace(found, layers=tuple(map(wide, found.layers)))


def test_a_right_result_follows_from_itself(right: AlignmentResult) -> None:
    assert right.verdict == "aligned"
    assert follows(right)


@pytest.mark.parametrize("family", ["gmixer", "resmlp", "gmlp"])
def test_so_does_each_family_s(frameworks: None, family: str) -> None:
    mixes = family == "gmixer"
    config = replace(CONFIG, family=family, tokens_mlp_dim=8 if mixes else 0, channels_mlp_dim=32)
    found = run(case_of(Subject(source=init_state_dict(config, 0), config=config, name="tiny")))
    assert as_data(rejudged(found, points_of(config, 2), 1e-5)) == as_data(found)


@pytest.mark.parametrize("scale", [1.5, math.nan, 1e4])
def test_so_does_a_wrong_port_s(frameworks: None, scale: float) -> None:
    """Of another weight in the candidate; of one that is not a number; of one that rounding is large beside."""
    source = init_state_dict(CONFIG, 0)
    candidate = {key: array.copy() for key, array in case_of(_subject(source)).expected.items()}
    candidate["blocks.0.norm1.weight"][3] *= scale
    found = run(case_of(replace(_subject(source), candidate=candidate)))
    assert found.verdict == "diverged"
    assert follows(found)


def _subject(source: Any) -> Subject:
    return Subject(source=source, config=CONFIG, name="tiny")


def test_other_points(right: AlignmentResult) -> None:
    for layers in (right.layers[-1:], right.layers[::-1], right.layers[1:]):
        with pytest.raises(Malformed, match="its points are not the 14"):
            again(replace(right, layers=layers))


def test_bounds_are_computed_again(right: AlignmentResult) -> None:
    forged = again(with_bounds(right, 1e9))
    assert forged.verdict == "diverged"
    assert not follows(with_bounds(right, 1e9))


def test_a_size_above_all_values_would_let_anything_pass(right: AlignmentResult) -> None:
    with pytest.raises(Malformed, match="stem: its bound is above every value"):
        again(first_row(right, size=1e16))


def test_figures_of_0_everywhere_are_no_float32(right: AlignmentResult) -> None:
    def exact(row: LayerRow) -> LayerRow:
        narrow = {
            name: replace(diff, max_abs_diff=0.0, max_ulp_diff=0.0, candidate_value=diff.reference_value)
            for name, diff in row.float32.each().items()
        }
        return replace(row, float32=replace(row.float32, **narrow))

    with pytest.raises(Malformed, match="float32 rounds"):
        again(replace(right, layers=tuple(map(exact, right.layers))))


def changes(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5 + 1e-3 if math.isfinite(value) else 1.0
    return f"{value} "


def places(value: Any, rebuild: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    """Yield, for each scalar below a record, its name and the whole with another one there."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            below = getattr(value, field.name)
            yield from places_of(field.name, below, lambda new, name=field.name: rebuild(replace(value, **{name: new})))


def places_of(name: str, below: Any, rebuild: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    if is_dataclass(below):
        for inner, whole in places(below, rebuild):
            yield f"{name}.{inner}", whole
    elif isinstance(below, tuple):
        for i, item in enumerate(below):
            one = lambda new, i=i: rebuild((*below[:i], new, *below[i + 1 :]))  # noqa: E731
            for inner, whole in places_of(str(i), item, one):
                yield f"{name}.{inner}", whole
    elif not isinstance(below, dict):
        yield name, rebuild(changes(below))


def test_no_field_of_a_row_but_the_place_of_the_worst_can_be_another(right: AlignmentResult) -> None:
    kept = []
    for name, forged in places(right, lambda whole: whole):
        if not name.startswith("layers."):
            continue
        try:
            if follows(forged):
                kept.append(name)
        except Malformed:
            pass
    last = {name.split(".")[-1] if not name.split(".")[-1].isdigit() else name.split(".")[-2] for name in kept}
    assert last <= {"worst_index"}, last


SECTIONS = ("determinism", "output", "batch", "stress", "state", "redrawn")


@pytest.mark.parametrize("number", range(len(SECTIONS)), ids=SECTIONS)
def test_a_gate_s_sentence_and_outcome_follow_from_its_checks(right: AlignmentResult, number: int) -> None:
    section = right.sections[number]
    assert section.gate.name == SECTIONS[number]

    def forged(**changes: Any) -> AlignmentResult:
        other = replace(section, **changes)
        gates = [*right.gates]
        gates[4 + number] = other.gate
        sections = (*right.sections[:number], other, *right.sections[number + 1 :])
        return replace(right, sections=sections, gates=tuple(gates))

    assert follows(forged())
    assert not follows(forged(gate=replace(section.gate, sentence="proved beyond all doubt")))
    assert not follows(forged(gate=replace(section.gate, passed=None)))
    assert not follows(forged(checks=()))
    assert not follows(forged(divergence=Divergence(layer="stem", sentence="stem: x")))
    over = replace(section.checks[0], figure=2.0, bound=1.0)
    assert not follows(forged(checks=(over, *section.checks[1:])))
    assert again(forged(checks=(over, *section.checks[1:]))).verdict in ("diverged", "inconclusive")
