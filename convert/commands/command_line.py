"""What the commands share: errors become one sentence and an exit code, and results can be written as JSON."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from convert.commands.streams import unbroken
from convert.errors import MixerConvertError, UsageProblem

DEBUG = "mixer-convert.debug"
INTERNAL_ERROR = 70
"""EX_SOFTWARE of sysexits.h: a defect of this program, for which there is no documented exit code."""


INTERRUPTED = 130
"""128 plus the number of SIGINT, by the shells' convention."""


class Failure(click.ClickException):
    """An error as click shows it: `Error: <sentence>` on standard error, and an exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares a class variable and reads the instance's


def _note_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = value or ctx.meta.get(DEBUG, False)


class OneSentence(click.Command):
    """A command whose errors are a sentence and an exit code; --debug shows the traceback too.

    `needs` names optional modules: if one is missing, the command ends before it has done anything. An option that
    would be ignored is refused: one given beside any of those that `apart` lists for it, or without any of those that
    `together` lists for it.
    """

    def __init__(
        self,
        *args: Any,
        needs: Collection[str] = (),
        apart: Mapping[str, Collection[str]] | None = None,
        together: Mapping[str, Collection[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Create the command and add the option --debug to it."""
        super().__init__(*args, **kwargs)
        self.needs, self.apart, self.together = needs, apart or {}, together or {}
        help_ = "Show the traceback of an error."
        option = click.Option(["--debug"], is_flag=True, expose_value=False, callback=_note_debug, help=help_)
        self.params.append(option)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, turning errors into a sentence and an exit code."""
        from convert.checks.installed import require
        from convert.disk.unchanged import a_cut_input_ends_the_command

        try:
            self._refuse_ignored(ctx)
            _check_json(ctx)
            require(*self.needs)
            with a_cut_input_ends_the_command():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as interrupt:
            click.echo("Interrupted.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from interrupt
        except Exception as error:
            raise failure_of(error) from error

    def _refuse_ignored(self, ctx: click.Context) -> None:
        given = {name for name in ctx.params if _is_given(ctx, name)}
        named = {parameter.name: parameter.opts[0] for parameter in self.params}
        for name in [one for one in self.apart if one in given]:
            if other := next((other for other in self.apart[name] if other in given), None):
                raise UsageProblem(f"{named[name]} has no effect beside {named[other]}. Leave one out.")
        for name in [one for one in self.together if one in given]:
            if not given.intersection(self.together[name]):
                others = " or ".join(str(named[other]) for other in self.together[name])
                raise UsageProblem(f"{named[name]} goes with {others}. Add it, or leave it out.")


class OneSentenceGroup(OneSentence, click.Group):
    """A group whose own options are its main job; its subcommands report errors in the same way."""

    command_class = OneSentence

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command, even if nobody reads its output any more."""
        with unbroken():
            return super().main(*args, **kwargs)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand that is named; if it is a file, raise an error that says which option takes files."""
        if args and args[0] not in self.commands and _looks_like_a_file(args[0]):
            taking = [p.opts[0] for p in self.params if p.opts[0] in ("--checkpoint", "--candidate")]
            if len(taking) > 1 and len(args) > 1 and _looks_like_a_file(args[1]):
                import shlex

                advised = shlex.join(["--checkpoint", args[0], "--candidate", args[1]])
                raise click.UsageError(f"Two files are compared with {advised}.", ctx)
            if taking:
                raise click.UsageError(f"{args[0]} is no command. A file is named by {' or '.join(taking)}.", ctx)
        return super().resolve_command(ctx, args)


class FileGroup(OneSentenceGroup):
    """A group whose main job takes a file, which can be named without its option, --checkpoint."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; a first positional one that is a file and no command is the value of --checkpoint."""
        given, rest, _ = self.make_parser(ctx).parse_args(list(args))
        if rest and rest[0] not in self.commands and _looks_like_a_file(rest[0]):
            if "checkpoint" in given:
                raise click.UsageError(f"{given['checkpoint']} and {rest[0]}: one file at a time. Leave one out.", ctx)
            at = len(args) - len(rest)
            return self.parse_args(ctx, [*args[:at], "--checkpoint", *args[at:]])
        return super().parse_args(ctx, args)


def _looks_like_a_file(name: str) -> bool:
    return Path(name).exists() or "/" in name or bool(Path(name).suffix)


json_option = click.option("--json", "json_target", metavar="FILE", help="Write the result as JSON (- for stdout).")


def with_options(*groups: tuple[Callable[[Any], Any], ...]) -> Callable[[Any], Any]:
    """Return a decorator that gives a command these groups of options, in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def refuse_options_before(ctx: click.Context, main_job: str) -> None:
    """Raise a UsageError if a group was given options of its own, which belong to its main job, before a subcommand."""
    if any(_is_given(ctx, name) for name in ctx.params):
        raise click.UsageError(f"options before {ctx.invoked_subcommand} belong to {main_job}. Leave them out.", ctx)


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def text_beside(json_target: str | None) -> contextlib.AbstractContextManager[object]:
    """Return a context manager that sends printed text to standard error if standard output is JSON."""
    return contextlib.redirect_stdout(sys.stderr) if json_target == "-" else contextlib.nullcontext()


def write_json(data: Any, target: str) -> None:
    """Write data as JSON to a file, whole or not at all, or to standard output for `-`."""
    import json

    from convert.disk.atomic import write_report

    text = json.dumps(data, indent=1)
    if target == "-":
        click.echo(text)
        return
    write_report(Path(target), f"{text}\n".encode())


def _check_json(ctx: click.Context) -> None:
    """Check, before anything runs, that the JSON can be written and would not replace a file that an argument names."""
    from convert.disk.atomic import check_report

    target = ctx.params.get("json_target")
    if target in (None, "-"):
        return
    named = [(p, value) for p in ctx.command.params for value in _paths(ctx.params.get(p.name or ""))]
    for parameter, path in named:
        if _same_file(Path(target), path):
            option = isinstance(parameter, click.Option)
            name = max(parameter.opts, key=len) if option else parameter.human_readable_name
            raise UsageProblem(f"--json {target}: {name} names the same file. Choose another.")
    check_report(Path(target), "--json")


def _paths(value: object) -> Iterable[Path]:
    return [path for path in (value if isinstance(value, tuple) else (value,)) if isinstance(path, Path)]


def _same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same regular file, whether or not it exists yet."""
    if one.exists() and other.exists():
        return one.samefile(other) and one.is_file()
    return one.resolve() == other.resolve()


def command_line() -> list[str]:
    """Return the command as it was called, the program by its bare name."""
    program, *arguments = sys.argv
    return [program.rsplit("/", 1)[-1], *arguments]


def failure_of(error: Exception) -> Failure:
    """Return an error of the running command as a sentence and an exit code; --debug prints its traceback too."""
    if click.get_current_context().meta.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), error.exit_code)
    from convert.checks.installed import PACKAGES, missing_packages

    if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:
        error = missing_packages([error.name])
    if isinstance(error, MixerConvertError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, OSError):
        return Failure(f"{error.filename or 'input/output'}: {error.strerror or error}.", 4)
    if isinstance(error, MemoryError):
        return Failure(f"There is not enough memory for this ({error}). Ask for less.", 4)
    return Failure(f"{type(error).__name__}: {error}. This is a defect; --debug shows where.", INTERNAL_ERROR)
