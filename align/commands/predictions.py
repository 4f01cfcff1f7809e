"""mixer-align predictions: can the port change what is predicted for these images?"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from align.commands.options import RANDOM, WEIGHTS, alignment_for, case_of_options
from convert.commands.command_line import OneSentence, json_option, with_options, write_json
from convert.commands.options import FILE

if TYPE_CHECKING:
    from align.predictions.certificate import Certificate

SCHEMA = "mixer-align/predictions/1"


@click.command(cls=OneSentence, needs=("torch", "paddle"), apart=RANDOM)
@click.argument("images", nargs=-1, required=True, type=FILE)
@with_options(WEIGHTS)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Images at a time.")
@json_option
@click.pass_context
def predictions(
    ctx: click.Context, /, images: tuple[Path, ...], batch_size: int, json_target: str | None, **options: Any
) -> None:
    """Certify that Paddle predicts what the reference predicts on IMAGES, in float32.

    IMAGES are picture files, preprocessed as timm does for the variant, or .npy and .npz arrays (images, channels,
    height, width), float32, already normalised. Exit code 1 with the images whose prediction could change.
    """
    certificate, weights = _certify(images, batch_size, options)
    _print(certificate, to_stderr=json_target == "-")
    if json_target:
        write_json({**_as_data(certificate), "weights": weights}, json_target)
    ctx.exit(0 if certificate.holds else 1)


def _certify(images: tuple[Path, ...], batch_size: int, options: dict[str, Any]) -> tuple[Certificate, dict[str, Any]]:
    """Return the certificate, and where the weights of both sides come from."""
    from align.core.case import Settings
    from align.predictions.images import batches, count
    from align.predictions.predict import certify
    from align.underway import of_predictions
    from convert.commands.progress import staged

    case = case_of_options(options, Settings(batch=1))
    read_picture = alignment_for(options).read_picture(options["variant"], case)
    with staged(of_predictions(count(images), batch_size)) as progress:
        shown = batches(images, case.inputs.shape[1:], read_picture, batch_size)
        return certify(case, shown, progress=progress), dict(case.settings["weights"])


def _print(certificate: Certificate, *, to_stderr: bool) -> None:
    from align.predictions.certificate import HEADERS, listed, verdict_line
    from convert.commands.tables import print_table

    with contextlib.redirect_stdout(sys.stderr) if to_stderr else contextlib.nullcontext():
        if rows := listed(certificate):
            print_table(HEADERS, rows, title=certificate.name)
        print(verdict_line(certificate))


def _as_data(certificate: Certificate) -> dict[str, Any]:
    from dataclasses import asdict

    from align.render import finite

    data: dict[str, Any] = finite(
        {
            "schema": SCHEMA,
            "name": certificate.name,
            "certified": certificate.holds,
            "least_margin": certificate.least_margin,
            "max_abs_diff": certificate.max_abs_diff,
            "could_change": len(certificate.could_change),
            "changed": len(certificate.changed),
            "images": [{**asdict(image), "changed": image.changed} for image in certificate.predictions],
        }
    )
    return data
