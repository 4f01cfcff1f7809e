"""The self-test finds every fault of the catalogue in every family, and it can fail."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from warm import Warm

from align.core.case import Case, Settings
from align.core.inputs import DRAW, seeded_images
from align.faults.fault import Fault, Planted
from align.mixer import faults, specimens
from align.mixer.specimens import SPECIMENS, MixerSpecimen
from align.selftest import report, run
from align.selftest.attribution import GATES, Share, shares, without
from align.selftest.outcome import Caught, RightPort, SelfTest, Sensitivity

pytestmark = pytest.mark.usefixtures("frameworks")

RECORDED = Path(__file__).resolve().parents[1] / "docs" / "selftest.json"
COARSEST = {limit.what: limit.seen for limit in faults.LIMITS}

REACHED = (
    "an activation capped at 6",
    "GELU zero below -6",
    "GELU the identity beyond 6",
    "inputs of a Linear clipped to ±1e3",
    "inputs of the token mixing clipped to ±1e3",
    "logits clamped to ±1e4",
    "pixels clipped to ±255",
    "inputs of a norm clipped to ±1e3",
    "outputs of a Linear clamped to float16's range",
    "outliers of a Linear's input dropped",
)
"""Faults of values that other weights reach in some config."""

ONLY = {
    "structure": ("a tensor missing", "a parameter that acts nowhere, saved with the others"),
    "weights": ("a bias's zero of the other sign", "a norm's zero of the other sign"),
    "float64": ("a constant that every later norm takes away",),
    "float32": ("float16 in one layer, float32 only", "TF32 products in one layer, float32 only"),
    "output": ("one ulp more where no layer is hooked, float32 only",),
    "batch": ("only the first two images computed", "moved by the images behind the second"),
    "determinism": ("a reference that does not repeat itself, by one ulp",),
    "stress": tuple(fault.name for fault in faults.VALUES if fault.name not in REACHED),
    "redrawn": tuple(fault.name for fault in (*faults.DEPENDENCE, *faults.TRIVIAL)),
    "state": (
        "a saved buffer that counts forwards",
        "an unsaved buffer that counts forwards",
        "a running mean that is used for nothing",
        "a model in training mode, wrong in evaluation",
    ),
}
"""Faults that each gate catches and no other does."""

COMMAND = "mixer-align selftest --on small-mixer --seeds 1"
"""The command of docs/prove.md."""

AT_ANOTHER_DEPTH = {
    "small-gmixer": {"SiLU saturated beyond 20", "one layer off by 1e-09"},
    "small-resmlp": {"outliers of a Linear's input dropped", "ReLU in one MLP"},
    "small-gmlp": {"one layer off by 1e-09"},
}
"""Faults that reach the logits, where the gate `redrawn` looks, with so many blocks behind them or not."""


class Faultless(MixerSpecimen):
    """A specimen for the sake of its right ports."""

    def faults(self) -> Sequence[Fault]:
        return ()

    def sensitivities(self) -> Mapping[str, Callable[[float], Fault]]:
        return {}


SMALL = [name for name in SPECIMENS if name != "s32"]
OTHERS = [name for name in SMALL if name != "small-mixer"]


def unseen(_: Any) -> Planted:
    """Change nothing, so that no gate can see it."""
    return Planted(layer="stem")


def misplaced(_: Any) -> Planted:
    """Zero the head's bias and say that it was the stem."""

    def weights(state_dict: Any) -> None:
        state_dict["head.bias"] = np.zeros_like(state_dict["head.bias"])

    return Planted(layer="stem", weights=weights)


