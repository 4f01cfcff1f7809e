"""No dead ends: an option that any text of ours names is an option of a command, and shells complete what is begun."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from conftest import Run, save_safetensors

import align.commands.cli
import convert.commands.cli
import reports.commands.cli
from convert.arrays import StateDict

ROOT = Path(__file__).resolve().parents[1]
MAINS = {
    "mixer-convert": convert.commands.cli.main,
    "mixer-align": align.commands.cli.main,
    "mixer-report": reports.commands.cli.main,
}
OF_OTHERS = {
    "--bundle": "sigstore's",
    "--error-unmatch": "git's",
    "--porcelain": "git's",
    "--untracked-files": "git's",
    "--upgrade": "pip's",
    "--mixer-align-html": "pytest's, by our plugin",
    "--ink": "a colour of the page's style",
}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


def named(tree: ast.AST) -> set[str]:
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {option for text in texts for option in OPTION.findall(text)}


def test_every_option_that_is_named_is_one() -> None:
    known = {option for main in MAINS.values() for option in options(main)}
    sources = [path for top in ("convert", "align", "reports") for path in (ROOT / top).rglob("*.py")]
    found = {path.name: named(ast.parse(path.read_text(encoding="utf-8"))) - known for path in sources}
    assert set().union(*found.values()) == {*OF_OTHERS}, found


def test_one_that_is_none_is_seen() -> None:
    assert named(ast.parse('raise UsageProblem(f"{path}: pass --no-such-thing.")')) == {"--no-such-thing"}


@pytest.mark.parametrize(
    ("program", "words", "begun", "offered"),
    [
        ("mixer-convert", [], "--vari", ["--variant"]),
        ("mixer-convert", ["--variant"], "b16_in", ["b16_in21k", "b16_in1k"]),
        ("mixer-convert", [], "insp", ["inspect"]),
        ("mixer-align", ["--variant"], "s3", ["s32"]),
        ("mixer-align", ["record", "--variant"], "l16_in2", ["l16_in21k"]),
        ("mixer-report", ["evaluate", "--variant"], "b16_miil_in1", ["b16_miil_in1k"]),
        ("mixer-report", ["evaluate", "--precision"], "b", ["bfloat16"]),
    ],
)
def test_a_shell_completes(program: str, words: list[str], begun: str, offered: list[str]) -> None:
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    found = BashComplete(MAINS[program], {}, program, variable).get_completions(words, begun)
    assert [one.value for one in found] == offered


def test_a_candidate_in_timm_s_layout_is_told_what_makes_it_paddle_s(
    mixer_align: Run, mixer_convert: Run, tmp_path: Path, source: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command in the note is run, and what it writes is judged without one."""
    monkeypatch.chdir(tmp_path)
    given = save_safetensors(tmp_path / "a mixer.safetensors", source)
    told = mixer_align("--checkpoint", given, "--candidate", given)
    assert told.exit_code == 0, told.output
    (advised,) = re.findall(
        r"it has timm's layout, which Paddle does not load; judged is what `(.+)` makes", told.stderr
    )
    program, *arguments = shlex.split(advised)
    assert program == "mixer-convert"
    assert mixer_convert(*arguments, "--out", "made.pdparams").exit_code == 0
    again = mixer_align("--checkpoint", given, "--candidate", "made.pdparams")
    assert (again.exit_code, "layout" in again.stderr) == (0, False)
