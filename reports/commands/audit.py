"""mixer-report audit and verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.commands.command_line import (
    OneSentence,
    command_line,
    debug_option,
    json_option,
    with_options,
    write_json,
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

if TYPE_CHECKING:
    from convert.errors import MixerConvertError
    from reports.audit.assemble import Audited


@click.command(cls=OneSentence)
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
@debug_option
@click.pass_context
def audit(ctx: click.Context, /, out: Path, force: bool, sign: Path | None, **options: Any) -> None:
    """Check both ports, measure the accuracy, hold it against the published row, and write a bundle that says so.

    \b
    Verdicts: consistent with, above (exit 0); below, not comparable (exit 1); the bundle is written all the same.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    from reports.audit.bundle import check_bundle_target, write_bundle

    check_bundle_target(out, force=force)
    if sign is not None:
        from reports.audit.signature import check_key

        check_key(sign)
    audited, environment = _audited(**options)
    from reports.audit.assemble import audit as run

    with progress_bar(len(audited.data.labels)) as progress:
        report, files = run(audited, environment, say=_say, progress=progress)
    files, unsigned = _signed(files, sign)
    write_bundle(out, files, force=force)
    if unsigned is not None:
        raise type(unsigned)(f"{out}: written, but unsigned. {unsigned}") from unsigned
    for found in report["alignments"].values():
        click.echo(found["sentence"])
    click.echo(report["limits"])
    click.echo(report["sentence"])
    click.echo(f"{len(files) + 1} files in {out}", err=True)
    ctx.exit(0 if report["passed"] else 1)


@click.command(cls=OneSentence)
@click.argument("bundle", type=FILE)
@click.option("--rerun", is_flag=True, help="Measure the accuracy again and compare every prediction.")
@click.option("--weights", type=FILE, help="For --rerun. Default: where they were.")
@click.option("--data", type=FILE, help="For --rerun. Default: where it was.")
@click.option("--signer", type=FILE, metavar="FILE", help="Who has to have signed: a public key, or allowed signers.")
@json_option
@debug_option
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    bundle: Path,
    rerun: bool,
    weights: Path | None,
    data: Path | None,
    signer: Path | None,
    json_target: str | None,
) -> None:
    """Recompute every hash of a bundle, and every statistic from its per-image file, and check its signature.

    Exit 5 names what was changed, removed or added; exit 1 means that a rerun predicts otherwise, or that another than
    --signer signed; exit 3 that nobody did. The verdict itself is printed and does not change the exit code.
    """
    from convert.errors import UsageProblem

    if not rerun and (weights or data):
        raise UsageProblem("--weights and --data go with --rerun. Pass it, or leave them out.")
    from reports.audit.signature import check
    from reports.audit.signers import read_signers
    from reports.audit.verify import Bundle

    signers = read_signers(signer) if signer else None
    found = Bundle(bundle)
    signed = check(found, signers)
    said = f"{bundle}: whole; {found.report['accuracy']['total']:,} predictions give every statistic and the verdict."
    same, again = True, None
    if rerun:
        from reports.audit.rerun import rerun as run

        with progress_bar(len(found.predictions)) as progress:
            same, again = run(found, weights=weights, data=data, progress=progress)
    lines = [said, signed.sentence, *([again] if again else []), found.report["sentence"]]
    click.echo("\n".join(lines), err=json_target == "-")
    if json_target:
        checked = {"same": same, "rerun": again, "signature": signed.as_data()}
        write_json({"schema": "mixer-report/verification/1", **checked, "report": found.report}, json_target)
    ctx.exit(0 if same and signed.trusted is not False else 1)


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
) -> tuple[Audited, dict[str, Any]]:
    """Return what is to be audited, and the environment; everything that can be refused is refused here."""
    from dataclasses import replace

    from align.core.case import Settings as GateSettings
    from reports.audit.assemble import Audited, check_pair
    from reports.audit.assemble import attach as attached
    from reports.audit.provenance import environment_of
    from reports.data.cifar10 import CLASSES
    from reports.score.weights import check_channels, check_classes, read_weights, reference_of

    further = attached(attach)
    options, src = {"weights": weights, **options}, options["src"]
    tuned = read_weights(weights_request(options))
    upstream = reference_of(tuned, checkpoint, checkpoint_key, option="--checkpoint-key")
    source = read_weights(replace(upstream, src=checkpoint_src, variant=tuned.upstream))
    check_classes(tuned, len(CLASSES))
    check_channels(tuned)
    check_pair(source, tuned)
    audited = Audited(
        source=source,
        weights=tuned,
        settings=settings_of(tuned, **options),
        data=images_of(data, limit),
        gates=GateSettings(),
        timm=not skip_timm,
        accept_rounding=accept_rounding,
        attached=further,
    )
    paths = {"weights": str(weights), "checkpoint": str(checkpoint), "data": str(data)}
    inputs = {**paths, "src": src, "weights_key": tuned.weights_key}
    seed, device = audited.gates.input_seed, audited.settings.device
    return audited, environment_of(device=device, input_seed=seed, command_line=command_line(), inputs=inputs)


def _signed(files: dict[str, bytes], key: Path | None) -> tuple[dict[str, bytes], MixerConvertError | None]:
    """Return the files with their signature, or without and why: hours of work outlive an agent that forgot the key."""
    from convert.errors import MixerConvertError
    from reports.audit.signature import signed

    try:
        return (files if key is None else signed(files, key)), None
    except MixerConvertError as error:
        return files, error


def _say(what: str) -> None:
    from sys import stderr

    if stderr.isatty():
        click.echo(what, err=True)
