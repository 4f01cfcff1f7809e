"""The main jobs, from what was asked for to the result, whether a command or a Python caller asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import MixerConvertError, UsageProblem
from reports.asked import images_of, settings_of, weights_request

if TYPE_CHECKING:
    from reports.audit.assemble import Aligning, Audited
    from reports.render.report import AuditReport
    from reports.score.evaluate import Evaluation, Progress
    from reports.score.parallel import Group

Shown = Callable[[int], "AbstractContextManager[Progress]"]
"""Opens a display of the progress of an evaluation of this many images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """What shows an audit's progress: what is about to run, how far the gates are, and how far the images are."""

    say: Callable[[str], None]
    aligning: Aligning
    evaluating: Shown


def evaluated(
    *,
    data: Path,
    limit: int | None,
    against: Path | None,
    against_key: str | None,
    group: Group,
    shown: Shown,
    **options: Any,
) -> Evaluation:
    """Return the evaluation asked for; everything that can be refused is refused before the images are run."""
    from reports.data.cifar10 import CLASSES
    from reports.score.engines import usual_workers
    from reports.score.evaluate import evaluate
    from reports.score.weights import check_channels, check_classes, read_weights, reference_of

    if against_key is not None and against is None:
        raise UsageProblem("--against-key goes with --against. Add it, or leave it out.")
    if against is not None and options["beside_float32"]:
        raise UsageProblem("--against and --against-float32: one comparison at a time. Leave one out.")
    subject = read_weights(weights_request(options))
    check_classes(subject, len(CLASSES))
    check_channels(subject)
    workers = options.pop("workers")
    settings = settings_of(subject, **options)
    workers = usual_workers(settings.device, group.processes) if workers is None else workers
    settings = replace(settings, workers=workers)
    other = read_weights(reference_of(subject, against, against_key, option="--against-key")) if against else None
    images = images_of(data, limit)
    if not group.first:
        return evaluate(subject, images, settings, against=other, group=group)
    with shown(group.images(len(images.labels), settings.batch_size)) as progress:
        return evaluate(subject, images, settings, against=other, group=group, progress=progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The folder of a bundle, whether to replace an existing one, and the key to sign it with, if any."""

    out: Path
    force: bool = False
    sign: Path | None = None


def audited_to(
    target: Target, *, showing: Showing, command_line: Sequence[str], **options: Any
) -> tuple[AuditReport, int]:
    """Run an audit and write its bundle; return its report and how many files it has.

    Args:
        target: Where to write the bundle.
        showing: Shows the progress.
        command_line: The command line to record in the bundle.
        options: The command's options, by name.
    """
    from reports.audit.assemble import audit
    from reports.audit.bundle import check_bundle_target, write_bundle

    check_bundle_target(target.out, force=target.force)
    if target.sign is not None:
        from reports.sign.signature import check_key

        check_key(target.sign)
    audited = _audited(command_line=command_line, **options)
    with showing.evaluating(len(audited.data.labels)) as progress:
        report, files = audit(audited, say=showing.say, progress=progress, aligning=showing.aligning)
    files, unsigned = _signed(files, target.sign)
    write_bundle(target.out, files, force=target.force)
    if unsigned is not None:
        raise type(unsigned)(f"{target.out}: written, but unsigned. {unsigned}") from unsigned
    return report, len(files) + 1


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
    command_line: Sequence[str],
    **options: Any,
) -> Audited:
    """Return what is to be audited; everything that can be refused is refused here."""
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
        command_line=command_line,
    )


def _signed(files: dict[str, bytes], key: Path | None) -> tuple[dict[str, bytes], MixerConvertError | None]:
    """Return the signed files or, lest hours of work be lost to an agent without the key, the unsigned ones and why."""
    from reports.sign.signature import signed

    try:
        return (files if key is None else signed(files, key)), None
    except MixerConvertError as error:
        return files, error
