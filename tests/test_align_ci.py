"""The command's reports, the action, the hook and the pytest plugin, as a CI system runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import made_up
import pytest
import yaml
from click.testing import CliRunner, Result
from conftest import Run, save_safetensors
from junitparser import JUnitXml
from strangers import CONFIG, OTHER_NAMES, timm_weights

from align.commands import cli
from align.commands.publish import Targets, check_targets, publish
from align.core.result import AlignmentResult
from align.mixer.case import Subject, case_of
from align.render import as_data, schema_text, verdict_line
from align.render.several import Attempt
from align.run import align
from convert.arrays import StateDict
from convert.disk.atomic import write_report
from convert.errors import IOProblem, UsageProblem
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[1]
FILES = ("json", "junit", "markdown", "html")


@pytest.fixture(autouse=True)
def no_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are themselves run on GitHub."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run mixer-align where the alignment itself is replaced by a made-up result."""

    def run(name: str, *arguments: Any) -> Result:
        monkeypatch.setattr(cli, "_align", lambda **_: made_up.ALL[name]())
        return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])

    return run


def reports(folder: Path) -> list[Any]:
    return [argument for name in FILES for argument in (f"--{name}", folder / name)]


class TestReports:
    @pytest.mark.parametrize("name", made_up.ALL)
    def test_all_are_written_whatever_the_verdict(
        self, command: Callable[..., Result], tmp_path: Path, name: str
    ) -> None:
        result = made_up.ALL[name]()
        run = command(name, *reports(tmp_path))
        assert run.exit_code == (1 if result.failed() else 0), run.output
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
        assert json.loads((tmp_path / "json").read_text())["verdict"] == result.verdict
        assert JUnitXml.fromfile(str(tmp_path / "junit")).tests >= 4
        assert (tmp_path / "html").read_text().startswith("<!doctype html>")
        assert result.verdict in (tmp_path / "markdown").read_text()
        assert re.search(r"Took \d+\.\d s\.", (tmp_path / "markdown").read_text())
        assert b" time=" in (tmp_path / "junit").read_bytes()
        assert b"seconds" not in (tmp_path / "json").read_bytes(), "a result is the same from run to run"

    def test_accepted_rounding_fails_neither_the_job_nor_its_report(
        self, command: Callable[..., Result], tmp_path: Path
    ) -> None:
        run = command("rounding", "--accept-rounding", *reports(tmp_path))
        assert run.exit_code == 0
        assert JUnitXml.fromfile(str(tmp_path / "junit")).failures == 0

    def test_an_older_report_is_replaced(self, command: Callable[..., Result], tmp_path: Path) -> None:
        (tmp_path / "junit").write_text("old")
        assert command("aligned", *reports(tmp_path)).exit_code == 0
        assert "old" not in (tmp_path / "junit").read_text()

    @pytest.mark.parametrize("name", FILES)
    def test_one_that_cannot_be_written_exits_4_behind_the_verdict_and_the_others(
        self, command: Callable[..., Result], tmp_path: Path, name: str
    ) -> None:
        others = tmp_path / "others"
        others.mkdir()
        link = tmp_path / "link"
        link.symlink_to("/proc/version")  # a file in a folder where nobody can make one, which only writing tells
        run = command("diverged", *reports(others), f"--{name}", link)
        assert run.exit_code == 4
        assert run.output.index("diverged: made up") < run.output.index("Error: ")
        assert "/proc/version: cannot be written" in run.stderr
        assert sorted(path.name for path in others.iterdir()) == sorted(set(FILES) - {name})

    @pytest.mark.parametrize("name", FILES)
    def test_a_missing_folder_is_told_before_anything_runs(
        self, command: Callable[..., Result], tmp_path: Path, name: str
    ) -> None:
        others = tmp_path / "others"
        others.mkdir()
        run = command("aligned", *reports(others), f"--{name}", tmp_path / "missing" / "x")
        assert run.exit_code == 4
        assert run.stderr.splitlines()[-1].startswith(f"Error: {tmp_path / 'missing'}: there is no such folder")
        assert "aligned: made up" not in run.output
        assert not list(others.iterdir())

    def test_a_pipe_is_written_to_and_stays_one(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
            write_report(pipe, b"x")
            assert reader.communicate(timeout=30)[0] == b"x"
        assert pipe.is_fifo()

    def test_a_failure_leaves_the_older_report(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        report = tmp_path / "report"
        report.write_text("old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(IOProblem, match="No space left"):
            write_report(report, b"new")
        assert report.read_text() == "old"
        assert list(tmp_path.iterdir()) == [report]

    @pytest.mark.parametrize("option", ["checkpoint", "candidate"])
    def test_an_input_is_not_replaced(self, command: Callable[..., Result], tmp_path: Path, option: str) -> None:
        weights = tmp_path / "x.pdparams"
        weights.write_text("precious")
        run = command("aligned", f"--{option}", weights, "--html", weights)
        assert run.exit_code == 2
        assert f"--{option} names the same file" in run.output
        assert weights.read_text() == "precious"

    def test_two_reports_are_two_files(self, tmp_path: Path) -> None:
        with pytest.raises(UsageProblem, match=r"--html .*--junit names the same file"):
            check_targets(Targets(junit=tmp_path / "x", html=tmp_path / "." / "x"), {})
        with pytest.raises(UsageProblem, match="only --json"):
            check_targets(Targets(junit=Path("-")), {})
        check_targets(Targets(junit=Path(os.devnull), html=Path(os.devnull)), {"candidate": []})


class TestGithub:
    def test_the_summary_is_appended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        summary = tmp_path / "summary"
        summary.write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        publish([Attempt(result=made_up.diverged())], Targets(markdown=tmp_path / "same"))
        assert summary.read_text() == "before\n" + (tmp_path / "same").read_text()

    def test_a_summary_that_cannot_be_written_is_an_error(
        self, command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
        assert command("aligned").exit_code == 4

    @pytest.mark.parametrize(
        ("name", "level"), [("diverged", "error"), ("inconclusive", "error"), ("rounding", "warning")]
    )
    def test_annotations_are_lines_of_the_log(
        self, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, name: str, level: str
    ) -> None:
        assert f"::{level} " not in command(name).output
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        assert [line for line in command(name).stdout.splitlines() if line.startswith(f"::{level} title=")]

    def test_json_on_standard_output_stays_json(
        self, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        run = command("diverged", "--json", "-")
        assert json.loads(run.stdout)["verdict"] == "diverged"
        assert "::error title=" in run.stderr


ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS: dict[str, dict[str, Any]] = {step.get("name", step.get("uses")): step for step in ACTION["runs"]["steps"]}


class TestAction:
    def run_step(self, tmp_path: Path, name: str, **inputs: str) -> list[str]:
        """Run a step's script as a runner does, with stubs that note their arguments; return those of the last one."""
        program = tmp_path / "mixer-align" / "bin" / "mixer-align"
        program.parent.mkdir(parents=True)
        program.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\nexit 1\n')
        program.chmod(0o755)
        environment = {
            "PATH": os.environ["PATH"],
            "RUNNER_TEMP": str(tmp_path),
            **dict.fromkeys(STEPS[name]["env"], ""),
        }
        script = ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", STEPS[name]["run"]]
        run = subprocess.run(
            script, env=environment | inputs, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert run.returncode == 1, run.stderr
        assert not run.stderr
        return [line for line in run.stdout.splitlines() if not line.startswith("::")]

    def ended(self, tmp_path: Path, code: int, says: str) -> tuple[list[str], str]:
        """Run the Action's step with a mixer-align that says something and ends; return annotations and summary."""
        program = tmp_path / "mixer-align" / "bin" / "mixer-align"
        program.parent.mkdir(parents=True)
        (tmp_path / "says").write_bytes(says.encode())
        program.write_text(f'#!/bin/sh\necho first\ncat "{tmp_path}/says" >&2\nexit {code}\n')
        program.chmod(0o755)
        summary = tmp_path / "summary"
        summary.write_text("before\n")
        environment = {"PATH": os.environ["PATH"], "RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(summary)}
        script = ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", STEPS["Align"]["run"]]
        environment |= dict.fromkeys(STEPS["Align"]["env"], "")
        run = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == code, run.stderr
        assert summary.read_text().startswith("before\n")
        return [line for line in run.stdout.splitlines() if line.startswith("::")], summary.read_text()

    @pytest.mark.parametrize(
        ("code", "level", "meaning"),
        [
            (0, "notice", "holds"),
            (1, "error", "does not hold"),
            (2, "error", "usage"),
            (3, "error", "unsafe input"),
            (4, "error", "network refused"),
            (5, "error", "integrity"),
            (70, "error", "own"),
            (130, "warning", "interrupted"),
            (143, "warning", "cancelled"),
            (137, "error", "memory"),
        ],
    )
    def test_every_exit_code_is_annotated_and_summarised(
        self, tmp_path: Path, code: int, level: str, meaning: str
    ) -> None:
        (line,), summary = self.ended(tmp_path, code, "Error: a line\n\nError: 100% of x, y: z\r \n\n")
        start, _, message = line.removeprefix("::").partition("::")
        assert start == f"{level} title=mixer-align%3A exit code {code}"
        assert meaning in message
        assert message.endswith(". Error: 100%25 of x, y: z%0D ")
        assert f"exit code {code}**" in summary
        assert meaning in summary
        assert "\n    Error: 100% of x, y: z" in summary

    def test_a_verdict_that_is_annotated_is_not_annotated_twice(self, tmp_path: Path) -> None:
        own = "diverged: a\n::error title=mixer-align%3A diverged::diverged: a\n"
        lines, summary = self.ended(tmp_path / "1", 1, own)
        assert lines == [own.splitlines()[1]]
        assert "\n    diverged: a\n" in summary
        lines, _ = self.ended(tmp_path / "4", 4, f"{own}Error: x: no space left\n")
        assert len(lines) == 2
        assert "Error: x: no space left" in lines[1]

    def test_the_gate_runs_with_every_report_and_its_exit_code_counts(self, tmp_path: Path) -> None:
        folder = tmp_path / "mixer-align-reports"
        assert self.run_step(tmp_path, "Align") == [
            *("--json", str(folder / "result.json"), "--junit", str(folder / "junit.xml")),
            *("--markdown", str(folder / "summary.md"), "--html", str(folder / "report.html")),
        ]
        assert STEPS["Keep the reports"]["with"]["path"] == "${{ runner.temp }}/mixer-align-reports"
        assert STEPS["Keep the reports"]["if"] == "${{ !cancelled() }}"

    def test_inputs_are_words_and_never_code(self, tmp_path: Path) -> None:
        (tmp_path / "a file").touch()
        words = self.run_step(
            tmp_path,
            "Align",
            VARIANT="s32",
            CHECKPOINT="my file.safetensors",
            CANDIDATE='"; touch hacked; $(touch hacked) `touch hacked`',
            ARGS="--batch 1\n\n  --atol  1e-4 * $(touch hacked)",
        )
        assert words[8:] == [
            *("--variant", "s32", "--checkpoint", "my file.safetensors"),
            *("--candidate", '"; touch hacked; $(touch hacked) `touch hacked`'),
            *("--batch", "1", "--atol", "1e-4", "*", "$(touch", "hacked)"),
        ]
        assert not (tmp_path / "hacked").exists()

    def test_no_expression_stands_in_a_script(self) -> None:
        scripts = [step for step in STEPS.values() if "run" in step]
        assert len(scripts) == 2
        assert all("${{" not in step["run"] and step["shell"] == "bash" for step in scripts)

    def test_every_input_is_used_and_described(self) -> None:
        text = json.dumps(ACTION["runs"])
        assert all(f"inputs.{name} }}" in text and value["description"] for name, value in ACTION["inputs"].items())

    def test_every_option_is_the_command_s(self) -> None:
        known = {option for parameter in cli.main.params for option in parameter.opts}
        words = STEPS["Align"]["run"].replace("(", " ").split()
        assert {word for word in words if word.startswith("--")} <= known

    def test_what_is_installed_is_the_action_s_own_folder(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        (tmp_path / "stubs").mkdir()
        stub = tmp_path / "stubs" / "python"
        stub.write_text(
            f'#!/bin/sh\necho "$@" >>{log}\n[ "$2" = venv ] || exit 0\nmkdir -p "$3/bin"\ncp "$0" "$3/bin/python"\n'
        )
        stub.chmod(0o755)
        environment = {
            "PATH": f"{stub.parent}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(tmp_path),
            "ACTION_PATH": "/a b",
        }
        subprocess.run(["bash", "-euo", "pipefail", "-c", STEPS["Install"]["run"]], env=environment, check=True)
        assert log.read_text().splitlines() == [
            f"-m venv {tmp_path}/mixer-align",
            "-m pip install -q -c /a b/constraints.txt /a b[all]",
        ]


def test_the_hook_is_one_that_pre_commit_takes() -> None:
    from pre_commit.clientlib import load_manifest

    (hook,) = load_manifest(ROOT / ".pre-commit-hooks.yaml")
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("mixer-align", "python", False)
    scripts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'{hook["entry"]} = "align.commands.cli:main"' in scripts


PORTS = """
from pathlib import Path
import numpy as np
import convert
from align.mixer.models import build_timm
from convert.mixer.init import init_state_dict
from convert.mixer.shapes import infer_config
from convert import files

CHECKPOINT = {checkpoint!r}

def models():
    source = files.read(Path(CHECKPOINT))
    config = infer_config({{key: array.shape for key, array in source.items()}}, "x")
    return build_timm(config, None, source), convert.load_paddle(checkpoint=Path(CHECKPOINT))

def test_right(assert_aligned):
    assert assert_aligned(*models(), batch=1).settings["batch"] == 1

def test_wrong(assert_aligned):
    reference, candidate = models()
    candidate.blocks[1].norm1._epsilon = 1e-5
    assert_aligned(reference, candidate)

def test_files(assert_aligned):
    assert_aligned(checkpoint=CHECKPOINT)

def test_half(assert_aligned):
    assert_aligned(models()[0])

def test_nothing(assert_aligned):
    assert_aligned(None, None)
"""


class TestPlugin:
    @pytest.mark.slow
    def test_a_wrong_port_fails_its_test_with_one_line(
        self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        pytester.makepyfile(PORTS.format(checkpoint=str(checkpoint)))
        run = pytester.runpytest_subprocess(
            *("-p", "align.pytest_plugin", "-p", "no:cacheprovider", "--mixer-align-html", "pages", "-rf")
        )
        run.assert_outcomes(passed=2, failed=3)
        run.stdout.fnmatch_lines(["diverged: *: blocks.1.norm1: introduced float64 difference * exceeds *"])
        run.stdout.fnmatch_lines(["*TypeError: assert_aligned: give two models*"])
        run.stdout.fnmatch_lines(["*TypeError: assert_aligned: * nothing proves nothing*"])
        run.stdout.no_fnmatch_line("*Traceback*")
        pages = sorted(path.name for path in (pytester.path / "pages").iterdir())
        assert [name.rpartition("_test_")[2] for name in pages] == [f"{n}-1.html" for n in ("files", "right", "wrong")]

    def test_it_loads_without_a_framework(self) -> None:
        slow = {"torch", "timm", "paddle", "numpy", "jinja2", "click"}
        code = f"import sys, align.pytest_plugin; print(sorted({slow} & set(sys.modules)))"
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == "[]"

    def test_it_is_registered(self) -> None:
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert project["entry-points"]["pytest11"] == {"align.pytest_plugin": "align.pytest_plugin"}


def test_a_real_run_writes_them_all(mixer_align: Run, tmp_path: Path, config: MixerConfig, source: StateDict) -> None:
    """Nothing made up: a port with one weight changed."""
    wrong = dict(convert_state_dict(source, config).state_dict)
    wrong["blocks.2.norm1.weight"] = wrong["blocks.2.norm1.weight"] * 2
    checkpoint = save_safetensors(tmp_path / "a.safetensors", source)
    candidate = save_safetensors(tmp_path / "b.safetensors", wrong)
    folder = tmp_path / "reports"
    folder.mkdir()
    for arguments, code in (([], 0), (["--candidate", candidate], 1)):
        assert mixer_align("--checkpoint", checkpoint, *arguments, *reports(folder)).exit_code == code
        jsonschema.validate(json.loads((folder / "json").read_text()), json.loads(schema_text()))
    failed = [case for suite in JUnitXml.fromfile(str(folder / "junit")) for case in suite if case.is_failure]
    assert "blocks.2.norm1" in [case.name for case in failed]


def test_the_points_that_a_porter_s_model_does_not_show_are_in_every_report(mixer_align: Run, tmp_path: Path) -> None:
    """Nothing made up: a model of its own, its pairing, and points that it computes by a function."""
    checkpoint = save_safetensors(tmp_path / "a.safetensors", timm_weights(0))
    own = ["--candidate-model", f"{OTHER_NAMES.file}:build", "--candidate-args", '{"variant": "functional-norms"}']
    own += ["--pairing", OTHER_NAMES.pairing(tmp_path, "functional-norms")]
    folder = tmp_path / "reports"
    folder.mkdir()
    run = mixer_align("--checkpoint", checkpoint, *own, *reports(folder))
    assert run.exit_code == 0, run.output
    data = json.loads((folder / "json").read_text())
    jsonschema.validate(data, json.loads(schema_text()))
    assert data["settings"]["candidate_model"] == own[1]
    for name in (f"blocks.{i}.norm1" for i in range(CONFIG.num_blocks)):
        assert data["left_out"][name] == "computed by a function"
        assert all(name in text for text in (run.stdout, *(path.read_text() for path in folder.iterdir())))
    (suite,) = [one for one in JUnitXml.fromfile(str(folder / "junit")) if one.name == "mixer-align.layers"]
    skipped = [case.name for case in suite if case.is_skipped]
    assert skipped == [*data["left_out"]]


@pytest.mark.usefixtures("frameworks")
def test_a_case_without_a_witness_says_so_everywhere(config: MixerConfig, source: StateDict, tmp_path: Path) -> None:
    case = replace(case_of(Subject(source=source, config=config, name="small")), witness=None)
    result = align(case)
    assert result.verdict == "aligned"
    assert {row.float64.reference_vs_witness for row in result.layers} == {None}
    assert "no witness" in verdict_line(result)
    jsonschema.validate(as_data(result), json.loads(schema_text()))
    publish([Attempt(result=result)], Targets(**{name: tmp_path / name for name in FILES[1:]}))
    assert all("no witness" in path.read_text().lower() for path in tmp_path.iterdir())


def test_made_up_results_are_results() -> None:
    assert all(isinstance(made(), AlignmentResult) for made in made_up.ALL.values())
