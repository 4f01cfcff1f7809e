"""What the commands share: errors become one sentence and an exit code, and results can be written as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from convert.errors import MixerConvertError

INTERNAL_ERROR = 70
"""sysexits.h EX_SOFTWARE: a defect of ours, which no documented exit code stands for."""


class Failure(click.ClickException):
    """An error as click shows it: `Error: <sentence>` on standard error, and an exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class MainJobGroup(click.Group):
    """A group whose own options are the main job, and whose errors never show a traceback unless --debug is given."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, turning errors into a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.params.get("debug") or isinstance(error, (click.ClickException, click.exceptions.Exit, click.Abort)):
                raise
            raise _failure(error) from error


debug_option = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


def write_json(data: Any, target: str) -> None:
    """Write data as JSON to a file, or to standard output for `-`."""
    text = json.dumps(data, indent=1)
    if target == "-":
        click.echo(text)
        return
    with open(target, "w", encoding="utf-8") as stream:
        stream.write(f"{text}\n")


def command_line() -> list[str]:
    """Return the command as it was called, the program by its bare name."""
    program, *arguments = sys.argv
    return [program.rsplit("/", 1)[-1], *arguments]


def _failure(error: Exception) -> Failure:
    if isinstance(error, MixerConvertError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, OSError):
        return Failure(f"{error.filename or 'input/output'}: {error.strerror or error}.", 4)
    return Failure(f"{type(error).__name__}: {error}. This is a defect; --debug shows where.", INTERNAL_ERROR)
