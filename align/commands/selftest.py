"""mixer-align selftest: the gate proves its own sensitivity."""

from __future__ import annotations

import click

from convert.commands.command_line import OneSentence, json_option, text_beside, write_json


@click.command(cls=OneSentence, needs=("torch", "timm", "paddle", "scipy"))
@click.option("--on", "names", metavar="CONFIG", multiple=True, help="Only this config; repeatable. Default: all.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Right ports per kind of input."
)
@json_option
@click.pass_context
def selftest(ctx: click.Context, /, names: tuple[str, ...], seeds: int, json_target: str | None) -> None:
    """Plant faults, and exit 1 if one survives, is blamed on the wrong layer, or a right port is failed.

    Runs on s32 and on a small config of each family.
    """
    from align.alignment import alignments
    from align.core.inputs import DRAW
    from align.rounding.closeness import closeness
    from align.selftest import report, run
    from align.underway import of_selftest
    from convert.commands.progress import staged
    from convert.commands.tables import print_table
    from convert.errors import UsageProblem

    known = {name: specimen for one in alignments() for name, specimen in one.specimens().items()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageProblem(f"--on {unknown[0]}: no such config. Known: {', '.join(known)}.")
    chosen = {name: known[name] for name in names or known}
    with staged(of_selftest(chosen, seeds, len(DRAW))) as progress:
        outcome = run.selftest(chosen, seeds=seeds, closeness=closeness, progress=progress)
    data = report.as_data(outcome)
    with text_beside(json_target):
        print_table(report.headers(data), report.rows(data))
        print("\n".join(report.sentences(data)))
    if json_target:
        write_json(data, json_target)
    ctx.exit(0 if outcome.passed else 1)
