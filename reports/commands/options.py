"""The options of the evaluation, the settings they stand for, and how far it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.commands.options import FILE, IDENTITY, SELECTION, SRC

if TYPE_CHECKING:
    from convert.mixer.variants import Variant
    from convert.request import Request
    from reports.data.cifar10 import Cifar10
    from reports.data.preprocess import Preprocessing
    from reports.score.evaluate import EvaluationSettings, Progress
    from reports.score.published import PublishedFigure
    from reports.score.records import Precision
    from reports.score.weights import Weights


def _check_device(ctx: click.Context, _parameter: click.Parameter, device: str) -> str:
    """Return a device that Paddle computes on; another is refused before anything is read."""
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
        "--variant", metavar="NAME", help="The upstream that was fine-tuned. Default: what its manifest says."
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
        "--variant", metavar="NAME", help="What they are, of `mixer-convert --list`. Default: what their manifest says."
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
        help="Mean, std and interpolation: the row's, timm's for the variant, or ImageNet's. Default: the first known.",
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
        help="Of the predictor. bfloat16 needs a processor that has it, and is not comparable.",
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
    click.option("--seed", type=click.IntRange(min=0), help="Default: the recipe's."),
    click.option(
        "--micro-batch",
        type=click.IntRange(min=1),
        help="Images per forward, to fit the memory; the batch stays. Default: the recipe's.",
    ),
    click.option("--threads", type=click.IntRange(min=1), help="On a CPU. Default: all; --resume keeps the run's own."),
    *WORKERS,
    click.option(
        "--checkpoint-minutes",
        type=click.FloatRange(min=0, min_open=True),
        metavar="M",
        help="From one checkpoint to the next; the newest two are kept. Default: 10.",
    ),
    click.option(
        "--checkpoint-every",
        type=click.IntRange(min=1),
        metavar="N",
        help="In steps, in place of --checkpoint-minutes.",
    ),
    click.option(
        "--stop-after", type=click.IntRange(min=1), metavar="STEP", help="Save and end there; --resume goes on."
    ),
    DEVICE,
)


def weights_request(options: dict[str, Any]) -> Request:
    """Take the options of the weights out of a command's; return what they stand for. The variant is the upstream."""
    from convert.job import request_of

    names = ("variant", "src", "gelu", "layer_norm_eps", "weights_key", "ema")
    return request_of(checkpoint=options.pop("weights"), **{name: options.pop(name) for name in names})


def choose_figure(figure: str | None, upstream: Variant | None) -> PublishedFigure | None:
    """Return the published row asked for, or else the upstream's, if there is one."""
    from reports.score.published import figure_by_id, figure_of

    if figure is not None:
        return figure_by_id(figure)
    return figure_of(upstream.name) if upstream else None


def choose_preprocessing(
    preprocess: str | None, weights: Weights, figure: PublishedFigure | None, *, no_resize: bool
) -> Preprocessing:
    """Return the preprocessing asked for; by default the row's, else the variant's, else ImageNet's, saying so.

    Raises:
        UsageProblem: The one asked for does not exist for these weights.
        BadInput: The images would have to be resized, and must not be.
    """
    from dataclasses import replace

    from convert.errors import UsageProblem
    from reports.data.cifar10 import SIZE
    from reports.data.preprocess import ASKED, ASSUMED, imagenet, of_variant, refuse_unresized

    size, upstream = weights.config.image_size, weights.upstream
    if no_resize:
        refuse_unresized(weights.name, SIZE, size)
    chosen = preprocess or ("published" if figure else "variant" if upstream else "assumed")
    if chosen == "published" and figure is not None:
        return replace(figure.preprocessing, image_size=size)
    if chosen == "variant" and upstream is not None:
        return of_variant(upstream, size)
    if chosen in ("published", "variant"):
        needs = "--figure, or a --variant that has one" if chosen == "published" else "--variant"
        raise UsageProblem(f"--preprocess {chosen}: for these weights there is none. Pass {needs}.")
    return imagenet(size, ASKED if preprocess else ASSUMED)


def settings_of(
    weights: Weights,
    *,
    figure: str | None,
    preprocess: str | None,
    no_resize: bool,
    accept_preprocessing: bool,
    engine: str,
    device: str,
    batch_size: int,
    precision: Precision = "float32",
    beside_float32: bool = False,
) -> EvaluationSettings:
    """Return how these weights are to be evaluated.

    Raises:
        UsageProblem: Something goes with something else, or is not to be had here.
    """
    from convert.errors import UsageProblem
    from reports.score.bfloat16 import check_precision
    from reports.score.engines import choose_engine
    from reports.score.evaluate import EvaluationSettings

    if beside_float32 and precision == "float32":
        raise UsageProblem("--against-float32 goes with --precision bfloat16. Add it, or leave it out.")
    engine_name = choose_engine(engine, device)
    check_precision(precision, engine_name)
    row = choose_figure(figure, weights.upstream)
    return EvaluationSettings(
        preprocessing=choose_preprocessing(preprocess, weights, row, no_resize=no_resize),
        figure=row,
        engine=engine_name,
        precision=precision,
        device=device,
        batch_size=batch_size,
        accept_preprocessing=accept_preprocessing,
        beside_float32=beside_float32,
    )


def images_of(data: Path, limit: int | None) -> Cifar10:
    """Return the test images, or the first so many of them."""
    from reports.data.cifar10 import first, read_cifar10

    images = read_cifar10(data)
    return first(images, limit) if limit else images


def progress_bar(total: int) -> AbstractContextManager[Progress]:
    """Return what shows how far an evaluation of so many images is."""
    from reports.commands.progress import evaluating

    return evaluating(total)
