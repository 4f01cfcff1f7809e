"""All that a model returns is compared: what lies in lists and dicts, whole numbers, what one side alone returns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run

from align.core.case import Settings
from align.core.inputs import Input
from align.core.point import Tapped
from align.core.result import AlignmentResult
from align.pairing.file import read_pairing
from align.pairing.pairing import Pairing
from align.run import align
from align.twins.case import Twins, case_of_twins
from align.twins.propose import propose
from align.twins.toml_text import tapped
from convert.errors import Unreadable
from convert.pairing.file import SCHEMA

pytestmark = pytest.mark.usefixtures("frameworks")

MODELS = Path(__file__).with_name("stranger_returns.py")
NESTED = {
    "list in a dict": "output[b][1]",
    "list in a list": "output[0][1]",
    "dict in a tuple": "output[1][z]",
    "dataclass": "output[b][b]",
    "named tuple in a tuple": "output[1][1]",
    "the last": "output[1]",
}
OPEN = {
    "places": ("output[1]", "2 of 2 values differ, the first at [0]: "),
    "truth values": ("output[inside][0]", "10 of 10 values differ, the first at [0, 0]: "),
    "a number": ("output[1]", "1 of 1 values differ, the first at []: 1, not 3"),
    "a text": ("output[1]", "1 of 1 values differ, the first at []: 1 classes, not 3 classes"),
    "one fewer": ("output[1]", "the reference returns it, and nothing compares it: the candidate puts out no such"),
    "one more": ("output[1]", "the candidate alone returns it"),
    "places fewer": ("output[1]", "the reference alone returns it"),
    "another shape": (
        "output[1]",
        "the reference returns it, and nothing compares it: another shape: (10,), not (2, 5)",
    ),
}


def twins(how: str, times: int = 3) -> Twins:
    import stranger_returns

    made = stranger_returns.Reference(how), stranger_returns.Candidate(how, times)
    made[1].eval()
    return Twins(reference=made[0], candidate=made[1], inputs=(Input(shape=(6,)),))


def aligned(of: Twins, pairing: Pairing | None = None) -> AlignmentResult:
    of = of if pairing is None else replace(of, pairing=pairing)
    return align(case_of_twins(of), Settings(stress=False))


@pytest.mark.parametrize("how", [*NESTED, *OPEN])
def test_a_right_twin(how: str) -> None:
    found = aligned(twins(how))
    assert (found.verdict, found.first_divergence) == ("aligned", None)
    assert how in OPEN or NESTED[how] in [row.name for row in found.layers]


@pytest.mark.parametrize("how", NESTED)
def test_a_tensor_within_is_wrong(how: str) -> None:
    found = aligned(twins(how, times=4))
    assert found.verdict == "diverged"
    assert found.first_divergence is not None
    assert found.first_divergence.layer == NESTED[how]


@pytest.mark.parametrize("how", OPEN)
def test_what_no_bound_judges_proves_nothing(how: str) -> None:
    found = aligned(twins(how, times=1))
    assert found.verdict == "inconclusive"
    assert found.first_divergence is not None
    layer, said = OPEN[how]
    assert found.first_divergence.layer == layer
    assert said in found.first_divergence.sentence


@pytest.mark.parametrize("how", OPEN)
def test_what_is_left_out_is_told(how: str) -> None:
    name, why = OPEN[how][0], "nobody reads it"
    found = aligned(twins(how, times=1), Pairing(left_out={name: why}))
    assert found.verdict == "aligned"
    assert found.left_out == {name: why}


def test_an_object_is_not_looked_into() -> None:
    found = aligned(twins("an object"))
    assert found.verdict == "inconclusive"
    assert found.first_divergence is not None
    said = "output[1]: what is returned there is of type Opaque, which nothing looks into"
    assert found.first_divergence.sentence.startswith(said)
    assert aligned(twins("an object"), Pairing(left_out={"output[1]": "for training"})).verdict == "aligned"


@pytest.mark.parametrize("how", NESTED)
def test_proposed(how: str) -> None:
    found = propose(twins(how))
    assert found.best.agrees
    assert NESTED[how] in [point.name for point in found.best.points]


@pytest.mark.parametrize("item", [None, 0, "a", ("b", 1), (0, "z", 2), (0, 'a"b')])
def test_a_way_in_a_pairing_file(tmp_path: Path, item: object) -> None:
    at, file = Tapped(module="net", call=1, item=item), tmp_path / "pairing.toml"  # type: ignore[arg-type]
    file.write_text(f'schema = "{SCHEMA}"\n[points]\nx = {tapped(at)}\n')
    assert read_pairing(file).points == {"x": at}


@pytest.mark.parametrize("item", ["[]", "[1.5]", "[[1]]", "true", "1.0"])
def test_no_way(tmp_path: Path, item: str) -> None:
    file = tmp_path / "pairing.toml"
    file.write_text(f'schema = "{SCHEMA}"\n[points]\nx = {{ output = "net", item = {item} }}\n')
    with pytest.raises(Unreadable, match="an item a number or text, or a list of these"):
        read_pairing(file)


@pytest.mark.parametrize(("times", "code"), [(3, 0), (4, 1)])
def test_a_trace_has_them(mixer_align: Run, tmp_path: Path, times: int, code: int) -> None:
    how, trace = "list in a dict", tmp_path / "net.trace"
    asked = ("--candidate-model", f"{MODELS}:Candidate", "--input-shape", "6")
    arguments = ("--reference-args", json.dumps({"how": how}), "--candidate-args", json.dumps({"how": how}))
    recorded = mixer_align("record", "--reference-model", f"{MODELS}:Reference", *asked, *arguments, "--out", trace)
    assert recorded.exit_code == 0, recorded.output
    checked = mixer_align(
        "check", "--trace", trace, *asked[:2], "--candidate-args", json.dumps({"how": how, "times": times})
    )
    assert checked.exit_code == code, checked.output
    assert ("output[b][1]" in checked.output.splitlines()[-1]) is (code == 1)
