"""mixer-align propose: a pairing file for two models, each line with its reason and how sure it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from align.commands.options import MODEL, REFERENCE_MODEL, twins_of
from convert.commands.command_line import OneSentence, with_options
from convert.commands.options import FILE

if TYPE_CHECKING:
    from align.twins.case import Twins

TWINS = (
    *REFERENCE_MODEL,
    *MODEL[:2],
    click.option("--pairing", type=FILE, help="A TOML file whose [inputs] say what the models are given."),
)


@click.command(cls=OneSentence, needs=("torch", "paddle"))
@with_options(TWINS)
@click.option("--out", type=FILE, required=True, help="The pairing file to write.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the drawn weights.")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@click.pass_context
def propose(ctx: click.Context, /, out: Path, force: bool, **options: Any) -> None:
    """Propose a pairing file for a PyTorch model and its twin in Paddle.

    Layers are paired by names, order of calls or order of definition, whichever agrees when both models run in float64
    with the same drawn weights. Exit 1 if something is left open or the outputs do not agree; the file is written then
    too, to be read and completed. Exit 3 if the models cannot be paired.
    """
    from convert.disk.atomic import refuse_overwrite

    refuse_overwrite(out, force=force, inputs=(options["pairing"],) if options["pairing"] else ())
    if not _propose(_twins(options), (options["reference_model"], options["candidate_model"]), out, force=force):
        ctx.exit(1)


def _propose(twins: Twins, names: tuple[str, str], out: Path, *, force: bool) -> bool:
    """Write the proposal and print its summary; return whether nothing is left to do."""
    from align.twins.doubts import doubts_of
    from align.twins.proposal_file import lines, text, write
    from align.twins.propose import propose

    proposal = propose(twins)
    doubts = doubts_of(proposal)
    write(out, text(proposal, doubts, names, twins.inputs), proposal, doubts, force=force)
    for line in lines(proposal, doubts, out):
        click.echo(line)
    return proposal.best.agrees and not doubts


def _twins(options: dict[str, Any]) -> Twins:
    """Return the two models that the options name.

    Raises:
        UsageProblem: They name no reference or no candidate, or the pairing file holds more than [inputs].
    """
    from align.pairing.pairing import Pairing
    from convert.errors import UsageProblem

    if (target := options["reference_model"]) is None:
        raise UsageProblem("--reference-model and --candidate-model name what is to be paired. Add them.")
    twins = twins_of(target, options)
    given = twins.pairing
    if given != Pairing(place=given.place, inputs=given.inputs):
        raise UsageProblem(f"--pairing {given.place}: only [inputs] is taken of it here. Take the rest out.")
    return twins