class TestItCanFail:
    @pytest.mark.parametrize(
        ("plant", "says"),
        [
            (unseen, "failed: small-mixer: made up, planted at stem, was missed"),
            (misplaced, "failed: small-mixer: made up, planted at stem, was misplaced, logits was blamed"),
        ],
    )
    def test_a_fault_that_survives_exits_1(
        self, mixer_align: Run, monkeypatch: pytest.MonkeyPatch, plant: Any, says: str
    ) -> None:
        fault = Fault(name="made up", kind="weights", plant=plant)
        monkeypatch.setattr(faults, "CATALOGUE", (*faults.CATALOGUE[:2], fault))
        monkeypatch.setattr(specimens, "SENSITIVITIES", {})
        result = mixer_align("selftest", "--on", "small-mixer", "--seeds", 1)
        assert result.exit_code == 1, result.output
        assert result.stdout.splitlines()[-1] == says

    def test_a_false_alarm_exits_1(self, mixer_align: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """Bounds that no right port keeps."""
        from align.core import bounds

        monkeypatch.setattr(faults, "CATALOGUE", ())
        monkeypatch.setattr(specimens, "SENSITIVITIES", {})
        monkeypatch.setattr(bounds, "ALLOWED", 1e-6)
        result = mixer_align("selftest", "--on", "small-mixer", "--seeds", 1)
        assert result.exit_code == 1
        assert "a right port, seed 0, normal inputs, was diverged" in result.stdout.splitlines()[-1]

    def test_trying_nothing_is_no_pass(self) -> None:
        assert not SelfTest(findings=(), right_ports=(), sensitivities=()).passed

    def test_rounding_is_no_false_alarm(self) -> None:
        ports = {
            verdict: RightPort(config="x", seed=0, inputs="large", verdict=verdict)
            for verdict in ("aligned", "rounding", "diverged", "inconclusive")
        }
        alarms = [verdict for verdict, port in ports.items() if port.false_alarm]
        assert alarms == ["diverged", "inconclusive"]


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {name: specimen.case(Settings(), 0) for name, specimen in SPECIMENS.items()}


class TestCatalogue:
    def test_it_has_every_kind_and_no_name_twice(self) -> None:
        names = [fault.name for fault in faults.CATALOGUE]
        assert len(names) == len(set(names)) >= 140
        assert {fault.kind for fault in faults.CATALOGUE} == {*report.KINDS}

    def test_every_fault_applies_somewhere(self, cases: dict[str, Case]) -> None:
        for fault in faults.CATALOGUE:
            assert any(fault.plant(case) for case in cases.values()), fault.name

    def test_the_recorded_matrix_is_of_this_catalogue(self, cases: dict[str, Case]) -> None:
        """The matrix of docs/faults.md is made from it, so it must not go stale."""
        data = json.loads(RECORDED.read_text(encoding="utf-8"))
        planted = {
            (fault.name, name)
            for name, case in cases.items()
            for fault in SPECIMENS[name].faults()
            if fault.plant(case) is not None
        }
        assert {(finding["fault"], finding["config"]) for finding in data["findings"]} == planted
        assert data["passed"] is True


def tried(name: str, fault_name: str) -> Caught | None:
    """Return what becomes of a fault in a config; None where that cannot have it."""
    specimen = SPECIMENS[name]
    fault = next(fault for fault in specimen.faults() if fault.name == fault_name)
    planted = fault.plant(specimen.case(Settings(), 0))
    return None if planted is None else run.try_fault(fault, planted, name, specimen)


class TestEveryGateIsNeeded:
    def test_there_is_a_fault_for_each(self) -> None:
        assert {*ONLY} == {*GATES}
        assert all(ONLY.values())

    @pytest.mark.parametrize("gate", ONLY)
    def test_without_it_the_self_test_fails(self, gate: str) -> None:
        found = next(one for fault in ONLY[gate] if (one := tried("small-mixer", fault)) is not None)
        assert (found.outcome, found.gates) == ("caught", (gate,))
        right = RightPort(config="small-mixer", seed=0, inputs="normal", verdict="aligned")
        outcome = SelfTest(findings=(found,), right_ports=(right,), sensitivities=())
        assert outcome.passed
        assert not without(outcome, gate).passed
        assert all(without(outcome, other).passed for other in GATES if other != gate)

    @pytest.mark.parametrize("gate", ONLY)
    def test_no_other_gate_sees_its_faults(self, gate: str) -> None:
        """By the record, which is what `test_every_fault_is_caught_and_placed` finds again."""
        recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["findings"]
        found = [one for one in recorded if one["fault"] in ONLY[gate] and one["config"] in SMALL]
        assert {one["fault"] for one in found} == {*ONLY[gate]}
        assert {tuple(one["gates"]) for one in found} == {(gate,)}


def recorded_gates(name: str) -> dict[str, list[str]]:
    """Return the gates that catch each fault, by the record."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["findings"]
    return {finding["fault"]: finding["gates"] for finding in recorded if finding["config"] == name}


@pytest.mark.slow
def test_every_fault_is_caught_and_placed(warm: Warm, tmp_path: Path) -> None:
    """By the command of docs/prove.md, as a user runs it, and by the record."""
    program, *arguments = COMMAND.split()
    options = [str(warm.path / program), *arguments, "--json", str(tmp_path / "found.json")]
    run = subprocess.run(options, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1].startswith("passed: ")
    data = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert data["passed"] is True
    assert not data["false_alarms"]
    assert {finding["outcome"] for finding in data["findings"]} == {"caught"}
    assert {finding["fault"]: finding["gates"] for finding in data["findings"]} == recorded_gates("small-mixer")
    seen([Sensitivity(**each) for each in data["sensitivities"]])


@pytest.mark.slow
def test_right_ports_of_more_seeds_are_aligned() -> None:
    """The command of the page draws one."""
    outcome = run.selftest(
        {"small-mixer": Faultless(name="small-mixer", config=SPECIMENS["small-mixer"].config)}, seeds=3
    )
    assert len(outcome.right_ports) == 3 * len(DRAW)
    assert not outcome.false_alarms


def planted_in(family: str) -> Iterator[Fault]:
    """Yield those faults that a family is tried with: all that the Mixer cannot have, and its part of the others."""
    can_have = {name: recorded_gates(name) for name in SMALL}
    for number, fault in enumerate(SPECIMENS[family].faults()):
        others = [name for name in OTHERS if fault.name in can_have[name]]
        if family in others and (fault.name not in can_have["small-mixer"] or family == others[number % len(others)]):
            yield fault


class PartOfTheFaults(MixerSpecimen):
    """A specimen that every fault of another family is not planted in once more."""

    def faults(self) -> Sequence[Fault]:
        return [*planted_in(self.name)]


def test_every_fault_is_planted_in_another_family_too() -> None:
    planted = {name: {fault.name for fault in planted_in(name)} for name in OTHERS}
    assert set.union(*planted.values()) == {fault.name for fault in faults.CATALOGUE}
    assert min(map(len, planted.values())) > 40


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_faults_are_caught_and_placed_in_other_families(name: str) -> None:
    """Each in one; of two blocks, which every gate sees as it does the record's four, but for rows of what bends.

    Right ports of every family are in test_align_right_ports.py.
    """
    config = replace(SPECIMENS[name].config, num_blocks=2)
    outcome = run.selftest({name: PartOfTheFaults(name=name, config=config)}, seeds=1)
    assert not outcome.survivors
    assert not outcome.false_alarms
    found = {finding.fault: list(finding.gates) for finding in outcome.findings}
    expected = recorded_gates(name)
    assert found.keys() == {fault.name for fault in planted_in(name)}
    assert {fault for fault in found if found[fault] != expected[fault]} <= AT_ANOTHER_DEPTH[name]
    for fault in found.keys() & AT_ANOTHER_DEPTH[name]:
        assert {*found[fault]} ^ {*expected[fault]} <= {"redrawn"}
    seen(outcome.sensitivities)


def seen(sensitivities: Iterable[Sensitivity]) -> None:
    """Faults of any size show from as small a one as is promised."""
    for sensitivity in sensitivities:
        assert sensitivity.smallest is not None
        assert sensitivity.smallest <= COARSEST[sensitivity.what], sensitivity


class TestReport:
    def finding(self, **changes: Any) -> Caught:
        caught = Caught(
            fault="a",
            kind="weights",
            config="one",
            outcome="caught",
            planted="stem",
            blamed="stem",
            gates=("weights", "float64"),
            logits=None,
        )
        return dataclasses.replace(caught, **changes)

    def test_a_row_per_fault_and_a_column_per_config(self) -> None:
        findings = (
            self.finding(),
            self.finding(config="two", outcome="misplaced", blamed=""),
            self.finding(config="two", fault="b", outcome="missed", logits=2e-7, planted=""),
        )
        data = report.as_data(SelfTest(findings=findings, right_ports=(), sensitivities=()))
        assert report.headers(data)[-2:] == ("one", "two")
        assert report.rows(data) == [
            ("weights", "a", "stem", "weights, float64", "—", "caught", "MISPLACED (nothing blamed)"),
            ("weights", "b", "—", "weights, float64", "2.0e-07", "—", "MISSED"),
        ]
        assert data["passed"] is False

    def test_each_gate_is_told_by_what_it_catches(self) -> None:
        findings = (
            self.finding(),
            self.finding(config="two", gates=("weights",)),
            self.finding(fault="b", gates=("weights",)),
            self.finding(fault="c", gates=(run.REFUSED,)),
            self.finding(fault="d", gates=("float32",), outcome="missed"),
            self.finding(fault="e", gates=("float32",), outcome="misplaced"),
        )
        told = shares(findings)
        assert list(told) == [*GATES, run.REFUSED]
        caught = {gate: (share.caught, share.alone) for gate, share in told.items() if share.caught}
        assert caught == {"weights": (2, 2), "float64": (1, 0), run.REFUSED: (1, 1)}
        assert told["float32"] == Share(caught=0, alone=0)
        data = report.as_data(SelfTest(findings=findings, right_ports=(), sensitivities=()))
        assert data["gates"]["weights"] == {"caught": 2, "alone": 2}
        assert ("weights", "2", "2") in report.gate_rows(data)
        assert "weights 2 (2), float64 1 (0)" in report.sentences(data)[0]

    def test_without_a_gate_what_it_alone_caught_is_missed(self) -> None:
        findings = (self.finding(), self.finding(fault="b", gates=()))
        outcome = SelfTest(findings=findings, right_ports=(), sensitivities=())
        once = without(outcome, "weights")
        assert [one.outcome for one in once.findings] == ["caught", "caught"]
        twice = without(once, "float64")
        assert [(one.outcome, one.gates) for one in twice.findings] == [("missed", ()), ("caught", ())]

    def test_limits_are_listed_by_their_figures(self) -> None:
        found = [
            Sensitivity(config=config, what="a counter", smallest=smallest, unseen=unseen)
            for config, smallest, unseen in (("one", 0.1, 0.01), ("two", None, 0.1), ("three", 0.1, 0.01))
        ]
        data = report.as_data(SelfTest(findings=(), right_ports=(), sensitivities=tuple(found)))
        said = "limit, a counter: seen from 1e-01, not at 1e-02 (one, three); never seen, not at 1e-01 (two)"
        assert said in report.sentences(data)

    def test_the_closest_of_all_right_ports_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(faults, "CATALOGUE", ())
        monkeypatch.setattr(specimens, "SENSITIVITIES", {})
        nearest = iter(({"float64": 0.25}, {"float64": 0.125, "batch": 0.5}, {}))
        outcome = run.selftest({"one": SPECIMENS["small-mixer"]}, seeds=1, closeness=lambda _: next(nearest))
        data = report.as_data(outcome)
        assert data["closest"] == {"float64": 0.25, "batch": 0.5}
        said = "the nearest that a right port came to each bound, as a share of it: float64 0.25, batch 0.5"
        assert said in report.sentences(data)

    def test_json_goes_to_standard_output_alone(self, mixer_align: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(faults, "CATALOGUE", faults.CATALOGUE[:1])
        monkeypatch.setattr(specimens, "SENSITIVITIES", {})
        result = mixer_align("selftest", "--on", "small-gmlp", "--seeds", 1, "--json", "-")
        assert result.exit_code == 0, result.output
        data = json.loads(result.stdout)
        assert data["schema"] == "mixer-align/selftest/2"
        assert data["right_ports"] == {f"small-gmlp, {kind}": {"aligned": 1} for kind in DRAW}

    def test_an_unknown_config_exits_2(self, mixer_align: Run) -> None:
        result = mixer_align("selftest", "--on", "b16")
        assert result.exit_code == 2
        assert "small-mixer" in result.stderr

    def test_options_before_it_are_refused(self, mixer_align: Run) -> None:
        result = mixer_align("--variant", "s32", "selftest")
        assert result.exit_code == 2
        assert "belong to an alignment" in result.stderr


class TestInputs:
    shape = (2, 3, 32, 32)

    def test_image_like_ones_are_pixels(self) -> None:
        images = seeded_images(self.shape, 0, "image-like")
        levels = (images.astype(np.float64) + 1) * 127.5
        assert np.abs(levels - np.rint(levels)).max() < 1e-4
        assert images.min() >= -1
        assert images.max() <= 1
        assert images.std() > 0.2
        neighbours = np.abs(np.diff(images, axis=3)).mean()
        assert neighbours < images.std() / 2

    def test_large_ones_are_the_normal_ones_times_1000(self) -> None:
        normal, large = (seeded_images(self.shape, 0, kind) for kind in ("normal", "large"))
        assert np.array_equal(large, normal * np.float32(1000))


def test_an_all_zero_head_is_inconclusive() -> None:
    specimen = SPECIMENS["small-mixer"]
    fault = next(fault for fault in specimen.faults() if fault.name == "all-zero head")
    planted = fault.plant(specimen.case(Settings(), 0))
    assert planted is not None
    result = run.align_with(planted, specimen)
    assert result.verdict == "inconclusive"
    assert result.failed(accept_rounding=True)
    assert "every value is 0" in result.gate("structure").sentence
