"""mixer-report verify and schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.commands.command_line import OneSentence, json_option, write_json
from convert.commands.options import FILE
from convert.commands.progress import say
from reports.commands.options import progress_bar

if TYPE_CHECKING:
    from reports.audit.verify import Bundle


@click.command(cls=OneSentence, needs=("pydantic", "scipy"))
@click.argument("bundle", type=FILE)
@click.option("--rerun", is_flag=True, help="Run the gates and the images again; compare every figure and prediction.")
@click.option("--weights", type=FILE, help="For --rerun. Default: where they were.")
@click.option("--checkpoint", type=FILE, help="The upstream's, for --rerun. Default: where it was.")
@click.option("--data", type=FILE, help="For --rerun. Default: where it was.")
@click.option("--device", help="For --rerun: cpu, gpu or gpu:N. Default: that of the audit.")
@click.option("--signer", type=FILE, metavar="FILE", help="Who has to have signed: a public key, or allowed signers.")
@json_option
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
    from reports.sign.signature import verified

    checked = verified(bundle, signer)
    found, signed = checked.bundle, checked.signature
    said = f"{bundle}: whole; {found.report.accuracy.total:,} predictions give every statistic and the verdict."
    again = _rerun(found, **inputs) if rerun else []
    lines = [said, signed.sentence, *(sentence for _, sentence in again), found.report.sentence]
    click.echo("\n".join(lines), err=json_target == "-")
    same = all(one for one, _ in again)
    if json_target:
        from dataclasses import asdict

        told = " ".join(sentence for _, sentence in again) or None
        said_of_it = {"same": same, "rerun": told, "signature": signed.as_data()}
        result = {"schema": "mixer-report/verification/1", **said_of_it, "report": asdict(found.report)}
        write_json(result, json_target)
    ctx.exit(0 if same and signed.trusted is not False else 1)


@click.command(cls=OneSentence, needs=("pydantic",))
@click.argument("name", type=click.Choice(["audit", "environment", "evaluation"]))
def schema(name: str) -> None:
    """Print what a JSON file keeps to, as JSON Schema: a bundle's report.json or environment.json, or evaluate's.

    That of the alignments is `mixer-align schema`.
    """
    import json

    from reports.audit.records import schema_of

    click.echo(json.dumps(schema_of(name), indent=1))


def _rerun(found: Bundle, **inputs: Any) -> list[tuple[bool, str]]:
    from align.commands.progress import aligning
    from reports.audit.rerun import RerunInputs
    from reports.audit.rerun import rerun as run

    with progress_bar(len(found.predictions)) as progress:
        return list(run(found, RerunInputs(**inputs), say=say, progress=progress, aligning=aligning))
