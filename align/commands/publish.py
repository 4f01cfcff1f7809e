"""Where a result goes besides the terminal: the files asked for, and what a CI system picks up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from align.render.several import Attempt, as_list
from convert.commands.command_line import write_json
from convert.disk.atomic import check_report, write_report
from convert.errors import IOProblem, UsageProblem

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Environment variable that names the file whose Markdown GitHub shows on a job's page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The reports asked for, as files; json may be `-`, for standard output."""

    json: str | None = None
    junit: Path | None = None
    markdown: Path | None = None
    html: Path | None = None


def check_targets(targets: Targets, inputs: Mapping[str, Iterable[Path]], *, several: bool = False) -> None:
    """Refuse, before anything runs, a report that would replace an input or another report, or has no folder.

    Args:
        targets: The files asked for.
        inputs: The files that are read, by the name of their option.
        several: Whether there are several alignments, which no HTML page can show together.

    Raises:
        UsageProblem: Two options clash, both of which are named, or a report cannot go where it is asked for.
        IOProblem: A report's folder does not exist.
    """
    if several and targets.html is not None:
        raise UsageProblem("--html shows one alignment. Leave it out, or name one; --json and --junit take several.")
    asked = {option: Path(target) for option, target in asdict(targets).items() if target not in (None, "-")}
    others = [(option, path) for option, paths in inputs.items() for path in paths]
    for option, target in asked.items():
        if target == Path("-"):
            raise UsageProblem(f"--{option} -: only --json writes to standard output. Give a file.")
        for other, path in others:
            if path.resolve() == target.resolve() and (path.is_file() or not path.exists()):
                raise UsageProblem(f"--{option} {target}: --{other} names the same file. Choose another.")
        others.append((option, target))
        check_report(target, f"--{option}")


def publish(attempts: Sequence[Attempt], targets: Targets, *, accept_rounding: bool = False) -> None:
    """Write every report, and on GitHub the job's summary and annotations, whatever the verdict.

    A report that cannot be written does not stop the others. How many seconds an alignment took is in the reports that
    people and CI systems read, but not in the JSON, which is the same from run to run.

    Raises:
        OSError, IOProblem: The error of the first report that could not be written.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        _annotate(attempts, to_stderr=targets.json == "-")
    problems: list[OSError | IOProblem] = []
    for write in _writers(attempts, targets, accept_rounding):
        try:
            write()
        except (OSError, IOProblem) as problem:
            problems.append(problem)
    if problems:
        raise problems[0]


def _writers(attempts: Sequence[Attempt], targets: Targets, accept_rounding: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that writes each output; a renderer is imported only if its output is asked for."""
    if (json_target := targets.json) is not None:
        yield lambda: write_json(_data(attempts), json_target)
    if (junit_target := targets.junit) is not None:
        yield lambda: write_report(junit_target, _junit(attempts, accept_rounding))
    if (markdown_target := targets.markdown) is not None:
        yield lambda: write_report(markdown_target, _markdown(attempts))
    if summary := os.environ.get(SUMMARY):
        yield lambda: _append(Path(summary), _markdown(attempts))
    if (html_target := targets.html) is not None:
        from align.render.html import html

        yield lambda: write_report(html_target, html(_data(attempts)))


def _only(attempts: Sequence[Attempt]) -> dict[str, Any] | None:
    """Return the result of the only alignment; None if there are several."""
    return attempts[0].data if len(attempts) == 1 else None


def _data(attempts: Sequence[Attempt]) -> dict[str, Any]:
    return as_list(attempts) if (only := _only(attempts)) is None else only


def _junit(attempts: Sequence[Attempt], accept_rounding: bool) -> bytes:
    from align.render.junit import junit, junit_of_several

    if (only := _only(attempts)) is None:
        return junit_of_several(attempts, accept_rounding=accept_rounding)
    return junit(only, accept_rounding=accept_rounding, seconds=attempts[0].seconds)


def _markdown(attempts: Sequence[Attempt]) -> bytes:
    from align.render.markdown import markdown, markdown_of_several

    only = _only(attempts)
    text = markdown_of_several(attempts) if only is None else markdown(only, seconds=attempts[0].seconds)
    return text.encode(errors="backslashreplace")


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)


def _annotate(attempts: Sequence[Attempt], *, to_stderr: bool) -> None:
    """Print the annotations where the human-readable text goes; a runner reads workflow commands from both streams."""
    from align.render.annotations import error_command, workflow_commands

    for attempt in attempts:
        data, name = attempt.data, attempt.name
        lines = [error_command(name, attempt.error)] if data is None else workflow_commands(data, name)
        for line in lines:
            print(line, file=sys.stderr if to_stderr else sys.stdout)
