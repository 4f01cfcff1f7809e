"""mixer-report evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.commands.command_line import (
    OneSentence,
    command_line,
    json_option,
    text_beside,
    with_options,
    write_json,
)
from convert.commands.options import FILE
from reports.commands.options import (
    DATA,
    ENGINE,
    IMAGES,
    PAGE,
    PRECISION,
    WEIGHTS,
    WORKERS,
)
from reports.commands.progress import evaluating

if TYPE_CHECKING:
    from reports.score.evaluate import Evaluation


@click.command(cls=OneSentence, needs=("paddle", "PIL", "scipy"), together={"force": ("predictions",)})
@with_options(WEIGHTS, DATA, IMAGES, ENGINE, WORKERS, PRECISION)
@click.option("--against", type=FILE, metavar="CHECKPOINT", help="Run timm with these weights on the same images too.")
@click.option("--against-key", metavar="NAME", help="Which set of weights of --against, where it holds several.")
@click.option("--predictions", type=FILE, metavar="FILE", help="Write a line per image, .npz or .csv.")
@click.option("--force", is_flag=True, help="Replace an existing --predictions file.")
@with_options(PAGE)
@json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    predictions: Path | None,
    force: bool,
    html: Path | None,
    json_target: str | None,
    **options: Any,
) -> None:
    """Count right answers on CIFAR-10's test images and hold them against the published row.

    \b
    Verdicts: consistent with, above (exit 0); below, not comparable (exit 1).
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    inputs = tuple(options[name] for name in ("weights", "data", "against") if options[name] is not None)
    check_page(html, *inputs)
    if predictions is not None:
        from reports.score.predictions import check_target

        check_target(predictions, force=force, inputs=inputs)
    from reports.jobs import evaluated
    from reports.score.parallel import launched

    group = launched()
    evaluation = evaluated(**options, group=group, shown=evaluating)
    if not group.first:
        ctx.exit(0)
    if predictions is not None:
        from reports.score.predictions import write_predictions

        write_predictions(predictions, evaluation.predictions, force=force)
    tell(evaluation, json_target, html)
    ctx.exit(0 if evaluation.finding.passed else 1)


def check_page(page: Path | None, *inputs: Path) -> None:
    """Check, before the work is done, that the page can be written to its path."""
    if page is not None:
        from convert.disk.atomic import check_report

        check_report(page, "--html", inputs)


def tell(evaluation: Evaluation, json_target: str | None, page: Path | None) -> None:
    """Print an evaluation, to standard error if standard output is JSON, and write the JSON and the page asked for."""
    from reports.render.evaluation import lines

    with text_beside(json_target):
        print("\n".join(lines(evaluation)))
    if json_target:
        write_json(evaluation.as_data(), json_target)
    if page is not None:
        from convert.disk.atomic import write_report
        from reports.render.evaluation_html import evaluation_html

        write_report(page, evaluation_html(evaluation, command_line()))
