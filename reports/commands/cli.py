"""mixer-report: the published accuracies, and measured ones held against them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from align.probes.knobs import compute_quickly
from convert import __version__
from convert.commands.command_line import (
    OneSentenceGroup,
    command_line,
    debug_option,
    json_option,
    with_options,
    write_json,
)
from convert.commands.options import FILE
from reports.commands.audit import audit, verify
from reports.commands.options import (
    DATA,
    ENGINE,
    IMAGES,
    PRECISION,
    TRAINING,
    WEIGHTS,
    images_of,
    progress_bar,
    settings_of,
    weights_request,
)
from reports.commands.rehearse import rehearse

if TYPE_CHECKING:
    from reports.score.evaluate import Evaluation
    from reports.score.parallel import Group
    from reports.train.finetune import Job, Outcome


@click.group(cls=OneSentenceGroup)
@debug_option
@click.version_option(__version__)
def main() -> None:
    """Measure accuracy on CIFAR-10 and hold it against the published figures.

    \b
    Exit codes: 0 passed, 1 a verdict or check failed, 2 wrong usage, 3 bad or unsafe input, 4 input/output,
    5 integrity.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    compute_quickly()


@main.command()
@json_option
@debug_option
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


@main.command()
@with_options(WEIGHTS, DATA, IMAGES, ENGINE, PRECISION)
@click.option("--against", type=FILE, metavar="CHECKPOINT", help="Run timm with these weights on the same images too.")
@click.option("--against-key", metavar="NAME", help="Which set of weights of --against, where it holds several.")
@click.option("--predictions", type=FILE, metavar="FILE", help="Write a line per image, .npz or .csv.")
@click.option("--force", is_flag=True, help="Replace an existing --predictions file.")
@json_option
@debug_option
@click.pass_context
def evaluate(
    ctx: click.Context, /, predictions: Path | None, force: bool, json_target: str | None, **options: Any
) -> None:
    """Count right answers on CIFAR-10's test images and hold them against the published row.

    \b
    Verdicts: consistent with, above (exit 0); below, not comparable (exit 1).
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    if predictions is not None:
        from reports.score.predictions import check_target

        inputs = tuple(options[name] for name in ("weights", "data", "against") if options[name] is not None)
        check_target(predictions, force=force, inputs=inputs)
    from reports.score.parallel import launched

    group = launched()
    evaluation = _evaluate(**options, group=group)
    if not group.first:
        ctx.exit(0)
    if predictions is not None:
        from reports.score.predictions import write_predictions

        write_predictions(predictions, evaluation.predictions, force=force)
    _print(evaluation, to_stderr=json_target == "-")
    if json_target:
        write_json(evaluation.as_data(), json_target)
    ctx.exit(0 if evaluation.finding.passed else 1)


def _evaluate(
    *, data: Path, limit: int | None, against: Path | None, against_key: str | None, group: Group, **options: Any
) -> Evaluation:
    """Return the evaluation asked for; everything that can be refused is refused before the images are run."""
    from convert.errors import UsageProblem
    from reports.data.cifar10 import CLASSES
    from reports.score.evaluate import evaluate as run
    from reports.score.weights import check_channels, check_classes, read_weights, reference_of

    if against_key is not None and against is None:
        raise UsageProblem("--against-key goes with --against. Add it, or leave it out.")
    subject = read_weights(weights_request(options))
    check_classes(subject, len(CLASSES))
    check_channels(subject)
    settings = settings_of(subject, **options)
    other = read_weights(reference_of(subject, against, against_key, option="--against-key")) if against else None
    images = images_of(data, limit)
    with progress_bar(len(images.labels)) as progress:
        return run(subject, images, settings, against=other, group=group, progress=progress)


def _print(evaluation: Evaluation, *, to_stderr: bool) -> None:
    from reports.render.evaluation import lines

    with contextlib.redirect_stdout(sys.stderr) if to_stderr else contextlib.nullcontext():
        print("\n".join(lines(evaluation)))


for command in (audit, verify):
    main.add_command(command)


@main.command()
@with_options(WEIGHTS, DATA[:1], TRAINING)
@json_option
@debug_option
@click.pass_context
def finetune(ctx: click.Context, /, json_target: str | None, **options: Any) -> None:
    """Train on CIFAR-10's training images by a recipe, then count right answers on its test images.

    \b
    OUT gets log.jsonl, checkpoints, curves.png, final.pdparams with its manifest, evaluation.json, predictions.npz.
    Exit codes: 0 done; SIGTERM and SIGINT save a checkpoint and exit 143 and 130.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    from reports.score.parallel import launched
    from reports.train.finetune import finetune as run

    group = launched()
    job = _job(**options)
    _, seen = job.length
    with progress_bar(seen) as progress:
        outcome = run(job, group=group, progress=progress)
    if not group.first:
        ctx.exit(0)
    if outcome.evaluation is not None:
        _print(outcome.evaluation, to_stderr=json_target == "-")
        if json_target:
            write_json(outcome.evaluation.as_data(), json_target)
    ctx.exit(_ended(outcome, job.out))


def _job(*, data: Path, recipe: str, seed: int | None, micro_batch: int | None, **options: Any) -> Job:
    """Return what was asked for; bad weights and data are refused here."""
    from dataclasses import replace

    from convert.request import Adaptation
    from reports.data.cifar10 import CLASSES, read_cifar10
    from reports.score.weights import check_channels, read_weights
    from reports.train.finetune import Job
    from reports.train.recipes import choose_recipe

    chosen = choose_recipe(recipe, seed=seed, micro_batch=micro_batch)
    head = Adaptation(num_classes=len(CLASSES), head_seed=chosen.seed)
    weights = read_weights(replace(weights_request(options), adaptation=head))
    check_channels(weights)
    for note in weights.notes:
        click.echo(f"{weights.name}: {note}.", err=True)
    return Job(
        weights=weights,
        train=read_cifar10(data, "train"),
        test=read_cifar10(data),
        recipe=chosen,
        command_line=command_line(),
        **options,
    )


def _ended(outcome: Outcome, out: Path) -> int:
    """Return the exit code, and say it where a run ended early."""
    from reports.train.signals import BY_SIGNAL

    if outcome.evaluation is not None:
        return 0
    why = "as told" if outcome.signal is None else f"by signal {outcome.signal}"
    click.echo(f"{out}: stopped {why} after step {outcome.step} of {outcome.steps}; --resume goes on.", err=True)
    return 0 if outcome.signal is None else BY_SIGNAL + outcome.signal


main.add_command(rehearse)


if __name__ == "__main__":
    main()
