"""mixer-report finetune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.commands.command_line import OneSentence, command_line, json_option, with_options
from reports.asked import weights_request
from reports.commands.evaluate import check_page, tell
from reports.commands.options import DATA, PAGE, START, TRAINING
from reports.commands.progress import evaluating, training

if TYPE_CHECKING:
    from reports.train.finetune import Outcome
    from reports.train.job import Job


@click.command(cls=OneSentence, needs=("paddle", "PIL", "scipy", "matplotlib"))
@with_options(START, DATA[:1], TRAINING, PAGE)
@json_option
@click.pass_context
def finetune(ctx: click.Context, /, html: Path | None, json_target: str | None, **options: Any) -> None:
    """Train on CIFAR-10's training images by a recipe, then count right answers on its test images.

    \b
    OUT gets log.jsonl, checkpoints, curves.png, final.pdparams with its manifest, evaluation.json, predictions.npz.
    Exit codes: 0 done; SIGTERM and SIGINT save a checkpoint, once training has begun, and exit 143 and 130.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    from reports.train.signals import ended_by_signals

    out = options["out"]
    if html is not None and html.parent.resolve() != out.resolve():  # the run makes its own folder
        check_page(html, options["weights"], options["data"])
    as_before = "is as it was; --resume goes on" if options["resume"] else "was not written to; start again"
    with ended_by_signals(f"{out} {as_before}."):
        from reports.score.parallel import launched
        from reports.train.finetune import Shows
        from reports.train.finetune import finetune as run

        group = launched()
        job = _job(options, group.processes)
        shows = Shows(training=training, evaluation=evaluating) if group.first else None
        outcome = run(job, group=group, shows=shows)
    if not group.first:
        ctx.exit(0)
    if outcome.evaluation is not None:
        tell(outcome.evaluation, json_target, html)
    ctx.exit(_ended(outcome, job.out))


def _job(options: dict[str, Any], processes: int) -> Job:
    """Return the job that the options ask for; bad weights and data are refused here."""
    from dataclasses import replace

    from convert.errors import UsageProblem
    from convert.request import Adaptation
    from reports.data.cifar10 import CLASSES, read_cifar10
    from reports.score.engines import usual_workers
    from reports.score.weights import check_channels, read_weights
    from reports.train.checkpoints import MINUTES
    from reports.train.job import Job
    from reports.train.recipes import choose_recipe

    if options["checkpoint_every"] and options["checkpoint_minutes"]:
        raise UsageProblem("--checkpoint-every and --checkpoint-minutes: one says what the other does. Leave one out.")
    options["checkpoint_minutes"] = options["checkpoint_minutes"] or MINUTES
    if options["workers"] is None:
        options["workers"] = usual_workers(options["device"], processes)
    chosen = choose_recipe(options.pop("recipe"), **{name: options.pop(name) for name in ("seed", "micro_batch")})
    head = Adaptation(num_classes=len(CLASSES), head_seed=chosen.seed)
    weights = read_weights(replace(weights_request(options), adaptation=head))
    check_channels(weights)
    for note in weights.notes:
        click.echo(f"{weights.name}: {note}.", err=True)
    data = options.pop("data")
    train, test = read_cifar10(data, "train"), read_cifar10(data)
    return Job(weights=weights, train=train, test=test, recipe=chosen, command_line=command_line(), **options)


def _ended(outcome: Outcome, out: Path) -> int:
    """Return the exit code; if the run ended early, say so and how to go on."""
    from reports.train.signals import BY_SIGNAL

    if outcome.evaluation is not None:
        return 0
    why = "as told" if outcome.signal is None else f"by signal {outcome.signal}"
    click.echo(f"{out}: stopped {why} after step {outcome.step} of {outcome.steps}; --resume goes on.", err=True)
    return 0 if outcome.signal is None else BY_SIGNAL + outcome.signal
