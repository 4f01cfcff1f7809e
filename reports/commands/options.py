"""The options of evaluations and fine-tunings, and a progress bar; `reports.asked` turns options into settings."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from convert.commands.options import FILE, IDENTITY, SELECTION, SRC, variants

if TYPE_CHECKING:
    from reports.score.evaluate import Progress


def _check_device(ctx: click.Context, _parameter: click.Parameter, device: str) -> str:
    """Return the device if Paddle can compute on it; any other is refused before anything is read."""
    from reports.score.devices import check_device

    if not ctx.resilient_parsing:
        check_device(device)
    return device


DEVICE = click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=_check_device,
    help="cpu, gpu or gpu:N; a GPU needs paddlepaddle-gpu.",
)
WEIGHTS = (
    click.option("--weights", type=FILE, required=True, help="Fine-tuned weights, in any format of mixer-convert."),
    click.option(
        "--variant",
        metavar="NAME",
        shell_complete=variants,
        help="The upstream that was fine-tuned. Default: what its manifest says.",
    ),
    SRC,
    *IDENTITY,
    *SELECTION,
)
PAGE = (click.option("--html", type=FILE, metavar="FILE", help="Write a self-contained page of the evaluation."),)
START = (
    click.option(
        "--weights", type=FILE, required=True, help="The weights to start from, in any format of mixer-convert."
    ),
    click.option(
        "--variant",
        metavar="NAME",
        shell_complete=variants,
        help="Their variant, a name of `mixer-convert --list`. Default: what their manifest says.",
    ),
    SRC,
    *IDENTITY,
    *SELECTION,
)
DATA = (
    click.option(
        "--data",
        type=FILE,
        required=True,
        help="CIFAR-10, the archive (.tar.gz) or its folder, either version.",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="The first N images only; then not comparable."),
)
IMAGES = (
    click.option("--figure", metavar="ID", help="The published row, an id of `published`. Default: the upstream's."),
    click.option(
        "--preprocess",
        type=click.Choice(["published", "variant", "imagenet"]),
        help="Mean, std and interpolation: the row's, timm's for the variant, or ImageNet's. "
        "Default: the first that is known.",
    ),
    click.option("--no-resize", is_flag=True, help="Refuse images that are not of the model's size."),
    click.option(
        "--accept-preprocessing", is_flag=True, help="Judge by the row although the preprocessing is not the row's."
    ),
)
ENGINE = (
    click.option(
        "--engine",
        type=click.Choice(["auto", "inference", "eager"]),
        default="auto",
        show_default=True,
        help="Paddle's predictor with oneDNN (CPU only), or the model as it is. auto: the predictor on cpu.",
    ),
    DEVICE,
    click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Images per batch."),
)
PRECISION = (
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Precision of the predictor. bfloat16 needs a processor that has it, and is not comparable.",
    ),
    click.option(
        "--against-float32",
        "beside_float32",
        is_flag=True,
        help="With bfloat16: run float32 on the same images too, and count where they disagree.",
    ),
)
WORKERS = (
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        metavar="N",
        help="Processes that make images; the result is the same. Default: the cores less one, at most 8; on a CPU 0.",
    ),
)
TRAINING = (
    click.option(
        "--recipe",
        required=True,
        metavar="NAME",
        help="paddle_reproduction, google or small; or a .toml with one [[recipe]] of your own, like recipes.toml.",
    ),
    click.option(
        "--out", type=FILE, required=True, metavar="DIR", help="A folder for the run; has to be new or empty."
    ),
    click.option("--resume", is_flag=True, help="Go on with the run in --out, from its newest checkpoint."),
    click.option("--seed", type=click.IntRange(min=0), help="Seed of the run. Default: the recipe's."),
    click.option(
        "--micro-batch",
        type=click.IntRange(min=1),
        help="Images per forward, to fit the memory; the batch stays. Default: the recipe's.",
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Threads on a CPU. Default: all; --resume keeps the run's own."
    ),
    *WORKERS,
    click.option(
        "--checkpoint-minutes",
        type=click.FloatRange(min=0, min_open=True),
        metavar="M",
        help="Minutes between checkpoints, of which the newest two are kept. Default: 10.",
    ),
    click.option(
        "--checkpoint-every",
        type=click.IntRange(min=1),
        metavar="N",
        help="Steps between checkpoints, in place of --checkpoint-minutes.",
    ),
    click.option(
        "--stop-after", type=click.IntRange(min=1), metavar="STEP", help="Save and end there; --resume goes on."
    ),
    DEVICE,
)


def progress_bar(total: int) -> AbstractContextManager[Progress]:
    """Return a context manager that shows the progress of an evaluation of this many images."""
    from reports.commands.progress import evaluating

    return evaluating(total)
