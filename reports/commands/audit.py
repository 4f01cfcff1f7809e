"""mixer-report audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convert.commands.command_line import (
    OneSentence,
    command_line,
    with_options,
)
from convert.commands.options import FILE
from convert.commands.progress import say
from reports.commands.options import (
    DATA,
    ENGINE,
    IMAGES,
    WEIGHTS,
    progress_bar,
)


@click.command(cls=OneSentence, needs=("paddle", "torch", "timm", "PIL", "pydantic", "scipy"))
@with_options(WEIGHTS)
@click.option("--checkpoint", type=FILE, required=True, help="The upstream's weights, as mixer-convert reads them.")
@click.option("--checkpoint-key", metavar="NAME", help="Which set of its weights, where it holds several.")
@click.option(
    "--checkpoint-src", type=click.Choice(["timm", "google", "paddle"]), help="Its layout. Default: detected."
)
@with_options(DATA, IMAGES, ENGINE)
@click.option("--out", type=FILE, required=True, metavar="BUNDLE", help="The folder to write.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--skip-timm", is_flag=True, help="Do not run timm on the images too; the gates still do on theirs.")
@click.option("--accept-rounding", is_flag=True, help="Compare accuracies on the gates' verdict `rounding` too.")
@click.option("--attach", type=FILE, multiple=True, metavar="FILE", help="A further file, a training log or curve.")
@click.option("--sign", type=FILE, metavar="KEY", help="An SSH key, or the public one of a key in the SSH agent.")
@click.pass_context
def audit(ctx: click.Context, /, out: Path, force: bool, sign: Path | None, **options: Any) -> None:
    """Check both ports, measure the accuracy, hold it against the published row, and write a bundle that says so.

    \b
    Verdicts: consistent with, above (exit 0); below, not comparable (exit 1); the bundle is written all the same.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    from align.commands.progress import aligning
    from reports.jobs import Showing, Target, audited_to

    showing = Showing(say=say, aligning=aligning, evaluating=progress_bar)
    target = Target(out=out, force=force, sign=sign)
    report, files = audited_to(target, showing=showing, command_line=command_line(), **options)
    for found in report.alignments.values():
        click.echo(found.sentence)
    click.echo(report.limits)
    click.echo(report.sentence)
    click.echo(f"{files} files in {out}", err=True)
    ctx.exit(0 if report.passed else 1)
