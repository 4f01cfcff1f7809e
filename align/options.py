"""The options that choose what to compare, shared by the commands, and the subject they stand for."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from align.result import Reference
    from align.run import Subject
    from convert.variants import MixerConfig

FILE = click.Path(path_type=Path)
DEFAULT_VARIANT = "b16_in21k"

SOURCE = (
    click.option(
        "--src",
        type=click.Choice(["timm", "google"]),
        default="timm",
        show_default=True,
        help="Where the weights are from; Google's make both sides use the tanh GELU.",
    ),
    click.option(
        "--reference",
        type=click.Choice(["timm", "flax"]),
        help="What Paddle is compared with; flax needs the flax extra. Default: flax for --src google, else timm.",
    ),
    click.option("--variant", metavar="NAME", help=f"A name of mixer-convert --list. Default: {DEFAULT_VARIANT}."),
    click.option(
        "--checkpoint", type=FILE, help="The reference's weights, as mixer-convert reads them. Default: seeded random."
    ),
    click.option(
        "--init", type=click.Choice(["random"]), help="Seeded random weights; the default without --checkpoint."
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random weights."
    ),
    click.option("--ema/--no-ema", default=None, help="Averaged or raw weights of a training checkpoint with both."),
)
WEIGHTS = (
    *SOURCE,
    click.option(
        "--candidate", type=FILE, help="Paddle weights to judge. Default: the reference's, converted in memory."
    ),
)
INPUTS = (
    click.option("--batch", type=click.IntRange(min=1), default=2, show_default=True, help="Number of images."),
    click.option("--input-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the images."),
    click.option(
        "--inputs",
        type=click.Choice(["normal", "image-like", "large"]),
        default="normal",
        show_default=True,
        help="What the images are like; large ones stress rounding.",
    ),
)
REPORT = click.Path(path_type=Path, dir_okay=False)
REPORTS = (
    click.option("--junit", type=REPORT, metavar="FILE", help="Write a JUnit report: a case per gate and layer."),
    click.option("--markdown", type=REPORT, metavar="FILE", help="Write a summary as Markdown."),
    click.option("--html", type=REPORT, metavar="FILE", help="Write a self-contained page with a chart of the layers."),
)


def subject_of(
    *,
    src: str,
    ema: bool | None,
    reference: Reference | None,
    variant: str | None,
    checkpoint: Path | None,
    init: str | None,
    seed: int,
    candidate: Path | None = None,
) -> Subject:
    """Return the weights to compare, checked as a conversion checks them."""
    from dataclasses import asdict

    from align.run import Subject
    from convert.port import Request, check_and_map, choose_source
    from convert.sources import read_weights, with_sha256
    from convert.variants import get_variant

    name = variant or (None if checkpoint else DEFAULT_VARIANT)
    chosen = get_variant(name) if name else None
    init_seed = seed if init or not checkpoint else None
    request = Request(variant=chosen, checkpoint=checkpoint, init_seed=init_seed, src=src, ema=ema, dst="timm")
    source = with_sha256(choose_source(request))
    port = check_and_map(source, request)
    return Subject(
        source=port.conversion.state_dict,
        config=port.config,
        name=f"{chosen.name if chosen else ''} {source.name}".strip(),
        variant=chosen,
        reference=_available(reference, src, port.config),
        candidate=read_weights(candidate)[0] if candidate else None,
        provenance={**asdict(source.provenance), "candidate": candidate and candidate.name},
    )


def _available(reference: Reference | None, src: str, config: MixerConfig) -> Reference:
    """Return the reference asked for, if there is one for this family and it is installed."""
    from importlib.util import find_spec

    from convert.errors import UsageProblem

    if reference is None:
        reference = "flax" if src == "google" and config.family == "mixer" else "timm"
    if reference == "flax" and config.family != "mixer":
        raise UsageProblem(f"--reference flax: there is none for {config.family}. Pass --reference timm.")
    if reference == "flax" and find_spec("flax") is None:
        raise UsageProblem(
            "--reference flax: flax is not installed. Install mixer-convert[flax], or pass --reference timm."
        )
    return reference


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """Show what is running on a terminal's standard error; elsewhere show nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update
