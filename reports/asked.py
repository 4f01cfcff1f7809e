"""The settings that an evaluation's options stand for, whether a command or a Python caller gives them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convert.mixer.variants import Variant
    from convert.request import Request
    from reports.data.cifar10 import Cifar10
    from reports.data.preprocess import Preprocessing
    from reports.score.evaluate import EvaluationSettings
    from reports.score.published import PublishedFigure
    from reports.score.records import Precision
    from reports.score.weights import Weights


def weights_request(options: dict[str, Any]) -> Request:
    """Remove the weights' options from a command's; return the request they stand for. Its variant is the upstream."""
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
    """Return the preprocessing asked for; by default the row's, the variant's, or ImageNet's, marked as assumed.

    Raises:
        UsageProblem: The one asked for does not exist for these weights.
        BadInput: The images would have to be resized, which no_resize forbids.
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
    """Return the settings for evaluating these weights.

    Raises:
        UsageProblem: Options do not go together, name something unknown, or need what this machine lacks.
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
    """Return the test images, or only the first `limit` of them."""
    from reports.data.cifar10 import first, read_cifar10

    images = read_cifar10(data)
    return first(images, limit) if limit else images
