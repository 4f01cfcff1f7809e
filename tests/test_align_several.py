"""Several alignments of one command: what tells them apart, what each report holds, and which exit code stands."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import made_up
import pytest
from click.testing import CliRunner, Result
from conftest import Run, save_safetensors
from junitparser import JUnitXml

from align.commands import cli
from align.commands.several import each
from align.core.result import AlignmentResult
from align.render import schema_text
from align.render.several import Attempt, as_list, conclusion, list_schema_text, rows, status
from convert.arrays import StateDict
from convert.errors import BadInput, UsageProblem
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

NONE: dict[str, Any] = {"variant": (), "checkpoint": (), "candidate": ()}
RESULTS = {name: made() for name, made in made_up.ALL.items()}


def of(verdict: str) -> Attempt:
    return Attempt(name=verdict, result=RESULTS[verdict], seconds=1.5)


ERROR = Attempt(name="x.pdparams", error="x.pdparams: it is damaged. Get it again.", exit_code=3)


class TestEach:
    def test_one_is_what_it_was(self) -> None:
        assert each({**NONE, "candidate": ("a",), "batch": 2}) == [
            ("", {"variant": None, "checkpoint": None, "candidate": "a", "batch": 2})
        ]

    @pytest.mark.parametrize("name", NONE)
    def test_each_has_what_the_others_have(self, name: str) -> None:
        other = "checkpoint" if name == "variant" else "variant"
        asked = each({**NONE, other: ("o",), name: (Path("a"), Path("b"))})
        assert [label for label, _ in asked] == ["a", "b"]
        assert [(one[name], one[other]) for _, one in asked] == [(Path("a"), "o"), (Path("b"), "o")]

    def test_what_would_be_a_product_is_refused(self) -> None:
        with pytest.raises(UsageProblem, match="--checkpoint and --candidate are both given several times"):
            each({**NONE, "checkpoint": ("a", "b"), "candidate": ("c", "d")})

    def test_twice_the_same_is_refused(self) -> None:
        with pytest.raises(UsageProblem, match="--candidate a: it is given twice"):
            each({**NONE, "candidate": ("a", "b", "a")})


class TestStatus:
    @pytest.mark.parametrize(
        ("attempts", "code"),
        [
            ([of("aligned"), of("aligned")], 0),
            ([of("aligned"), of("diverged")], 1),
            ([of("aligned"), of("rounding")], 1),
            ([of("inconclusive"), ERROR], 3),
            ([ERROR, Attempt(name="y", error="no", exit_code=70)], 3),
        ],
    )
    def test_the_first_error_s_else_whether_one_failed(self, attempts: list[Attempt], code: int) -> None:
        assert status(attempts, accept_rounding=False) == code

    def test_rounding_can_be_accepted(self) -> None:
        assert status([of("aligned"), of("rounding")], accept_rounding=True) == 0

    def test_the_last_line_names_those_that_are_not_aligned(self) -> None:
        said = conclusion([of("aligned"), of("diverged"), ERROR])
        assert said == "3 alignments: 1 aligned, 1 diverged, 1 error (diverged, x.pdparams)"


class TestSchema:
    schema = json.loads(list_schema_text())

    def valid(self, data: Any) -> bool:
        return jsonschema.Draft202012Validator(self.schema).is_valid(data)

    def test_it_is_one_and_printed(self) -> None:
        jsonschema.Draft202012Validator.check_schema(self.schema)
        assert CliRunner().invoke(cli.main, ["schema", "--several"]).output == list_schema_text()

    def test_all_verdicts_and_an_error_keep_to_it(self) -> None:
        assert self.valid(as_list([*map(of, RESULTS), ERROR]))

    def test_neither_both_nor_none_nor_another_result_does(self) -> None:
        data = as_list([of("aligned"), ERROR])
        for change in ({"error": data["results"][1]["error"]}, {"result": None}, {"result": {"schema": "else"}}):
            assert not self.valid({**data, "results": [{**data["results"][0], **change}, data["results"][1]]})


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace each alignment by the made-up result that its variant stands for; the one of l16 is an error."""
    meant = {"b16": "aligned", "b32": "diverged", "s32": "rounding"}
    seen: list[dict[str, Any]] = []

    def aligned(**options: Any) -> AlignmentResult:
        seen.append(options)
        name = options["variant"].partition("_")[0]
        if name not in meant:
            raise BadInput("it is damaged")
        return RESULTS[meant[name]]

    monkeypatch.setattr(cli, "_align", aligned)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return seen


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


VARIANTS = ("--variant", "b16_in21k", "--variant", "l16_in21k", "--variant", "b32", "--variant", "s32")


