"""Every form of a result: what it says of each verdict, and that nothing in a name can escape into its syntax."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
import typing
from typing import Any

import jsonschema
import made_up
import pytest
from click.testing import CliRunner
from junitparser import JUnitXml, Skipped, TestSuite

from align.commands.cli import main
from align.core import result as results
from align.core.case import Settings
from align.core.compare import LayerDiff
from align.probes.environment import environment
from align.render import as_data, headers, rows, schema_text
from align.render.annotations import workflow_commands
from align.render.data import compared, ratio
from align.render.junit import junit
from align.render.markdown import MARKS, cell, markdown
from convert.mixer.variants import MixerConfig

SCHEMA = json.loads(schema_text())
WITH = ("aligned", "without_witness")
NO_WITNESS = "no witness: float64 is compared between torch and Paddle alone"
EVERY = pytest.mark.parametrize("name", made_up.ALL)


def data_of(name: str) -> dict[str, Any]:
    return json.loads(json.dumps(as_data(made_up.ALL[name]()), allow_nan=False))


def valid(data: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


class TestSchema:
    def test_it_is_a_schema(self) -> None:
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        assert CliRunner().invoke(main, ["schema"]).output == schema_text()

    @EVERY
    def test_every_verdict_validates(self, name: str) -> None:
        jsonschema.Draft202012Validator(SCHEMA).validate(data_of(name))

    def test_the_made_up_verdicts_are_all_there_are(self) -> None:
        assert {data_of(name)["verdict"] for name in made_up.ALL} == set(typing.get_args(results.Verdict))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("verdict",), "fine"),
            (("gates", 0, "name"), "colour"),
            (("gates", 0, "passed"), "yes"),
            (("layers", 0, "float64", "introduced", "max_abs_diff"), "NaN"),
            (("layers", 0, "float64", "introduced", "bound"), None),
            (("layers", 0, "float64", "inherited"), None),
            (("layers", 0, "float64", "candidate_vs_witness"), None),
            (("layers", 0, "float32", "reference_vs_witness"), None),
            (("sides", "witness"), "no"),
            (("left_out",), {"stem": None}),
            (("settings", "config", "colour"), "red"),
            (("settings", "reference"), None),
            (("settings", "candidate_model"), 1),
            (("settings", "own_buffers"), "stem"),
            (("input_sha256",), "x"),
            (("settings", "config", "gelu"), "relu"),
            (("extra",), 1),
            (("layers", 0, "extra"), 1),
            (("schema",), "mixer-align/result/1"),
        ],
    )
    def test_it_is_strict(self, path: tuple[str | int, ...], value: Any) -> None:
        data = data_of("aligned")
        *way, last = path
        place = data
        for step in way:
            place = place[step]  # type: ignore[index]
        place[last] = value  # type: ignore[index]
        assert not valid(data)

    def test_what_another_family_or_a_porter_s_own_model_adds_is_taken(self) -> None:
        data = data_of("aligned")
        data["settings"] |= {"config": {"depth": 12}, "reference": "torchvision"}
        assert valid(data)
        for target in ("my_port.py:build", None):
            data["settings"] |= {"candidate_model": target, "own_buffers": ["stem.mean"]}
            assert valid(data)

    def test_only_without_a_witness_may_figures_be_null_and_only_in_float64(self) -> None:
        data = data_of("without_witness")
        assert data["layers"][0]["float64"]["reference_vs_witness"] is None
        assert valid(data)
        data["layers"][0]["float32"]["reference_vs_witness"] = None
        assert not valid(data)
        data = data_of("without_witness")
        data["sides"]["witness"] = True
        assert not valid(data)

    @pytest.mark.parametrize("key", SCHEMA["required"])
    def test_nothing_may_be_left_out(self, key: str) -> None:
        data = data_of("trained_badly")
        del data[key]
        assert not valid(data)

    @pytest.mark.parametrize(
        ("name", "type_"),
        [
            ("gate", results.Gate),
            ("divergence", results.Divergence),
            ("layer", results.LayerRow),
            ("differences", results.Differences),
            ("difference", LayerDiff),
            ("section", results.Section),
            ("sides", results.Sides),
            ("config", MixerConfig),
        ],
    )
    def test_it_has_each_type_s_fields(self, name: str, type_: type) -> None:
        fields = [field.name for field in dataclasses.fields(type_)]
        assert list(SCHEMA["$defs"][name]["properties"]) == fields == SCHEMA["$defs"][name]["required"]

    def test_a_check_has_its_name_and_the_parts_of_it(self) -> None:
        fields = ["name", *(field.name for field in dataclasses.fields(results.Check))]
        assert list(SCHEMA["$defs"]["check"]["properties"]) == fields == SCHEMA["$defs"]["check"]["required"]
        check = data_of("trained_badly")["sections"][1]["checks"][0]
        parts = {"group": ["adam", "constant", "step 3"], "subject": "parameters", "kind": "float64"}
        assert parts.items() <= check.items()
        assert check["name"] == "adam/constant/step 3/parameters/float64"

    def test_it_has_what_a_run_records(self) -> None:
        own = {"candidate_model", "own_buffers", "reference_model", "inputs_given", "dropped"}
        recorded = {field.name for field in dataclasses.fields(Settings)} | {
            "reference",
            "config",
            "weights",
            "recipes",
        }
        settings = SCHEMA["$defs"]["settings"]
        assert set(settings["required"]) == recorded == set(settings["properties"]) - own
        assert set(SCHEMA["$defs"]["environment"]["properties"]) == set(environment())
        assert SCHEMA["$defs"]["gate_name"]["enum"] == list(typing.get_args(results.GateName))
        assert SCHEMA["properties"]["verdict"]["enum"] == list(typing.get_args(results.Verdict))


class TestFigures:
    @pytest.mark.parametrize(
        ("figure", "bound", "expected"),
        [(5.0, 10.0, 0.5), ("nan", 10.0, float("inf")), (1.0, "inf", 0.0), (1.0, None, 0.0), (0.0, 0.0, 0.0)],
    )
    def test_ratio(self, figure: float | str, bound: float | str | None, expected: float) -> None:
        assert ratio(figure, bound) == expected

    def test_what_exceeds_a_bound_of_zero(self) -> None:
        assert ratio(1e-300, 0.0) == float("inf")

    def test_a_nan_is_said(self) -> None:
        assert compared("nan", 1e-12, passed=False) == "nan exceeds 1.0e-12"
        assert compared("nan", "inf", passed=False) == "nan, not finite"


class TestText:
    def test_a_row_per_layer_and_a_text_per_header(self) -> None:
        for made, truth in ((made_up.diverged, "witness"), (made_up.without_witness, "torch in float64")):
            found = made()
            assert [row[0] for row in rows(found)] == list(made_up.NAMES)
            assert {len(row) for row in rows(found)} == {len(headers(found))}
            assert headers(found)[-3:-1] == (f"float32 reference-{truth}", f"float32 Paddle-{truth}")
            assert [row[0] for row in rows(found) if row[-1] == "over"] == [made_up.FAULTY, "blocks.1.mlp_tokens.fc1"]


def parsed(name: str, **options: bool) -> JUnitXml:
    report = JUnitXml.fromstring(junit(data_of(name), **options))
    assert isinstance(report, JUnitXml)
    return report


def failures(suite: TestSuite) -> dict[str, str]:
    return {case.name: case.result[0].message for case in suite if case.is_failure}


def suite(report: JUnitXml, name: str) -> TestSuite:
    return next(suite for suite in report if suite.name == f"mixer-align.{name}")


def cases_of_unjudged() -> dict[str, Any]:
    """Return the cases of a result with a check and a layer that have no bound."""
    data = data_of("trained_badly")
    free = copy.deepcopy(data["layers"][0]) | {"name": "free"}
    for precision in ("float64", "float32"):
        for diff in free[precision].values():
            diff["bound"] = None
    data["layers"].append(free)
    return {case.name: case for suite in JUnitXml.fromstring(junit(data)) for case in suite}


class TestJunit:
    def test_a_pass(self) -> None:
        report = parsed("aligned")
        assert (report.tests, report.failures, report.errors, report.skipped) == (4 + len(made_up.NAMES), 0, 0, 0)
        assert [case.name for case in suite(report, "layers")] == list(made_up.NAMES)

    def test_a_divergence_fails_its_gates_and_layers_with_their_sentences(self) -> None:
        report, data = parsed("diverged"), data_of("diverged")
        layers = failures(suite(report, "layers"))
        assert list(layers) == [made_up.FAULTY, "blocks.1.mlp_tokens.fc1"]
        assert layers[made_up.FAULTY] == data["first_divergence"]["sentence"]
        assert "inherited float64 difference 2.00e-03 exceeds 1.0e-12" in layers["blocks.1.mlp_tokens.fc1"]
        assert list(failures(suite(report, "gates"))) == ["weights", "float64"]

    def test_a_nan_fails(self) -> None:
        assert "is not finite" in failures(suite(parsed("not_a_number"), "gates"))["structure"]

    def test_what_did_not_run_is_skipped_and_the_missing_layer_fails(self) -> None:
        report = parsed("structure_failed")
        assert [case.name for case in suite(report, "gates") if case.is_skipped] == ["weights", "float64", "float32"]
        assert failures(suite(report, "layers")) == {"head": "head: head.bias is missing"}

    def test_rounding_fails_unless_it_is_accepted(self) -> None:
        assert list(failures(suite(parsed("rounding"), "layers"))) == ["logits"]
        accepted = parsed("rounding", accept_rounding=True)
        assert accepted.failures == 0
        assert accepted.skipped == 2
        assert isinstance(next(c for c in suite(accepted, "layers") if c.name == "logits").result[0], Skipped)

    def test_only_rounding_can_be_accepted(self) -> None:
        assert parsed("diverged", accept_rounding=True).failures == parsed("diverged").failures > 0

    def test_each_check_of_a_section_is_a_case(self) -> None:
        report = parsed("trained_badly")
        assert [case.name for case in suite(report, "backward")] == ["stem.proj.weight", "loss"]
        name = "adam/constant/step 3/parameters/float64 at head"
        assert failures(suite(report, "training")) == {name: f"{name}: nan exceeds 1.0e-10, at [0]"}

    def test_a_point_left_out_is_skipped_and_says_why(self) -> None:
        layers = suite(parsed("without_witness"), "layers")
        assert {case.name: case.result[0].message for case in layers if case.is_skipped} == made_up.LEFT_OUT
        assert list(failures(layers)) == [made_up.FAULTY, "blocks.1.mlp_tokens.fc1"]

    def test_it_says_whether_there_was_a_witness(self) -> None:
        told = {name: {p.name: p.value for p in suite(parsed(name), "gates").properties()}["witness"] for name in WITH}
        assert told == {"aligned": "compared", "without_witness": NO_WITNESS}

    def test_a_figure_that_is_not_judged_is_skipped(self) -> None:
        cases = cases_of_unjudged()
        assert {name: case.is_skipped for name, case in cases.items()} == {
            **dict.fromkeys(cases, False),
            "loss": True,
            "free": True,
        }
        assert all("not judged" in cases[name].result[0].message for name in ("loss", "free"))

    def test_it_says_how_long_it_took(self) -> None:
        data = data_of("trained_badly")
        report = JUnitXml.fromstring(junit(data, seconds=12.3456))
        assert report.time == 12.346
        assert next(iter(report)).time == 12.346
        assert junit(data, seconds=12.3456).count(b" time=") == 2, "of the whole, and of its gates"
        assert b" time=" not in junit(data), "a time that was not measured is not 0"

    def test_an_inconclusive_result_fails(self) -> None:
        assert list(failures(suite(parsed("inconclusive"), "determinism"))) == ["twice"]

    @pytest.mark.parametrize("text", ["a\x00b\x1bc", "\udcff", "]]>", made_up.HOSTILE])
    def test_any_text_is_held(self, text: str) -> None:
        data = data_of("aligned") | {"variant": text}
        data["gates"][0] |= {"passed": False, "sentence": text}
        read = JUnitXml.fromstring(junit(data))
        case = next(iter(next(iter(read))))
        assert case.is_failure

    def test_it_says_what_it_was_made_with(self) -> None:
        properties = {p.name: p.value for p in suite(parsed("diverged"), "layers").properties()}
        assert properties["torch"] == "2.14.1"
        assert properties["verdict"] == "diverged"


def plain(text: str) -> str:
    """Return Markdown with its escapes resolved, as it is shown."""
    return re.sub(r"\\([\\`*_\[\]|~<>&$@])", r"\1", text)


class TestMarkdown:
    @pytest.mark.parametrize(
        ("name", "sign"), [("aligned", "✅"), ("diverged", "❌"), ("rounding", "⚠️"), ("inconclusive", "❔")]
    )
    def test_it_opens_with_the_verdict(self, name: str, sign: str) -> None:
        assert plain(markdown(data_of(name))).startswith(f"## {sign} mixer-align: {name}\n")

    @EVERY
    def test_it_holds_the_sentence_and_every_gate(self, name: str) -> None:
        data, text = data_of(name), plain(markdown(data_of(name)))
        assert " ".join(data["sentence"].split()) in text
        assert all(" ".join(gate["sentence"].split()) in text for gate in data["gates"])

    def test_a_divergence_is_named_and_the_worst_layers_come_first(self) -> None:
        text = plain(markdown(data_of("diverged")))
        assert f"**First divergence: {made_up.FAULTY}**" in text
        worst = text.partition("### Worst layers")[2].splitlines()
        assert worst[4].startswith(
            "| blocks.1.mlp_tokens.fc1 | float64 inherited | 2.00e-03 exceeds 1.0e-12 ❌ | 2e+09 |"
        )
        assert worst[5].startswith(f"| {made_up.FAULTY} | float64 introduced | 1.00e-03 exceeds 1.0e-12 ❌ | 1e+09 |")
        assert "First divergence" not in plain(markdown(data_of("aligned")))

    def test_it_says_whether_there_was_a_witness(self) -> None:
        told = [f"**N{NO_WITNESS[1:]}.**" in markdown(data_of(name)) for name in WITH]
        assert told == [False, True]
        text = plain(markdown(data_of("without_witness")))
        assert "float64 reference vs witness" not in text
        assert "| float32 reference vs float64 reference |" in text

    def test_the_points_left_out_are_listed(self) -> None:
        listed = plain(markdown(data_of("without_witness"))).partition("### Points left out")[2].splitlines()
        assert listed[4:6] == [f"| {name} | {why} |" for name, why in made_up.LEFT_OUT.items()]
        assert "left out" not in markdown(data_of("aligned"))

    def test_a_figure_that_is_not_judged_has_not_passed(self) -> None:
        (line,) = [line for line in markdown(data_of("trained_badly")).splitlines() if line.startswith("| loss |")]
        assert line.endswith("| ➖ skipped |")
        assert MARKS[True] not in line

    def test_it_says_how_long_it_took(self) -> None:
        assert "Took 12.3 s. Batch SHA-256" in markdown(data_of("aligned"), seconds=12.3456)
        assert "Took" not in markdown(data_of("aligned"))

    def test_a_nan_is_the_worst(self) -> None:
        worst = plain(markdown(data_of("not_a_number"))).partition("### Worst layers")[2].splitlines()
        assert worst[4].startswith(f"| {made_up.FAULTY} | float64 introduced | nan exceeds 1.0e-12 ❌ | inf |")

    def test_the_whole_table_and_the_checks_are_folded(self) -> None:
        text = plain(markdown(data_of("trained_badly")))
        assert text.count("<details>") == text.count("</details>") == 3
        assert "<summary>All 8 layers</summary>" in text
        assert "| adam/constant/step 3/parameters/float64 | head | nan exceeds 1.0e-10 | at [0] | ❌ |" in text

    def test_without_layers_there_is_no_table_of_them(self) -> None:
        assert "<details>" not in markdown(data_of("structure_failed"))

    def test_a_name_cannot_leave_its_cell(self) -> None:
        assert cell("a|b\n<c>\\*_`@") == r"a\|b \<c\>\\\*\_\`\@"
        text = markdown(data_of("hostile"))
        assert r"x\|y \<script\>" in text
        assert r"\`\*a\*\_b\_\@team" in text
        assert r"\[z\](http" in text

    def test_every_row_has_its_header_s_cells(self) -> None:
        for name in made_up.ALL:
            for block in markdown(data_of(name)).split("\n\n"):
                assert (
                    len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines() if line.startswith("|")})
                    <= 1
                )


class TestAnnotations:
    def test_none_for_a_pass(self) -> None:
        assert workflow_commands(data_of("aligned")) == []

    def test_an_error_names_the_layer(self) -> None:
        (line,) = workflow_commands(data_of("diverged"))
        sentence = data_of("diverged")["sentence"]
        assert line == f"::error title=mixer-align%3A diverged at {made_up.FAULTY}::{sentence}"

    @pytest.mark.parametrize("name", ["not_a_number", "structure_failed", "inconclusive", "trained_badly"])
    def test_every_failure_is_an_error(self, name: str) -> None:
        assert workflow_commands(data_of(name))[0].startswith("::error ")

    def test_rounding_is_a_warning(self) -> None:
        assert workflow_commands(data_of("rounding"))[0].startswith(
            "::warning title=mixer-align%3A rounding::rounding: "
        )

    def test_nothing_ends_a_command_early(self) -> None:
        data = data_of("diverged") | {"sentence": "50%,\r\n::stop-commands::x"}
        data["first_divergence"] = {"layer": "a,b:c\n%", "sentence": ""}
        assert workflow_commands(data) == [
            "::error title=mixer-align%3A diverged at a%2Cb%3Ac%0A%25::50%25,%0D%0A::stop-commands::x"
        ]


def test_the_report_is_read_back_from_a_file_too() -> None:
    assert JUnitXml.fromfile(io.BytesIO(junit(data_of("hostile")))).failures == 0


class TestInPython:
    @pytest.mark.parametrize("name", made_up.ALL)
    def test_it_is_true_where_the_verdict_is_aligned(self, name: str) -> None:
        result = made_up.ALL[name]()
        assert bool(result) is (result.verdict == "aligned")

    @pytest.mark.parametrize("name", made_up.ALL)
    def test_it_is_shown_in_a_line(self, name: str) -> None:
        result = made_up.ALL[name]()
        shown = repr(result)
        assert result.verdict in shown
        assert len(shown.replace(result.variant, "")) < 200
        assert "\n" not in shown.replace(result.variant, "")
