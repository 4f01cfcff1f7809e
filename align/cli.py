"""mixer-align: one seeded batch through timm, Paddle and a witness; exit 0 only if the port is the same function."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.command_line import OneSentence, debug_option, write_json

if TYPE_CHECKING:
    from align.result import AlignmentResult, Reference
    from align.run import Subject
    from convert.variants import MixerConfig

FILE = click.Path(path_type=Path)
DEFAULT_VARIANT = "b16_in21k"


@click.command(cls=OneSentence)
@click.option(
    "--src",
    type=click.Choice(["timm", "google"]),
    default="timm",
    show_default=True,
    help="Where the weights are from; Google's make both sides use the tanh GELU.",
)
@click.option(
    "--reference",
    type=click.Choice(["timm", "flax"]),
    help="What Paddle is compared with; flax needs the flax extra. Default: flax for --src google, else timm.",
)
@click.option("--variant", metavar="NAME", help=f"A name of mixer-convert --list. Default: {DEFAULT_VARIANT}.")
@click.option(
    "--checkpoint", type=FILE, help="The reference's weights, as mixer-convert reads them. Default: seeded random."
)
@click.option("--init", type=click.Choice(["random"]), help="Seeded random weights; the default without --checkpoint.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random weights.")
@click.option("--ema/--no-ema", default=None, help="Averaged or raw weights of a training checkpoint that has both.")
@click.option("--candidate", type=FILE, help="Paddle weights to judge. Default: the reference's, converted in memory.")
@click.option("--atol", type=click.FloatRange(min=0), default=1e-5, show_default=True, help="Bound on float32 logits.")
@click.option("--batch", type=click.IntRange(min=1), default=2, show_default=True, help="Number of images.")
@click.option("--input-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the images.")
@click.option("--accept-rounding", is_flag=True, help="Exit 0 on the verdict `rounding` too.")
@click.option("--json", "json_target", metavar="FILE", help="Write the result as JSON (- for stdout).")
@debug_option
@click.version_option(package_name="mixer-convert")
@click.pass_context
def main(ctx: click.Context, /, accept_rounding: bool, json_target: str | None, **options: Any) -> None:
    """Compare timm's vision MLP with the Paddle one, layer by layer, against a NumPy float64 witness.

    \b
    Verdicts: aligned (exit 0); rounding (exit 1 without --accept-rounding); diverged (exit 1).
    Other exit codes: 2 wrong usage, 3 bad or unsafe input, 4 input/output, 5 integrity.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    result = _align(**options)
    _print(result, to_stderr=json_target == "-")
    if json_target:
        from align.render import as_data

        write_json(as_data(result), json_target)
    ctx.exit(1 if result.failed(accept_rounding=accept_rounding) else 0)


def _align(*, atol: float, batch: int, input_seed: int, **weights: Any) -> AlignmentResult:
    import math

    from align.run import Settings, align
    from convert.errors import UsageProblem

    if not math.isfinite(atol):
        raise UsageProblem(f"--atol {atol}: a bound has to be a finite number.")
    subject = _subject(**weights)
    with _progress() as progress:
        return align(subject, Settings(batch=batch, input_seed=input_seed, atol=atol), progress=progress)


def _subject(
    *,
    src: str,
    ema: bool | None,
    reference: Reference | None,
    variant: str | None,
    checkpoint: Path | None,
    init: str | None,
    seed: int,
    candidate: Path | None,
) -> Subject:
    """Return the weights to compare, checked as a conversion checks them."""
    from dataclasses import asdict

    from align.run import Subject
    from convert.port import Request, check_and_map, choose_source
    from convert.sources import read_weights
    from convert.variants import get_variant

    name = variant or (None if checkpoint else DEFAULT_VARIANT)
    chosen = get_variant(name) if name else None
    init_seed = seed if init or not checkpoint else None
    request = Request(variant=chosen, checkpoint=checkpoint, init_seed=init_seed, src=src, ema=ema, dst="timm")
    source = choose_source(request)
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


def _print(result: AlignmentResult, *, to_stderr: bool) -> None:
    from align.render import HEADERS, gate_lines, rows, verdict_line
    from convert.tables import print_table

    with contextlib.redirect_stdout(sys.stderr) if to_stderr else contextlib.nullcontext():
        if result.layers:
            print_table(HEADERS, rows(result), title=result.variant)
        print("\n".join([*gate_lines(result), verdict_line(result)]))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show what is running on a terminal's standard error; elsewhere show nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


if __name__ == "__main__":
    main()
