"""mixer-report audit and verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.commands.command_line import (
    OneSentence,
    command_line,
    with_options,
)
from convert.commands.options import FILE
from reports.commands.options import (
    DATA,
    ENGINE,
    IMAGES,
    WEIGHTS,
    images_of,
    progress_bar,
    settings_of,
    weights_request,
)
from reports.commands.progress import say

if TYPE_CHECKING:
    from convert.errors import MixerConvertError
    from reports.audit.assemble import Audited


@click.command(cls=OneSentence, needs=("paddle", "torch", "timm", "PIL", "pydantic", "scipy"))
@with_options(WEIGHTS)
@click.option("--checkpoint", type=FILE, required=True, help="The upstream's weights, as mixer-convert reads them.")
@click.option("--checkpoint-key", metavar="NAME", help="Which set of its weights, where it holds several.")
@click.option("--checkpoint-src", type=click.Choice(["timm", "google", "paddle"]), help="Its layout. Default: told.")
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
    from reports.audit.bundle import check_bundle_target, write_bundle

    check_bundle_target(out, force=force)
    if sign is not None:
        from reports.sign.signature import check_key

        check_key(sign)
    audited = _audited(**options)
    from reports.audit.assemble import audit as run

    with progress_bar(len(audited.data.labels)) as progress:
        report, files = run(audited, say=say, progress=progress)
    files, unsigned = _signed(files, sign)
    write_bundle(out, files, force=force)
    if unsigned is not None:
        raise type(unsigned)(f"{out}: written, but unsigned. {unsigned}") from unsigned
    for found in report.alignments.values():
        click.echo(found.sentence)
    click.echo(report.limits)
    click.echo(report.sentence)
    click.echo(f"{len(files) + 1} files in {out}", err=True)
    ctx.exit(0 if report.passed else 1)


def _audited(
    *,
    weights: Path,
    checkpoint: Path,
    checkpoint_src: str | None,
    checkpoint_key: str | None,
    data: Path,
    limit: int | None,
    skip_timm: bool,
    accept_rounding: bool,
    attach: tuple[Path, ...],
    **options: Any,
) -> Audited:
    """Return what is to be audited; everything that can be refused is refused here."""
    from dataclasses import replace

    from align.core.case import Settings as GateSettings
    from reports.audit.assemble import Audited, check_pair
    from reports.audit.assemble import attach as attached
    from reports.data.cifar10 import CLASSES
    from reports.render.environment import Inputs
    from reports.score.weights import check_channels, check_classes, read_weights, reference_of

    further = attached(attach)
    options, src = {"weights": weights, **options}, options["src"]
    tuned = read_weights(weights_request(options))
    upstream = reference_of(tuned, checkpoint, checkpoint_key, option="--checkpoint-key")
    source = read_weights(replace(upstream, src=checkpoint_src, variant=tuned.upstream))
    check_classes(tuned, len(CLASSES))
    check_channels(tuned)
    check_pair(source, tuned)
    inputs = Inputs(
        weights=str(weights),
        checkpoint=str(checkpoint),
        data=str(data),
        src=src,
        checkpoint_src=checkpoint_src,
        weights_key=tuned.weights_key,
        checkpoint_key=checkpoint_key,
    )
    return Audited(
        source=source,
        weights=tuned,
        settings=settings_of(tuned, **options),
        data=images_of(data, limit),
        gates=GateSettings(),
        timm=not skip_timm,
        accept_rounding=accept_rounding,
        attached=further,
        inputs=inputs,
        command_line=command_line(),
    )


def _signed(files: dict[str, bytes], key: Path | None) -> tuple[dict[str, bytes], MixerConvertError | None]:
    """Return the files with their signature, or without and why: hours of work outlive an agent that forgot the key."""
    from convert.errors import MixerConvertError
    from reports.sign.signature import signed

    try:
        return (files if key is None else signed(files, key)), None
    except MixerConvertError as error:
        return files, error
