"""That no right port is failed: by the recorded run over thousands and by some that run here; and it would show."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from align.core.bounds import Tolerance

pytestmark = pytest.mark.usefixtures("frameworks")

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "docs" / "right_ports.json"
LEAST_PORTS = 2000
NEAREST = 0.5
"""Of a bound: what right ports have to keep clear of it, lest another machine find one that is over."""
LARGE = ("patch16", "patch32", "many-classes", "wide")
"""Sizes that take a second or more."""
HERE = "as it comes", "one thread"
"""Arithmetics that other tests here run on: each other one needs a process of its own, and 5 s of imports."""


@pytest.fixture(scope="module")
def right_ports() -> Iterator[ModuleType]:
    """The instrument, which is a script beside the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import right_ports

        yield right_ports


@pytest.fixture(scope="module")
def ports(right_ports: ModuleType) -> ModuleType:
    import ports

    return ports


@pytest.fixture
def here(right_ports: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The instrument without processes of its own, whose bounds no test could alter."""
    monkeypatch.setattr(right_ports, "run_in_child", lambda names, _: right_ports.run_here(names))
    return right_ports


class TestRecorded:
    @pytest.fixture
    def recorded(self) -> dict[str, Any]:
        if not RECORDED.exists():
            pytest.skip("there is no docs/right_ports.json yet: benchmarks/right_ports.py --out writes it")
        return dict(json.loads(RECORDED.read_text(encoding="utf-8")))

    def test_thousands_were_run_in_every_family_on_several_arithmetics(self, recorded: dict[str, Any]) -> None:
        families: Counter[str] = Counter()
        for by_family in recorded["verdicts"].values():
            families.update({family: sum(verdicts.values()) for family, verdicts in by_family.items()})
        assert families.keys() == {"mixer", "gmixer", "resmlp", "gmlp"}
        assert min(families.values()) >= LEAST_PORTS / 5
        assert sum(families.values()) == recorded["ports"] >= LEAST_PORTS
        assert len(recorded["verdicts"]) == len(recorded["environments"]) >= 3

    def test_none_was_failed(self, recorded: dict[str, Any]) -> None:
        assert recorded["false_alarms"] == []
        verdicts = {verdict for each in recorded["verdicts"].values() for found in each.values() for verdict in found}
        assert verdicts <= {"aligned", "rounding"}

    def test_every_bound_has_room(self, recorded: dict[str, Any]) -> None:
        """The headline's own bound is a user's wish, which large logits do not meet: `rounding` says so."""
        closest = {name: found["ratio"] for name, found in recorded["closest"].items() if name != "float32 logits"}
        assert closest.keys() >= {"float64 introduced", "float64 candidate_vs_witness", "float32 introduced", "batch"}
        assert all(ratio is not None and ratio < NEAREST for ratio in closest.values()), closest


class TestList:
    def test_it_is_the_same_every_time_and_a_shorter_one_is_its_beginning(self, ports: ModuleType) -> None:
        assert ports.drawn(600) == ports.drawn(600) == ports.drawn(2240)[:600]

    def test_the_whole_list_has_every_extreme_of_every_family_at_every_size(
        self, ports: ModuleType, right_ports: ModuleType
    ) -> None:
        drawn = ports.drawn(right_ports.COUNT)
        assert len({port.name for port in drawn}) == len(drawn) >= LEAST_PORTS
        wanted = set(itertools.product(ports.FAMILIES, ports.SIZES, ports.EXTREMES))
        assert {(port.family, port.size, port.extreme) for port in drawn} == wanted

    @pytest.mark.parametrize("count", [135, 300])
    def test_a_short_list_is_spread_over_everything(self, ports: ModuleType, count: int) -> None:
        drawn = ports.drawn(count)
        assert {(port.family, port.extreme) for port in drawn} == set(itertools.product(ports.FAMILIES, ports.EXTREMES))
        for part, values in (("size", ports.SIZES), ("arithmetic", ports.ARITHMETICS), ("inputs", ports.DRAW)):
            counts = Counter(getattr(port, part) for port in drawn)
            assert counts.keys() == set(values)
            assert min(counts.values()) >= count // len(values) // 2, part
        assert {port.batch for port in drawn} == {1, 2, 3}
        assert {port.dtype for port in drawn} == set(ports.DTYPES)

    def test_a_name_is_all_there_is_to_a_port(self, ports: ModuleType) -> None:
        for port in ports.drawn(300):
            assert ports.Port.named(port.name) == port

    @pytest.mark.parametrize("spoil", ["small", "{}/more", "{}0x", "un{}"])
    def test_another_name_is_refused_in_a_sentence(self, ports: ModuleType, spoil: str) -> None:
        name = spoil.format(ports.drawn(1)[0].name)
        with pytest.raises(SystemExit, match="it is no port's name"):
            ports.Port.named(name)


class TestExtremes:
    def test_each_is_legal_and_changes_something_somewhere(self, ports: ModuleType) -> None:
        changed = set()
        for family, extreme, dtype in itertools.product(ports.FAMILIES, ports.EXTREMES, ports.DTYPES):
            if dtype == "float16" and extreme in ports.TOO_WIDE_FOR_FLOAT16:
                continue
            config = ports.SIZES["odd"](family)
            weights = ports.weights_of(config, 3, extreme, dtype)
            plain = ports.weights_of(config, 3, "none", dtype)
            assert all(np.isfinite(value.astype(np.float32)).all() for value in weights.values()), (extreme, dtype)
            assert weights["head.weight"].astype(np.float32).any(), (extreme, dtype)
            assert {key: value.shape for key, value in weights.items()} == {k: v.shape for k, v in plain.items()}
            if any(not np.array_equal(weights[key], plain[key]) for key in plain):
                changed.add((family, extreme))
        assert changed == set(itertools.product(ports.FAMILIES, ports.EXTREMES.keys() - {"none"}))


def few(ports: ModuleType) -> Iterator[Any]:
    """Yield a small port of each extreme, of one family after the other."""
    drawn = [port for port in ports.drawn(2240) if port.size not in LARGE]
    for extreme, family in zip(ports.EXTREMES, itertools.cycle(ports.FAMILIES), strict=False):
        yield next(port for port in drawn if (port.extreme, port.family) == (extreme, family))


def every_pair(ports: ModuleType) -> Iterator[Any]:
    """Yield a port of every family and extreme that takes no second, and one of each larger size; none of HERE."""
    drawn = [port for port in ports.drawn(2240) if port.arithmetic not in HERE]
    yield from {(port.family, port.extreme): port for port in drawn if port.size not in LARGE}.values()
    yield from {port.size: port for port in drawn if port.size in LARGE}.values()


class TestLive:
    def test_none_of_a_few_of_every_extreme_is_failed(self, ports: ModuleType, right_ports: ModuleType) -> None:
        chosen = [*few(ports)]
        assert {port.extreme for port in chosen} == ports.EXTREMES.keys()
        assert {port.family for port in chosen} == set(ports.FAMILIES)
        outcomes = [ports.outcome_of(port) for port in chosen]
        alarms = {found["port"]: found["sentence"] for found in outcomes if right_ports.is_false_alarm(found)}
        assert not alarms

    @pytest.mark.slow
    def test_none_of_every_family_and_extreme_is_failed_on_other_arithmetics(
        self, ports: ModuleType, right_ports: ModuleType
    ) -> None:
        chosen = [*every_pair(ports)]
        assert {(port.family, port.extreme) for port in chosen} == {*itertools.product(ports.FAMILIES, ports.EXTREMES)}
        assert {port.size for port in chosen} == ports.SIZES.keys()
        found = right_ports.run(chosen)
        assert found["false_alarms"] == []
        assert found["verdicts"].keys() | found["skipped"].keys() == ports.ARITHMETICS.keys() - {*HERE}
        assert found["ports"] == sum(port.arithmetic not in found["skipped"] for port in chosen)

    def test_a_process_of_its_own_computes_as_it_is_told(self, ports: ModuleType, right_ports: ModuleType) -> None:
        port = next(port for port in ports.drawn(135) if port.arithmetic == "one thread" and port.extreme == "none")
        found = right_ports.run([port])
        assert (found["ports"], found["false_alarms"]) == (1, [])
        told = found["environments"]["one thread"]
        assert {state["threads"] for state in told["arithmetic"].values()} == {1}
        assert told["knobs"]["OMP_NUM_THREADS"] == "1"


class TestItCanFail:
    name = "odd gmlp/stem bias 300/normal/float32/as it comes/batch 2/seed 5"

    def test_a_bound_that_right_ports_do_not_keep_is_a_false_alarm(
        self, here: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["--only", self.name, "--out", str(tmp_path / "found.json")]
        assert here.main(arguments) == 0
        whole = Tolerance.bound
        monkeypatch.setattr(Tolerance, "bound", lambda self, scale: 1e-9 * whole(self, scale))
        assert here.main(arguments) == 1
        found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
        assert found["schema"] == "mixer-align/right-ports/1"
        (alarm,) = found["false_alarms"]
        assert (alarm["port"], alarm["verdict"]) == (self.name, "diverged")
        assert "float64" in alarm["gates"]
        assert "introduced float64 difference" in alarm["sentence"]
        assert found["verdicts"] == {"as it comes": {"gmlp": {"diverged": 1}}}
        assert found["closest"]["float64 introduced"]["ratio"] > 1
        shown = capsys.readouterr()
        assert "right ports: 1, false alarms: 1" in shown.out
        assert self.name in shown.err

    def test_verdicts(self, right_ports: ModuleType) -> None:
        """A port that is refused, or proves nothing, is no better than one that is failed."""
        verdicts = ("aligned", "rounding", "diverged", "inconclusive", "refused")
        alarms = [verdict for verdict in verdicts if right_ports.is_false_alarm({"verdict": verdict})]
        assert alarms == ["diverged", "inconclusive", "refused"]

    def test_a_refusal_is_an_outcome(self, ports: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        from convert.errors import BadInput

        def refuse(*_: object) -> None:
            raise BadInput("made up")

        monkeypatch.setattr(ports, "align", refuse)
        found = ports.outcome_of(ports.Port.named(self.name))
        assert (found["verdict"], found["sentence"]) == ("refused", "made up")

    def test_what_is_not_finite_is_null(self, right_ports: ModuleType) -> None:
        outcome = partial(dict, port=self.name, verdict="aligned", gates=[], sentence="")
        found = right_ports.closest([outcome(closeness={"batch": float("inf")}), outcome(closeness={"batch": 0.25})])
        assert found == {"batch": {"ratio": None, "port": self.name}}

    def test_a_process_that_dies_is_no_pass(
        self, ports: ModuleType, right_ports: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(right_ports.sys, "executable", "/bin/false")
        with pytest.raises(SystemExit, match="its process ended with 1"):
            right_ports.run([ports.Port.named(self.name)])

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [(["--count", "0"], "there is nothing to run"), (["--out", "/nowhere/x"], "is no folder")],
    )
    def test_what_cannot_be_done_is_refused_before_the_work(
        self, right_ports: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
    ) -> None:
        with pytest.raises(SystemExit):
            right_ports.main(arguments)
        assert says in capsys.readouterr().err
