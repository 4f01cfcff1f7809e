"""The options that choose what to compare, shared by the commands, and the subject they stand for."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from convert.commands.options import DTYPE, FILE, IDENTITY, SELECTION, SRC

if TYPE_CHECKING:
    from align.core.result import Reference
    from align.run import Subject
    from convert.arrays import StateDict
    from convert.family import Source
    from convert.mixer.variants import MixerConfig, Variant

DEFAULT_VARIANT = "b16_in21k"

SOURCE = (
    SRC,
    click.option(
        "--reference",
        type=click.Choice(["timm", "flax"]),
        help="What Paddle is compared with; flax needs the flax extra. Default: flax for Google's files, else timm.",
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
    *SELECTION,
    *IDENTITY,
    DTYPE,
)
WEIGHTS = (
    *SOURCE,
    click.option(
        "--candidate", type=FILE, help="Paddle weights to judge. Default: the reference's, converted in memory."
    ),
    click.option("--candidate-key", metavar="NAME", help="Which set of weights, where the candidate holds several."),
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
    reference: Reference | None = None,
    variant: str | None = None,
    checkpoint: Path | None = None,
    init: str | None = None,
    seed: int = 0,
    candidate: Path | None = None,
    candidate_key: str | None = None,
    **options: Any,
) -> Subject:
    """Return the weights to compare, checked as a conversion checks them; what it takes for granted is printed.

    Args:
        reference: timm or flax; None: flax for Google's files, else timm.
        variant: A name of `mixer-convert --list`.
        checkpoint: The reference's weights; None: seeded random ones.
        init: "random", which is what a missing checkpoint means too.
        seed: Of the random weights.
        candidate: Paddle's weights; None: the reference's, converted.
        candidate_key: Which set of the candidate's, where there are several.
        options: src, weights_key, ema, gelu, layer_norm_eps and dtype, as `mixer-convert` has them.
    """
    from dataclasses import asdict

    from align.run import Subject
    from convert.job import check_and_map, choose_source, request_of
    from convert.request import Adaptation
    from convert.sources import with_sha256

    request = request_of(
        variant=variant or (None if checkpoint else DEFAULT_VARIANT),
        checkpoint=checkpoint,
        init_seed=seed if init or not checkpoint else None,
        dst="timm",
        adaptation=Adaptation(dtype=options.pop("dtype", None)),
        **options,
    )
    source = with_sha256(choose_source(request))
    port = check_and_map(source, request)
    _say(source.name, port.notes)
    judged, provenance = _judged(candidate, candidate_key, port.config)
    return Subject(
        source=port.conversion.state_dict,
        config=port.config,
        name=_named(source, cast("Variant | None", request.variant)),
        variant=cast("Variant | None", request.variant),
        reference=_available(reference, port.config, of_google="google" in (request.src, port.layout)),
        candidate=judged,
        provenance={**asdict(source.provenance), "notes": list(port.notes), **provenance},
    )


def _named(source: Source, variant: Variant | None) -> str:
    """Return what to call the weights: variant, file, and which set of it."""
    from convert.files.sets import TOP

    key = source.provenance.weights_key
    chosen = [] if key in (None, TOP) else [f"({key})"]
    return " ".join([*([variant.name] if variant else []), source.name, *chosen])


def _judged(candidate: Path | None, key: str | None, config: MixerConfig) -> tuple[StateDict | None, dict[str, Any]]:
    """Return the candidate's weights, None for the reference's own, and where they are from."""
    if candidate is None:
        from convert.errors import UsageProblem

        if key is not None:
            raise UsageProblem("--candidate-key goes with --candidate. Add it, or leave it out.")
        return None, {"candidate": None, "candidate_key": None, "candidate_notes": []}
    from align.mixer.candidate import read_candidate

    judged = read_candidate(candidate, key, config)
    _say(judged.name, judged.notes)
    chosen, notes = judged.provenance.weights_key, list(judged.notes)
    return judged.tensors, {"candidate": candidate.name, "candidate_key": chosen, "candidate_notes": notes}


def _say(name: str, notes: Iterable[str]) -> None:
    for note in notes:
        click.echo(f"{name}: {note}.", err=True)


def _available(reference: Reference | None, config: MixerConfig, *, of_google: bool) -> Reference:
    """Return the reference asked for, if there is one for this family and it is installed."""
    from importlib.util import find_spec

    from convert.errors import UsageProblem

    if reference is None:
        reference = "flax" if of_google and config.family == "mixer" else "timm"
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
