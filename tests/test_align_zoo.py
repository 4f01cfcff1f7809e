"""The zoo: its list of pairs, what it records, and that a planted fault is caught in its place, or told as missed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("frameworks")

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "docs" / "zoo.json"
OPTIONAL = ("paddleclas", "paddlenlp", "transformers")
FAMILIES = ("vision", "clas", "own", "language")
RESNET18_KINDS = ("another stride", "block missing", "lowest bit of a weight")


@pytest.fixture(scope="module")
def zoo() -> Iterator[SimpleNamespace]:
    """The instrument, which is a script beside the package, and its parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        names = ("bed", "changes", "compared", "listed", "mends", "planted", "record")
        parts = {name: importlib.import_module(f"pairs.{name}") for name in names}
        yield SimpleNamespace(script=importlib.import_module("zoo"), **parts)


def tiny_torch() -> Any:
    """Return a network that has a layer for every kind of fault; two blocks, so that weights can be swapped."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(6, 6, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(6)

        def forward(self, x: Any) -> Any:
            return x + self.bn(self.conv(x))

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
            self.act = nn.ReLU()
            self.pool = nn.MaxPool2d(2)
            self.one, self.two = Block(), Block()
            self.gate = nn.Hardsigmoid()
            self.mean = nn.AdaptiveAvgPool2d(1)
            self.dropout = nn.Dropout(0.5)
            self.head = nn.Linear(6, 5)

        def forward(self, x: Any) -> Any:
            x = self.gate(self.two(self.one(self.pool(self.act(self.stem(x))))))
            return self.head(self.dropout(torch.flatten(self.mean(x), 1)))

    return Tiny().eval()


def tiny_paddle(mode: str = "upscale_in_train", width: int = 6) -> Any:
    """Return the same network in Paddle."""
    import paddle
    from paddle import nn

    class Block(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2D(width, width, 3, padding=1, bias_attr=False)
            self.bn = nn.BatchNorm2D(width)

        def forward(self, x: Any) -> Any:
            return x + self.bn(self.conv(x))

    class Tiny(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2D(3, width, 3, stride=2, padding=1)
            self.act = nn.ReLU()
            self.pool = nn.MaxPool2D(2)
            self.one, self.two = Block(), Block()
            self.gate = nn.Hardsigmoid()
            self.mean = nn.AdaptiveAvgPool2D(1)
            self.dropout = nn.Dropout(0.5, mode=mode)
            self.head = nn.Linear(width, 5)

        def forward(self, x: Any) -> Any:
            x = self.gate(self.two(self.one(self.pool(self.act(self.stem(x))))))
            return self.head(self.dropout(paddle.flatten(self.mean(x), 1)))

    made = Tiny()
    made.eval()
    return made


def tiny(zoo: SimpleNamespace, **known: Any) -> tuple[Any, Callable[..., Any]]:
    """Return a pair of the tiny networks, and what makes its twins."""
    from align.core.inputs import Input
    from align.twins.case import Twins

    inputs = (Input(shape=(3, 16, 16)),)
    made = zoo.listed.Made(module="made_up", name="tiny")
    pair = zoo.listed.Pair(name="tiny", reference=made, candidate=made, inputs=inputs, **known)
    return pair, lambda **arguments: Twins(
        reference=tiny_torch(), candidate=tiny_paddle(**arguments), inputs=inputs, name="tiny"
    )


@pytest.fixture(scope="module")
def aligned(zoo: SimpleNamespace) -> Any:
    """The last comparison of the tiny pair, with the rounded slope accepted."""
    pair, twins = tiny(zoo, accepted=zoo.listed.HARDSIGMOID)
    entry, run = zoo.compared.entry_of(pair, twins())
    assert (entry.first.outcome, entry.after.outcome) == ("differs here", "aligned, with accepted differences")
    return run


class TestList:
    def test_there_are_forty_pairs_or_more_of_every_family_each_with_a_name_of_its_own(
        self, zoo: SimpleNamespace
    ) -> None:
        names = [pair.name for pair in zoo.listed.PAIRS]
        assert len(set(names)) == len(names) >= 40
        assert {name.partition("/")[0] for name in names} == set(FAMILIES)
        assert all(zoo.listed.pair_named(name).name == name for name in names)

    def test_every_maker_is_there_or_its_package_is_optional(self, zoo: SimpleNamespace) -> None:
        for side in (side for pair in zoo.listed.PAIRS for side in (pair.reference, pair.candidate)):
            if side.module.partition(".")[0] not in OPTIONAL:
                assert callable(getattr(importlib.import_module(side.module), side.name)), side

    def test_a_mend_says_what_it_does(self, zoo: SimpleNamespace) -> None:
        mended = [pair for pair in zoo.listed.PAIRS if pair.mend is not None]
        assert len(mended) >= 5
        assert all(pair.mended for pair in mended)
        assert not any(pair.mended for pair in zoo.listed.PAIRS if pair.mend is None)

    def test_a_pair_whose_package_is_missing_is_skipped_with_the_reason(self, zoo: SimpleNamespace) -> None:
        pair = replace(
            zoo.listed.pair_named("own/small_gmlp"), candidate=zoo.listed.Made(module="no_such_package", name="Model")
        )
        (entry,) = zoo.script.run_here(pair, faults=True)
        assert (entry.first.outcome, entry.first.because) == ("skipped", "No module named 'no_such_package'")


class TestOutcomes:
    def test_a_known_deviation_is_found_named_and_mended(self, zoo: SimpleNamespace) -> None:
        pair, twins = tiny(zoo, accepted=zoo.listed.HARDSIGMOID, mend=self.mend, mended="no scaling, 1/6")
        entry, _ = zoo.compared.entry_of(pair, twins(mode="downscale_in_infer"))
        assert (entry.first.outcome, entry.first.verdict, entry.first.layer) == ("differs here", "diverged", "gate")
        assert "slope is 0.1666667" in entry.first.because
        assert {(cause.layer, cause.count) for cause in entry.first.causes} == {("gate", 1), ("dropout", 1)}
        assert (entry.after.outcome, entry.after.layer, entry.changed) == ("aligned", None, "no scaling, 1/6")
        assert entry.first.float64 > 1e-3 > 1e-12 > entry.after.float64

    @staticmethod
    def mend(model: Any) -> None:
        from paddle import nn

        class Gate(nn.Layer):
            def forward(self, x: Any) -> Any:
                return (x + 3).clip(0, 6) / 6

        model.dropout.mode, model.gate = "upscale_in_train", Gate()
        model.gate.eval()

    def test_what_is_not_known_stays_a_difference(self, zoo: SimpleNamespace) -> None:
        pair, twins = tiny(zoo)
        entry, _ = zoo.compared.entry_of(pair, twins())
        assert (entry.first.outcome, entry.after, entry.changed) == ("differs here", None, "")

    def test_an_accepted_difference_has_a_bound(self, zoo: SimpleNamespace) -> None:
        from align.core.bounds import Accepted

        tight = {"Hardsigmoid": Accepted(bound=1e-9, reason="too small a bound")}
        pair, twins = tiny(zoo, accepted=tight)
        entry, _ = zoo.compared.entry_of(pair, twins())
        assert (entry.after.outcome, entry.after.layer) == ("differs here", "gate")

    def test_another_network_is_not_paired_with_the_reason(self, zoo: SimpleNamespace) -> None:
        pair, twins = tiny(zoo)
        entry, run = zoo.compared.entry_of(pair, twins(width=7))
        assert entry.first.outcome == "not paired"
        assert "the models cannot be paired" in entry.first.because
        assert run.result is None


@pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning")
class TestFaults:
    def test_every_kind_is_planted_caught_and_placed(self, zoo: SimpleNamespace, aligned: Any) -> None:
        found = [*zoo.planted.faults_of(aligned)]
        assert [fault.kind for fault in found] == [*zoo.planted.KINDS]
        assert len(found) == 12
        assert {fault.kind: fault.skipped for fault in found if fault.skipped} == {}
        wrong = {fault.kind: (fault.verdict, fault.found, fault.expected) for fault in found if not fault.placed}
        assert wrong == {}
        assert all(fault.caught and fault.verdict == "diverged" for fault in found)

    def test_the_candidate_is_as_it_was(self, zoo: SimpleNamespace, aligned: Any) -> None:
        (missing,) = zoo.planted.faults_of(aligned, {"it": zoo.planted.missing_block})
        assert missing.caught
        (nothing,) = zoo.planted.faults_of(aligned, {"none": self.planting("head", lambda *_: None)(zoo)})
        assert nothing.verdict == "aligned"

    @staticmethod
    def planting(layer: str, plant: Callable[..., None]) -> Callable[[SimpleNamespace], Any]:
        return lambda zoo: lambda _: iter([zoo.bed.Change(layers=(layer,), what="made up", plant=plant)])

    def test_a_planter_that_does_nothing_is_missed(self, zoo: SimpleNamespace, aligned: Any) -> None:
        (fault,) = zoo.planted.faults_of(aligned, {"nothing": self.planting("head", lambda *_: None)(zoo)})
        assert (fault.caught, fault.placed, fault.verdict) == (False, False, "aligned")
        (said,) = zoo.script.complaints(self.data(zoo, fault))
        assert said == "tiny: nothing (head: made up): missed"

    def test_a_fault_elsewhere_is_misplaced(self, zoo: SimpleNamespace, aligned: Any) -> None:
        def plant(layers: dict[str, Any], _: Any) -> None:
            layers["stem"]._stride = [1, 1]

        (fault,) = zoo.planted.faults_of(aligned, {"elsewhere": self.planting("head", plant)(zoo)})
        assert (fault.caught, fault.placed, fault.found) == (True, False, "stem")
        (said,) = zoo.script.complaints(self.data(zoo, fault))
        assert said == "tiny: elsewhere (head: made up): at stem in place of head"

    def test_a_fault_that_no_layer_can_have_is_skipped_with_the_reason(
        self, zoo: SimpleNamespace, aligned: Any
    ) -> None:
        def breaking(layers: dict[str, Any], _: Any) -> None:
            layers["head"].forward = None

        kinds = {"none": lambda _: iter(()), "raises": self.planting("head", breaking)(zoo)}
        none, raises = zoo.planted.faults_of(aligned, kinds)
        assert (none.skipped, none.caught) == ("no layer has it", None)
        assert "the model raises" in raises.skipped
        assert not [*zoo.script.complaints(self.data(zoo, none))]

    @staticmethod
    def data(zoo: SimpleNamespace, *faults: Any) -> dict[str, Any]:
        pair, _ = tiny(zoo)
        compared = zoo.record.Compared(outcome="aligned")
        entry = replace(zoo.script.without(pair, "aligned", ""), first=compared, faults=faults)
        return dict(json.loads(json.dumps(asdict(entry))))

    @pytest.mark.slow
    def test_three_in_resnet18(self, zoo: SimpleNamespace) -> None:
        pair = zoo.listed.pair_named("vision/resnet18")
        from align.twins.case import Twins

        twins = Twins(reference=pair.reference.build(), candidate=pair.candidate.build(), inputs=pair.inputs)
        assert [one.shape for one in pair.inputs] == [(3, 64, 64)]
        entry, run = zoo.compared.entry_of(pair, twins)
        assert (entry.first.outcome, entry.first.paired_by) == ("aligned", "names")
        found = [*zoo.planted.faults_of(run, {kind: zoo.planted.KINDS[kind] for kind in RESNET18_KINDS})]
        assert [(fault.caught, fault.placed) for fault in found] == [(True, True)] * 3


class TestRecord:
    def test_a_run_of_one_pair(self, zoo: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "zoo.json"
        assert zoo.script.main(["--only", "own/small_gmlp", "--out", str(out)]) == 0, capsys.readouterr().err
        check_schema(zoo.record, found := json.loads(out.read_text(encoding="utf-8")))
        (entry,) = found["pairs"]
        assert (entry["pair"], entry["first"]["outcome"], entry["first"]["verdict"]) == (
            "own/small_gmlp",
            "aligned",
            "aligned",
        )
        assert found["counts"] == {"aligned": 1}
        assert found["versions"].keys() >= {"torch", "timm", "paddlepaddle"}
        assert entry["first"]["float64"] < 1e-12 < entry["first"]["float32"] < 1e-5
        assert "own/small_gmlp" in capsys.readouterr().out

    def test_the_recorded_run(self, zoo: SimpleNamespace) -> None:
        if not RECORDED.exists():
            pytest.skip("there is no docs/zoo.json yet: benchmarks/zoo.py --faults --out writes it")
        found = json.loads(RECORDED.read_text(encoding="utf-8"))
        check_schema(zoo.record, found)
        assert {entry["pair"] for entry in found["pairs"]} == {pair.name for pair in zoo.listed.PAIRS}
        assert [said for entry in found["pairs"] for said in zoo.script.complaints(entry)] == []

    def test_a_process_that_dies_or_takes_too_long_has_no_result(
        self, zoo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        late, _ = zoo.script.run_in_child(zoo.listed.pair_named("own/small_gmlp"), faults=False, limit=0.01)
        assert late["first"]["outcome"] == "no result"
        assert late["first"]["because"].startswith("it took more than")
        monkeypatch.setattr(zoo.script.sys, "executable", "/bin/false")
        assert zoo.script.main(["--only", "own/small_gmlp"]) == 1
        assert "own/small_gmlp: its process ended with 1" in capsys.readouterr().err

    def test_a_missed_fault_ends_with_1(self, zoo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        missed = zoo.record.Fault(kind="k", layer="l", what="w", verdict="aligned", caught=False, placed=False)
        entry = TestFaults.data(zoo, missed)
        monkeypatch.setattr(zoo.script, "run_in_child", lambda *_, **__: (entry, {}))
        assert zoo.script.main(["--only", "own/small_gmlp", "--faults"]) == 1
        entry["faults"][0] |= {"caught": True, "placed": True}
        assert zoo.script.main(["--only", "own/small_gmlp", "--faults"]) == 0

    @pytest.mark.parametrize(
        ("faults", "expected"), [([], {}), (["--faults", "own/small_gmlp"], {"own/small_gmlp"}), (["--faults"], None)]
    )
    def test_faults_are_planted_in_those_that_are_named(
        self, zoo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, faults: list[str], expected: set[str] | None
    ) -> None:
        planted, only = set(), ["own/small_gmlp", "own/small_mixer", "own/small_resmlp"]

        def run(pair: Any, *, faults: bool) -> tuple[dict[str, Any], dict[str, Any]]:
            planted.update([pair.name] * faults)
            return TestFaults.data(zoo), {}

        monkeypatch.setattr(zoo.script, "run_in_child", run)
        assert zoo.script.main(["--only", *only, "--jobs", "2", *faults]) == 0
        assert planted == {*(only if expected is None else expected)}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--only", "no/pair"], "--only no/pair: there is no such pair"),
            (["--faults", "no/pair"], "--faults no/pair: there is no such pair"),
            (["--jobs", "0"], "at least one"),
            (["--out", "/nowhere/x"], "is no folder"),
        ],
    )
    def test_what_cannot_be_done_is_refused_before_the_work(
        self, zoo: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
    ) -> None:
        with pytest.raises(SystemExit):
            zoo.script.main(arguments)
        assert says in capsys.readouterr().err


def check_schema(record: ModuleType, found: dict[str, Any]) -> None:
    """Check that a record has all it has to have, and nothing else."""
    assert found["schema"] == "mixer-align/zoo/1"
    assert found.keys() == {"schema", "versions", "environment", "counts", "faults", "pairs", "seconds"}
    assert found["environment"]
    for entry in found["pairs"]:
        assert entry.keys() == {field.name for field in fields(record.Entry)}
        for one in filter(None, (entry["first"], entry["after"])):
            assert one.keys() == {field.name for field in fields(record.Compared)}
            assert one["outcome"] in record.OUTCOMES
            assert bool(one["because"]) == (one["outcome"] not in record.GOOD)
            assert all(cause.keys() == {"sentence", "layer", "count"} for cause in one["causes"])
        for fault in entry["faults"]:
            assert fault.keys() == {field.name for field in fields(record.Fault)}
            assert bool(fault["skipped"]) == (fault["caught"] is None)
