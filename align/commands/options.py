"""The options that choose what to compare, shared by the commands, and the case they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.commands.options import DTYPE, FILE, IDENTITY, SELECTION, SRC, variants

if TYPE_CHECKING:
    from align.alignment import Alignment
    from align.core.case import Case, Settings
    from align.twins.case import Twins

DEFAULT_VARIANT = "b16_in21k"

RANDOM = {"seed": ("checkpoint",)}
"""Options, each with those beside which it has no effect: the weights of a file are not drawn."""
SEVERAL = ("variant", "checkpoint", "candidate")
"""Options of which mixer-align takes several values, for one option at a time; each value is its own alignment."""


def _source(*, several: bool) -> tuple[Callable[[Any], Any], ...]:
    """Return the options that choose the reference's weights; several says whether some may be repeated."""
    again = " Repeatable." if several else ""
    return (
        SRC,
        click.option(
            "--reference",
            type=click.Choice(["timm", "flax"]),
            help="What Paddle is compared with; flax needs the flax extra. Default: flax for Google's files, else "
            "timm.",
        ),
        click.option(
            "--variant",
            metavar="NAME",
            multiple=several,
            shell_complete=variants,
            help=f"A name of mixer-convert --list. Default: {DEFAULT_VARIANT}.{again}",
        ),
        click.option(
            "--checkpoint",
            type=FILE,
            multiple=several,
            help=f"The reference's weights, as mixer-convert reads them. Default: seeded random.{again}",
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


def _weights(*, several: bool) -> tuple[Callable[[Any], Any], ...]:
    """Return the options of `_source` and those that choose the candidate's weights."""
    again = " Repeatable." if several else ""
    return (
        *_source(several=several),
        click.option(
            "--candidate",
            type=FILE,
            multiple=several,
            help=f"Paddle weights to judge. Default: the reference's, converted in memory.{again}",
        ),
        click.option(
            "--candidate-key", metavar="NAME", help="Which set of weights, where the candidate holds several."
        ),
    )


SOURCE, WEIGHTS, WEIGHTS_OF_SEVERAL = _source(several=False), _weights(several=False), _weights(several=True)
CANDIDATE_MODEL = (
    click.option(
        "--candidate-model",
        metavar="TARGET",
        help="Your own Paddle model: package.module:callable or path/to/file.py:callable, which returns it.",
    ),
    click.option("--candidate-args", metavar="JSON", help="Its arguments by name, such as '{\"depth\": 12}'."),
)
PAIRING = click.option(
    "--pairing", type=FILE, help="A TOML file that maps the reference's modules and weights to the candidate's."
)
MODEL = (
    *CANDIDATE_MODEL,
    click.option("--own-weights", is_flag=True, help="Judge the weights that it has already."),
    PAIRING,
)
REFERENCE_MODEL = (
    click.option(
        "--reference-model",
        metavar="TARGET",
        help="Your own PyTorch model, named as --candidate-model is, to compare any two models.",
    ),
    click.option("--reference-args", metavar="JSON", help="Its arguments by name."),
    click.option(
        "--input-shape",
        metavar="C,H,W",
        help="Shape of one input, such as 3,224,224. Default: [inputs] of the pairing file.",
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


def case_of_options(options: dict[str, Any], settings: Settings) -> Case:
    """Return the case that the options describe, checked as a conversion is; print what is assumed about its files.

    Args:
        options: Those of WEIGHTS, MODEL and REFERENCE_MODEL, by name; missing ones have their defaults.
        settings: What the batch is drawn with.
    """
    from convert.errors import UsageProblem

    given = dict(options)
    if (reference := given.pop("reference_model", None)) is not None:
        return case_of_models(reference, given, settings)
    for name in ("reference_args", "input_shape"):
        if given.pop(name, None) is not None:
            raise UsageProblem(f"--{name.replace('_', '-')} goes with --reference-model. Add it, or leave it out.")
    given["variant"] = given.get("variant") or (None if given.get("checkpoint") else DEFAULT_VARIANT)
    alignment = alignment_for(given)
    return alignment.case_of_options(_with_own_model(given), settings, say)


def case_of_models(target: str, options: dict[str, Any], settings: Settings) -> Case:
    """Return the case of the two models that the options name.

    Args:
        target: The target that makes the reference.
        options: Those of WEIGHTS, MODEL and REFERENCE_MODEL, by name.
        settings: What the batch is drawn with.
    """
    from align.twins.asked import WeightFiles, case_of_files, refuse_family_options
    from convert.files.sets import Selection

    refuse_family_options(options)
    selection = Selection(key=options.get("weights_key"), ema=options.get("ema"))
    files = WeightFiles(
        checkpoint=options.get("checkpoint"),
        selection=selection,
        candidate=options.get("candidate"),
        candidate_key=options.get("candidate_key"),
    )
    return case_of_files(twins_of(target, options), files, settings, say)


def twins_of(target: str, options: dict[str, Any]) -> Twins:
    """Return the two models that the options name, both in evaluation mode."""
    from align.pairing.file import read_pairing
    from align.pairing.pairing import Pairing
    from align.probes import paddle_probe, torch_probe
    from align.twins.asked import inputs_of
    from align.twins.case import Twins
    from convert.errors import UsageProblem

    candidate = options.get("candidate_model")
    if candidate is None:
        raise UsageProblem("--reference-model goes with --candidate-model, its twin in Paddle. Name that too.")
    pairing = read_pairing(options["pairing"]) if options.get("pairing") else Pairing()
    torch_probe.check_framework()
    paddle_probe.imported()
    models = [
        model_in_evaluation(option, named, options.get(f"{option[2:-6]}_args"), check)
        for option, named, check in (
            ("--reference-model", target, torch_probe.check),
            ("--candidate-model", candidate, paddle_probe.check),
        )
    ]
    return Twins(
        reference=models[0],
        candidate=models[1],
        inputs=inputs_of(options.get("input_shape"), pairing, models[0]),
        pairing=pairing,
        name=target.rpartition(":")[2],
        own_weights=bool(options.get("own_weights")),
        seed=options.get("seed") or 0,
        targets={"reference_model": target, "candidate_model": candidate},
    )


def model_in_evaluation(option: str, target: str, args: str | None, check: Callable[[Any, str], None]) -> Any:
    """Return the model that a target makes, put into evaluation mode: nothing says which mode it was made for."""
    from align.commands.target import model_of

    model = model_of(target, args, option)
    check(model, f"{option} {target}")
    model.eval()
    return model


def alignment_for(options: dict[str, Any]) -> Alignment:
    """Return how to compare models of the family that the options refer to."""
    from align.alignment import alignment_of
    from convert import families

    if options.get("variant"):
        return alignment_of(families.with_variant(options["variant"])[0])
    installed = families.installed()
    if len(installed) == 1:
        return alignment_of(installed[0])
    from convert.job import choose_source, request_of

    keys = ("checkpoint", "weights_key", "ema")
    return alignment_of(choose_source(request_of(**{key: options.get(key) for key in keys})).family)


def say(name: str, notes: Sequence[str]) -> None:
    """Print what is assumed about a file to standard error, one sentence per line."""
    for note in notes:
        click.echo(f"{name}: {note}.", err=True)


def _with_own_model(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the named model built and the named pairing file read."""
    from convert.errors import UsageProblem

    target, args, pairing = given.get("candidate_model"), given.pop("candidate_args", None), given.pop("pairing", None)
    if target is None and args is not None:
        raise UsageProblem("--candidate-args goes with --candidate-model. Add it, or leave it out.")
    if pairing is not None:
        from align.pairing.file import read_pairing

        given["pairing"] = read_pairing(pairing)
    if target is not None:
        from align.commands.target import model_of
        from align.probes import paddle_probe

        paddle_probe.imported()
        given["layer"] = model_of(target, args, "--candidate-model")
        paddle_probe.check(given["layer"], f"--candidate-model {target}")
    return given
