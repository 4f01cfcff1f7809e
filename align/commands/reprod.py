"""mixer-align reprod: the acceptance folder of PaddlePaddle's paper-reproduction guide."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from align.commands.options import INPUTS, RANDOM, WEIGHTS, case_of_options
from convert.commands.command_line import OneSentence, json_option, with_options, write_json
from convert.commands.options import FILE

if TYPE_CHECKING:
    from align.core.inputs import Kind
    from align.reprod.stages import Pack


@click.command(cls=OneSentence, needs=("torch", "paddle"), apart=RANDOM)
@click.argument("out_dir", type=FILE)
@with_options(WEIGHTS, INPUTS)
@click.option("--train-steps", type=click.IntRange(min=1), default=4, show_default=True, help="SGD steps of stage 5.")
@click.option(
    "--diff-threshold",
    type=click.FloatRange(min=0, max=1),
    default=1e-6,
    show_default=True,
    help="Bound on mean differences in stages 1 to 4; the greatest may be ten times it.",
)
@click.option("--force", is_flag=True, help="Replace the files of an earlier run.")
@json_option
@click.pass_context
def reprod(ctx: click.Context, /, out_dir: Path, force: bool, json_target: str | None, **options: Any) -> None:
    """Write PaddlePaddle's reproduction records and logs of five stages to OUT_DIR.

    Forward, metric, loss, backward and train, each run in torch and in Paddle, in the file names and the format of
    reprod_log. Exit 1 if a stage fails.
    """
    from align.reprod.render import as_data, lines
    from align.reprod.stages import refuse_to_replace, write_pack

    refuse_to_replace(out_dir, force=force)
    pack = _run(**options)
    written = write_pack(pack, out_dir, _time())
    for line in lines(pack, out_dir, len(written)):
        click.echo(line, err=json_target == "-")
    if json_target:
        write_json(as_data(pack, written), json_target)
    ctx.exit(1 if pack.failures else 0)


def _run(
    *,
    train_steps: int,
    diff_threshold: float,
    batch: int,
    input_seed: int,
    inputs: Kind,
    reference: str | None,
    **weights: Any,
) -> Pack:
    from align.core.case import Settings
    from align.reprod.stages import Stages, reproduce
    from align.underway import REPROD
    from convert.commands.progress import staged
    from convert.errors import UsageProblem

    if reference == "flax":
        raise UsageProblem("--reference flax: the guide's reference is torch. Leave it out.")
    if not diff_threshold <= 1:
        raise UsageProblem(f"--diff-threshold {diff_threshold}: a bound has to be a number.")
    settings = Settings(batch=batch, input_seed=input_seed, inputs=inputs)
    case = case_of_options({**weights, "reference": "timm"}, settings)
    stages = Stages(input_seed=input_seed, train_steps=train_steps, threshold=diff_threshold)
    with staged(REPROD) as progress:
        return reproduce(case, stages, progress=progress)


def _time() -> str:
    """Return the current time in UTC, or that of SOURCE_DATE_EPOCH, so that a build can be repeated byte for byte.

    Source: https://reproducible-builds.org/specs/source-date-epoch/
    """
    from convert.errors import UsageProblem

    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not epoch.isdigit():
        raise UsageProblem(f"SOURCE_DATE_EPOCH={epoch}: it has to be a number of seconds. Unset it.")
    utc = dt.UTC
    now = dt.datetime.now(utc) if epoch is None else dt.datetime.fromtimestamp(int(epoch), utc)
    return now.strftime("%Y/%m/%d %H:%M:%S")