class TestReports:
    def test_an_error_ends_none_but_its_own(self, runs: list[dict[str, Any]], tmp_path: Path) -> None:
        found = run(
            *VARIANTS, "--junit", tmp_path / "junit", "--markdown", tmp_path / "markdown", "--json", tmp_path / "json"
        )
        assert found.exit_code == 3, found.output
        assert [options["variant"] for options in runs] == ["b16_in21k", "l16_in21k", "b32", "s32"]
        assert "Error: it is damaged" in found.stderr
        assert found.stdout.splitlines()[-1] == (
            "4 alignments: 1 aligned, 1 error, 1 diverged, 1 rounding (l16_in21k, b32, s32)"
        )
        data = json.loads((tmp_path / "json").read_text())
        assert [entry["name"] for entry in data["results"]] == ["b16_in21k", "l16_in21k", "b32", "s32"]
        assert data["results"][1]["error"] == {"sentence": "it is damaged", "exit_code": 3}
        markdown = (tmp_path / "markdown").read_text()
        assert markdown.index("4 alignments") < markdown.index("# b16\\_in21k") < markdown.index("# b32")

    def test_junit_tells_them_apart(self, runs: list[dict[str, Any]], tmp_path: Path) -> None:
        run(*VARIANTS, "--junit", tmp_path / "junit")
        report = JUnitXml.fromfile(str(tmp_path / "junit"))
        cases = [(case.classname, case.name) for suite in report for case in suite]
        assert len(cases) == len(set(cases))
        failed = {case.classname.split(".")[1] for suite in report for case in suite if case.is_failure}
        assert failed == {"b32", "s32"}
        (error,) = [case for suite in report for case in suite if case.is_error]
        assert (error.classname, error.result[0].message) == ("mixer-align.l16_in21k.error", "it is damaged")
        assert report.time == pytest.approx(sum(suite.time or 0 for suite in report), abs=0.01)

    def test_json_on_standard_output_is_nothing_else(self, runs: list[dict[str, Any]]) -> None:
        found = run(*VARIANTS, "--json", "-")
        assert len(json.loads(found.stdout)["results"]) == 4
        assert "4 alignments" in found.stderr

    def test_a_page_of_several_is_refused_before_the_work(self, runs: list[dict[str, Any]], tmp_path: Path) -> None:
        found = run(*VARIANTS, "--html", tmp_path / "page.html")
        assert (found.exit_code, runs) == (2, [])
        assert "--html shows one alignment" in found.output

    def test_a_wrong_name_among_them_is_told_before_the_work(self, runs: list[dict[str, Any]]) -> None:
        found = run(*VARIANTS, "--variant", "b17")
        assert (found.exit_code, runs) == (2, [])

    def test_an_input_among_them_is_not_replaced(self, runs: list[dict[str, Any]], tmp_path: Path) -> None:
        files = [tmp_path / name for name in ("a.pdparams", "b.pdparams")]
        for path in files:
            path.write_text("precious")
        found = run("--candidate", files[0], "--candidate", files[1], "--junit", files[1])
        assert (found.exit_code, runs) == (2, [])
        assert files[1].read_text() == "precious"

    def test_annotations_name_each(self, runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        lines = [line for line in run(*VARIANTS).stdout.splitlines() if line.startswith("::")]
        assert [line.partition("::")[2].partition("::")[0] for line in lines] == [
            "error title=mixer-align%3A l16_in21k%3A no verdict",
            f"error title=mixer-align%3A b32%3A diverged at {made_up.FAULTY}",
            "warning title=mixer-align%3A s32%3A rounding",
        ]

    def test_the_summary_has_all(
        self, runs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
        run(*VARIANTS)
        assert "4 alignments: 1 aligned" in (tmp_path / "summary").read_text()

    def test_a_name_begins_no_line(self, tmp_path: Path) -> None:
        """A runner takes a line that begins with two colons for a command."""
        attempts = [
            Attempt(name="::error::x", result=RESULTS["aligned"]),
            Attempt(name="a\n::b", error="no", exit_code=3),
        ]

        lines = [line for row in rows(attempts) for line in "  ".join(row).splitlines()]
        assert not [line for line in [*lines, *conclusion(attempts).splitlines()] if line.startswith("::")]


def test_a_real_run(mixer_align: Run, tmp_path: Path, config: MixerConfig, source: StateDict) -> None:
    """Nothing made up: a right port, a wrong one, a file that is none, and the right one again in timm's layout."""
    right = convert_state_dict(source, config).state_dict
    wrong = {**right, "blocks.2.norm1.weight": right["blocks.2.norm1.weight"] * 2}
    files = {"right": right, "wrong": wrong, "timm": source}
    checkpoint = save_safetensors(tmp_path / "a.safetensors", source)
    paths = [save_safetensors(tmp_path / f"{name}.safetensors", weights) for name, weights in files.items()]
    (tmp_path / "none.safetensors").write_bytes(os.urandom(64))
    paths.insert(2, tmp_path / "none.safetensors")
    target = tmp_path / "all.json"
    found = mixer_align(
        "--checkpoint", checkpoint, *(word for path in paths for word in ("--candidate", path)), "--json", target
    )
    data = json.loads(target.read_text())
    jsonschema.validate(data, json.loads(list_schema_text()))
    verdicts = [entry["result"] and entry["result"]["verdict"] for entry in data["results"]]
    assert verdicts == ["aligned", "diverged", None, "aligned"]
    assert found.exit_code == data["results"][2]["error"]["exit_code"] == 3
    assert data["results"][1]["result"]["first_divergence"]["layer"] == "blocks.2.norm1"
    alone = tmp_path / "alone.json"
    mixer_align("--checkpoint", checkpoint, "--candidate", paths[1], "--json", alone)
    assert json.loads(alone.read_text()) == data["results"][1]["result"]
    jsonschema.validate(json.loads(alone.read_text()), json.loads(schema_text()))
