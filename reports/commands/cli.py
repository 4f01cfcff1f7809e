"""mixer-report: the published accuracies, and measured ones compared with them."""

from __future__ import annotations

import click

from align.probes.knobs import compute_quickly
from convert import __version__
from convert.commands.command_line import OneSentenceGroup, json_option, write_json
from reports.commands.audit import audit
from reports.commands.evaluate import evaluate
from reports.commands.finetune import finetune
from reports.commands.rehearse import rehearse
from reports.commands.verify import schema, verify


@click.group(cls=OneSentenceGroup)
@click.version_option(__version__)
def main() -> None:
    """Measure accuracy on CIFAR-10 and hold it against the published figures.

    \b
    Exit codes: 0 passed, 1 a verdict or check failed, 2 wrong usage, 3 bad or unsafe input, 4 input/output,
    5 integrity.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    from align.probes.heap import keep_freed_memory

    compute_quickly()
    keep_freed_memory()


@main.command()
@json_option
def published(json_target: str | None) -> None:
    """Print every published figure with its source, locator and protocol."""
    from dataclasses import asdict

    from convert.commands.tables import print_table
    from reports.score.listing import HEADERS, figure_notes, figure_rows
    from reports.score.published import published_figures

    figures = published_figures()
    if json_target != "-":
        print_table(HEADERS, figure_rows(figures))
        click.echo("\n".join(["", *figure_notes(figures)]))
    if json_target:
        write_json({"schema": "mixer-report/published/1", "figures": [asdict(f) for f in figures]}, json_target)


for command in (evaluate, audit, verify, schema, finetune, rehearse):
    main.add_command(command)


if __name__ == "__main__":
    main()
