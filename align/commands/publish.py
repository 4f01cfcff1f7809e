"""Where a result goes besides the terminal: the files asked for, and what a CI system picks up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from align.core.result import AlignmentResult
from align.render import as_data
from convert.commands.command_line import write_json
from convert.disk.atomic import check_report, write_report
from convert.errors import IOProblem, UsageProblem

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Names the file whose Markdown GitHub shows on a job's page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The files asked for; json may be `-`, standard output."""

    json: str | None = None
    junit: Path | None = None
    markdown: Path | None = None
    html: Path | None = None


def check_targets(targets: Targets, inputs: Mapping[str, Path | None]) -> None:
    """Refuse, before anything runs, a report that would replace an input or another report, or has no folder.

    Raises:
        UsageProblem: Naming both options.
        IOProblem: Its folder does not exist.
    """
    asked = {option: Path(target) for option, target in asdict(targets).items() if target not in (None, "-")}
    others = {option: path for option, path in inputs.items() if path is not None}
    for option, target in asked.items():
        if target == Path("-"):
            raise UsageProblem(f"--{option} -: only --json writes to standard output. Give a file.")
        for other, path in others.items():
            if path.resolve() == target.resolve() and (path.is_file() or not path.exists()):
                raise UsageProblem(f"--{option} {target}: --{other} names the same file. Choose another.")
        others[option] = target
        check_report(target, f"--{option}")


def publish(
    result: AlignmentResult, targets: Targets, *, accept_rounding: bool = False, seconds: float | None = None
) -> None:
    """Write every report, and on GitHub the job's summary and annotations, however the gate went.

    One that cannot be written does not keep the others from being written. How many seconds it took stands in what
    people and CI systems read and not in the JSON, which is the same from run to run.

    Raises:
        IOProblem: The first that could not be written.
    """
    data = as_data(result)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        _annotate(data, to_stderr=targets.json == "-")
    problems: list[OSError | IOProblem] = []
    for write in _writers(data, targets, accept_rounding, seconds):
        try:
            write()
        except (OSError, IOProblem) as problem:
            problems.append(problem)
    if problems:
        raise problems[0]


def _writers(
    data: dict[str, Any], targets: Targets, accept_rounding: bool, seconds: float | None
) -> Iterator[Callable[[], None]]:
    """Yield a function per output; what it renders with is imported only where it is asked for."""
    if (json_target := targets.json) is not None:
        yield lambda: write_json(data, json_target)
    if (junit_target := targets.junit) is not None:
        from align.render.junit import junit

        yield lambda: write_report(junit_target, junit(data, accept_rounding=accept_rounding, seconds=seconds))
    if (markdown_target := targets.markdown) is not None:
        yield lambda: write_report(markdown_target, _markdown(data, seconds))
    if summary := os.environ.get(SUMMARY):
        yield lambda: _append(Path(summary), _markdown(data, seconds))
    if (html_target := targets.html) is not None:
        from align.render.html import html

        yield lambda: write_report(html_target, html(data))


def _markdown(data: dict[str, Any], seconds: float | None) -> bytes:
    from align.render.markdown import markdown

    return markdown(data, seconds=seconds).encode(errors="backslashreplace")


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)


def _annotate(data: dict[str, Any], *, to_stderr: bool) -> None:
    """Print where the human text goes; a runner reads workflow commands from both streams."""
    from align.render.annotations import workflow_commands

    for line in workflow_commands(data):
        print(line, file=sys.stderr if to_stderr else sys.stdout)
