"""Where a command cannot write what it is asked for, it says so before it works, by the option that asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import align.commands.cli
import convert.commands.cli
import reports.commands.cli
from convert.commands.command_line import OneSentence
from convert.errors import OutputRefused
from reports.score.predictions import check_target

MAINS = (convert.commands.cli.main, align.commands.cli.main, reports.commands.cli.main)


def commands(command: click.Command) -> Iterator[OneSentence]:
    if isinstance(command, OneSentence) and command.callback:
        yield command
    for below in getattr(command, "commands", {}).values():
        yield from commands(below)


WITH_JSON = [one for main in MAINS for one in commands(main) if any(p.name == "json_target" for p in one.params)]


def alone(command: OneSentence, done: list[str]) -> OneSentence:
    """The command, whose work is to say that it has begun."""
    kept = [parameter for parameter in command.params if parameter.name == "json_target"]
    return OneSentence(command.name, params=kept, callback=lambda **given: done.append(given["json_target"]))


@pytest.mark.parametrize("command", WITH_JSON, ids=lambda command: command.name)
@pytest.mark.parametrize(("target", "code"), [("none/x.json", 4), ("folder", 2)])
def test_json_is_refused_before_the_work(tmp_path: Path, command: OneSentence, target: str, code: int) -> None:
    (tmp_path / "folder").mkdir()
    done: list[str] = []
    run = CliRunner().invoke(alone(command, done), ["--json", str(tmp_path / target)])
    assert (run.exit_code, done) == (code, []), run.output
    assert "--json" in run.output or "no such folder to write x.json to" in run.output
    assert CliRunner().invoke(alone(command, done), ["--json", str(tmp_path / "x.json")]).exit_code == 0
    assert done, "what can be written is not refused"


def test_what_is_no_file_can_be_written_to(tmp_path: Path) -> None:
    done: list[str] = []
    assert CliRunner().invoke(alone(WITH_JSON[0], done), ["--json", "/dev/stdout"]).exit_code == 0
    assert done == ["/dev/stdout"]


def test_predictions_are_refused_by_their_own_option(tmp_path: Path) -> None:
    source = tmp_path / "x.npz"
    source.touch()
    with pytest.raises(OutputRefused, match=r"it is the input itself\. Choose another --predictions"):
        check_target(source, force=True, inputs=(source,))
    with pytest.raises(OutputRefused, match=r"Pass --force to replace it, or choose another --predictions"):
        check_target(source, force=False)


@pytest.mark.parametrize("option", ["--junit", "--markdown", "--html", "--json"])
def test_a_report_of_the_gates_too(tmp_path: Path, option: str) -> None:
    (tmp_path / "folder").mkdir()
    run = CliRunner().invoke(align.commands.cli.main, ["--variant", "nope", option, str(tmp_path / "folder")])
    assert run.exit_code == 2
    assert option in run.output, "and not that there is no such variant, which comes later"


EVERY = [(one, name) for main in MAINS for one in commands(main) for name in (*one.apart, *one.together)]


def option_of(command: OneSentence, name: str) -> list[str]:
    """What is typed for an option of that name, with a value that it takes."""
    parameter = next(parameter for parameter in command.params if parameter.name == name)
    values = {"seed": "1", "image_size": "1", "in_chans": "1", "num_classes": "1", "layer_norm_eps": "1e-6"}
    choice = parameter.type.choices[0] if isinstance(parameter.type, click.Choice) else "x"
    value = values.get(name, str(choice))
    if isinstance(parameter, click.Argument):
        return [value]
    return (
        [parameter.opts[0]] if isinstance(parameter, click.Option) and parameter.is_flag else [parameter.opts[0], value]
    )


@pytest.mark.parametrize(("command", "name"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_an_option_that_would_be_ignored_is_refused(command: OneSentence, name: str) -> None:
    required = [part for p in command.params if p.required and p.name for part in option_of(command, p.name)]
    for other in command.apart.get(name, ()):
        run = CliRunner().invoke(command, [*required, *option_of(command, name), *option_of(command, other)])
        assert run.exit_code == 2, run.output
        assert f"{option_of(command, name)[0]} has no effect beside {option_of(command, other)[0]}." in run.output
    if name in command.together:
        run = CliRunner().invoke(command, [*required, *option_of(command, name)])
        assert run.exit_code == 2, run.output
        assert f"{option_of(command, name)[0]} goes with " in run.output


def test_a_default_is_not_an_option_that_was_given() -> None:
    """Else every alignment of a checkpoint would be refused for its seed of 0."""
    run = CliRunner().invoke(align.commands.cli.main, ["--checkpoint", "/none/x.pth"])
    assert (run.exit_code, "/none/x.pth" in run.output) == (4, True)
