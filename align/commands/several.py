"""Several alignments in one process, so that the frameworks are imported only once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from align.commands.options import SEVERAL
from convert.commands.command_line import failure_of
from convert.errors import UsageProblem, printable

if TYPE_CHECKING:
    from align.core.result import AlignmentResult
    from align.render.several import Attempt

Options = dict[str, Any]


def each(options: Options) -> list[tuple[str, Options]]:
    """Return the name and the options of each alignment; the name is empty if there is only one.

    Raises:
        UsageProblem: More than one option is repeated, or one has the same value twice.
    """
    given = {name: options[name] for name in SEVERAL}
    single = {name: values[0] if values else None for name, values in given.items()}
    repeated = [name for name, values in given.items() if len(values) > 1]
    if not repeated:
        return [("", {**options, **single})]
    if len(repeated) > 1:
        raise UsageProblem(f"--{repeated[0]} and --{repeated[1]} are both given several times. Repeat one of them.")
    (name,) = repeated
    for value in given[name]:
        if given[name].count(value) > 1:
            raise UsageProblem(f"--{name} {value}: it is given twice. Leave one out.")
    return [(str(value), {**options, **single, name: value}) for value in given[name]]


def attempted(
    asked: list[tuple[str, Options]], run: Callable[[Options], AlignmentResult], show: Callable[[AlignmentResult], None]
) -> Iterator[Attempt]:
    """Yield how each alignment ended, showing its result at once; of several, an error ends only its own."""
    from align.render.several import Attempt

    for name, options in asked:
        if name:
            print(f"alignment of {printable(name)}:", flush=True)
        started = time.monotonic()
        try:
            result = run(options)
        except Exception as error:
            if not name:
                raise
            failure = failure_of(error)
            click.echo(f"Error: {failure.message}", err=True)
            yield Attempt(name=name, error=failure.message, exit_code=failure.exit_code)
        else:
            seconds = time.monotonic() - started
            show(result)
            yield Attempt(name=name, result=result, seconds=seconds)
