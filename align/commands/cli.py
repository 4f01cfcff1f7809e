"""mixer-align: one seeded batch through timm, Paddle and a witness; exit 0 only if the port is the same function."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from align.commands.layer_table import ALL_LAYERS, print_folded
from align.commands.options import INPUTS, MODEL, RANDOM, REFERENCE_MODEL, REPORTS, WEIGHTS_OF_SEVERAL, case_of_options
from align.commands.predictions import predictions
from align.commands.propose import propose
from align.commands.reprod import reprod
from align.commands.selftest import selftest
from align.commands.trace import check, record
from align.probes.knobs import compute_quickly, forbid_tf32, torch_imported_meanwhile
from convert import __version__
from convert.commands.command_line import (
    OneSentenceGroup,
    json_option,
    refuse_options_before,
    text_beside,
    with_options,
)

if TYPE_CHECKING:
    from align.core.result import AlignmentResult
    from align.render.several import Attempt


@click.group(cls=OneSentenceGroup, invoke_without_command=True, apart=RANDOM)
@with_options(WEIGHTS_OF_SEVERAL, MODEL, REFERENCE_MODEL, INPUTS)
@click.option("--atol", type=click.FloatRange(min=0), default=1e-5, show_default=True, help="Bound on float32 logits.")
@click.option("--accept-rounding", is_flag=True, help="Exit 0 on the verdict `rounding` too.")
@click.option("--no-stress", "stress", flag_value=False, default=True, help="Leave out the gate of single layers.")
@click.option("--backward", is_flag=True, help="Compare the loss and every parameter's gradient too.")
@click.option(
    "--train-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compare N steps of SGD, momentum, Adam and AdamW too.",
)
@with_options((ALL_LAYERS,))
@json_option
@with_options(REPORTS)
@click.version_option(__version__)
@click.pass_context
def main(
    ctx: click.Context,
    /,
    accept_rounding: bool,
    all_layers: bool,
    json_target: str | None,
    junit: Path | None,
    markdown: Path | None,
    html: Path | None,
    **options: Any,
) -> None:
    """Compare timm's vision MLP with a Paddle one, ours or yours, layer by layer, against a NumPy float64 witness.

    With --reference-model and --candidate-model, compare any model of PyTorch's with its twin in Paddle.

    \b
    Verdicts: aligned (exit 0); rounding (exit 1 without --accept-rounding); diverged, inconclusive (exit 1).
    Other exit codes: 2 wrong usage, 3 bad or unsafe input, 4 input/output, 5 integrity.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    from align.probes.heap import keep_freed_memory

    forbid_tf32()
    compute_quickly()
    keep_freed_memory()
    if ctx.invoked_subcommand is not None:
        refuse_options_before(ctx, "an alignment")
        return
    from align.commands.publish import Targets, check_targets, publish
    from align.commands.several import attempted, each
    from align.render.several import status

    targets = Targets(json=json_target, junit=junit, markdown=markdown, html=html)
    asked = each(options)
    inputs = {name: options[name] for name in ("checkpoint", "candidate")}
    inputs["pairing"] = [path for path in (options["pairing"],) if path is not None]
    check_targets(targets, inputs, several=len(asked) > 1)
    _check(options)
    with text_beside(json_target):
        attempts = list(attempted(asked, lambda one: _align(**one), lambda one: _print(one, all_layers=all_layers)))
        _conclude(attempts)
    publish(attempts, targets, accept_rounding=accept_rounding)
    ctx.exit(status(attempts, accept_rounding=accept_rounding))


@main.command()
@click.option("--several", is_flag=True, help="That of several alignments in one file.")
def schema(several: bool) -> None:
    """Print the JSON Schema that --json keeps to."""
    from align.render import schema_text
    from align.render.several import list_schema_text

    click.echo(list_schema_text() if several else schema_text(), nl=False)


def _check(options: dict[str, Any]) -> None:
    """Refuse what can be known to be wrong before any framework is imported."""
    import math

    from convert.checks.installed import require
    from convert.errors import UsageProblem
    from convert.families import with_variant

    require("torch", "paddle")
    if not math.isfinite(options["atol"]):
        raise UsageProblem(f"--atol {options['atol']}: a bound has to be a finite number.")
    for name in options["variant"]:
        with_variant(name)


def _align(*, atol: float, train_steps: int | None, **options: Any) -> AlignmentResult:
    from align.commands.progress import aligning
    from align.core.case import Settings
    from align.run import align

    chosen = {name: options.pop(name) for name in ("batch", "input_seed", "inputs", "stress", "backward")}
    settings = Settings(atol=atol, train_steps=train_steps or 0, **chosen)
    random = options["checkpoint"] is None and options["reference_model"] is None
    if random and options["candidate"] is not None and options["init"] is None:
        said = "the reference's weights are random (seed 0); --checkpoint names those that it was made from."
        click.echo(f"{options['candidate']}: {said}", err=True)
    with torch_imported_meanwhile() if random else contextlib.nullcontext():
        case = case_of_options(options, settings)
    with aligning(case, settings) as progress:
        return align(case, settings, progress=progress)


def _print(result: AlignmentResult, *, all_layers: bool) -> None:
    from align import render
    from convert.commands.tables import print_table

    if result.layers and all_layers:
        print_table(render.headers(result), render.rows(result), title=result.variant)
    elif result.layers:
        print_folded(render.FOLDED_HEADERS, *render.folded_rows(result), title=result.variant)
    if trained := render.training_rows(result):
        print_table(render.TRAINING_HEADERS, trained, title="training: the worst of all steps")
    lines = [*render.gate_lines(result.gates), render.verdict_line(result)]
    print("\n".join(lines), flush=True)  # so that it is shown even if a report fails


def _conclude(attempts: list[Attempt]) -> None:
    """Print how each of several alignments ended, in a table and a line."""
    from align.render.several import HEADERS, conclusion, rows
    from convert.commands.tables import print_table

    if len(attempts) > 1:
        print_table(HEADERS, rows(attempts))
        print(conclusion(attempts), flush=True)


for command in (check, predictions, propose, record, reprod, selftest):
    main.add_command(command)


if __name__ == "__main__":
    main()
