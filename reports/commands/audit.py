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
    from reports.audit.verify import Bundle


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
        from reports.sign.signature import check_key

        check_key(sign)
    audited = _audited(**options)
    from reports.audit.assemble import audit as run

    with progress_bar(len(audited.data.labels)) as progress:
        report, files = run(audited, say=_say, progress=progress)
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


@click.command(cls=OneSentence)
@click.argument("bundle", type=FILE)
@click.option("--rerun", is_flag=True, help="Run the gates and the images again; compare every figure and prediction.")
@click.option("--weights", type=FILE, help="For --rerun. Default: where they were.")
@click.option("--checkpoint", type=FILE, help="The upstream's, for --rerun. Default: where it was.")
@click.option("--data", type=FILE, help="For --rerun. Default: where it was.")
@click.option("--device", help="For --rerun: cpu, gpu or gpu:N. Default: that of the audit.")
@click.option("--signer", type=FILE, metavar="FILE", help="Who has to have signed: a public key, or allowed signers.")
@json_option
@debug_option
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    bundle: Path,
    rerun: bool,
    signer: Path | None,
    json_target: str | None,
    **inputs: Path | str | None,
) -> None:
    """Recompute every hash of a bundle, every statistic and all that follows from them, and check its signature.

    Exit 5 names what was changed, removed, added or does not follow; 3 means that it is no bundle, or that nobody
    signed it where --signer is given; 1 that a rerun gives other figures, or that another than --signer signed. The
    verdict itself is printed and does not change the exit code.
    """
    from convert.errors import UsageProblem

    if not rerun and any(inputs.values()):
        raise UsageProblem("--weights, --checkpoint, --data and --device go with --rerun. Pass it, or leave them out.")
    from reports.audit.verify import Bundle
    from reports.sign.signature import check
    from reports.sign.signers import read_signers

    signers = read_signers(signer) if signer else None
    found = Bundle(bundle)
    signed = check(found, signers)
    said = f"{bundle}: whole; {found.report.accuracy.total:,} predictions give every statistic and the verdict."
    again = _rerun(found, **inputs) if rerun else []
    lines = [said, signed.sentence, *(sentence for _, sentence in again), found.report.sentence]
    click.echo("\n".join(lines), err=json_target == "-")
    same = all(one for one, _ in again)
    if json_target:
        from dataclasses import asdict

        told = " ".join(sentence for _, sentence in again) or None
        checked = {"same": same, "rerun": told, "signature": signed.as_data()}
        result = {"schema": "mixer-report/verification/1", **checked, "report": asdict(found.report)}
        write_json(result, json_target)
    ctx.exit(0 if same and signed.trusted is not False else 1)


@click.command(cls=OneSentence)
@click.argument("name", type=click.Choice(["audit", "environment", "evaluation"]))
@debug_option
def schema(name: str) -> None:
    """Print what a JSON file keeps to, as JSON Schema: a bundle's report.json or environment.json, or evaluate's.

    That of the alignments is `mixer-align schema`.
    """
    import json

    from reports.audit.records import schema_of

    click.echo(json.dumps(schema_of(name), indent=1))


def _rerun(found: Bundle, **inputs: Any) -> list[tuple[bool, str]]:
    from reports.audit.rerun import Inputs
    from reports.audit.rerun import rerun as run

    with progress_bar(len(found.predictions)) as progress:
        return list(run(found, Inputs(**inputs), say=_say, progress=progress))


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
    return Audited(
        source=source,
        weights=tuned,
        settings=settings_of(tuned, **options),
        data=images_of(data, limit),
        gates=GateSettings(),
        timm=not skip_timm,
        accept_rounding=accept_rounding,
        attached=further,
        inputs=Inputs(
            weights=str(weights),
            checkpoint=str(checkpoint),
            data=str(data),
            src=src,
            checkpoint_src=checkpoint_src,
            weights_key=tuned.weights_key,
            checkpoint_key=checkpoint_key,
        ),
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


def _say(what: str) -> None:
    from sys import stderr

    if stderr.isatty():
        click.echo(what, err=True)
