"""mixer-convert: a timm MLP-Mixer checkpoint in, a PaddlePaddle checkpoint and its manifest out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert import __version__
from convert.commands.command_line import (
    FileGroup,
    command_line,
    json_option,
    refuse_options_before,
    with_options,
    write_json,
)
from convert.commands.options import DTYPE, FILE, IDENTITY, SELECTION, SRC, variants

if TYPE_CHECKING:
    from convert.disk.hashing import EarlyHash


LIST_STANDS_ALONE = (
    *("src", "dst", "variant", "checkpoint", "pairing", "init", "seed", "weights_key", "ema", "gelu", "layer_norm_eps"),
    *("dtype", "num_classes", "in_chans", "image_size", "out", "force"),
)


@click.group(
    cls=FileGroup, invoke_without_command=True, no_args_is_help=True, apart={"list_variants": LIST_STANDS_ALONE}
)
@SRC
@click.option(
    "--dst",
    type=click.Choice(["paddle", "paddlevit", "timm", "torch"]),
    help="Layout of the output; paddle, the default, has timm's names. With --pairing: paddle or torch, by default the "
    "one whose names the file has not.",
)
@click.option(
    "--variant",
    metavar="NAME",
    shell_complete=variants,
    help="A name of --list, or a full timm id. Default: read from the shapes.",
)
@click.option(
    "--checkpoint",
    type=FILE,
    help="A local checkpoint, the index of a sharded one, or a folder with either. Default: the hub.",
)
@click.option(
    "--pairing",
    type=FILE,
    help="Any model: convert the checkpoint, either way, by the table [weights] of a pairing file.",
)
@click.option("--init", type=click.Choice(["random"]), help="Seeded random weights instead of a checkpoint.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of --init random. Default: 0.")
@with_options(SELECTION, IDENTITY)
@DTYPE
@click.option(
    "--num-classes", type=click.IntRange(min=1), help="A fresh random head for N classes, unless it has N already."
)
@click.option("--in-chans", type=click.IntRange(min=1), help="Adapt a 3-channel stem to 1.")
@click.option("--image-size", type=click.IntRange(min=1), help="Refuse the weights if their image size is another.")
@click.option("--out", type=FILE, help="Output, .pdparams or .safetensors. Default: <architecture>.<tag>.pdparams.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--list", "list_variants", is_flag=True, help="Print the variants and exit.")
@json_option
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, /, list_variants: bool, json_target: str | None, **options: Any) -> None:
    """Convert a vision MLP (Mixer, gMixer, ResMLP, gMLP) between timm, Google and PaddlePaddle; any model by --pairing.

    Writes OUT and OUT.manifest.json. A file can be named without --checkpoint; without any and without --init the
    weights come from the Hugging Face hub.

    \b
    Exit codes: 0 done, 2 wrong usage, 3 bad or unsafe input, 4 input/output or network, 5 integrity.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    if ctx.invoked_subcommand is not None:
        refuse_options_before(ctx, "a conversion")
        return
    if list_variants:
        _list(json_target)
    else:
        _convert(json_target, **options)


@main.command()
@click.argument("file", type=FILE)
@with_options(SELECTION)
@json_option
def inspect(file: Path, weights_key: str | None, ema: bool | None, json_target: str | None) -> None:
    """Print what a checkpoint holds: layout, config, and each tensor with its SHA-256."""
    from convert.checks.inspection import inspect_file
    from convert.commands.tables import print_table
    from convert.files.sets import Selection

    inspection = inspect_file(file, Selection(key=weights_key, ema=ema))
    if json_target != "-":
        rows = [
            (t["name"], t["dtype"], "x".join(map(str, t["shape"])), t["sha256"][:16]) for t in inspection["tensors"]
        ]
        print_table(("tensor", "dtype", "shape", "sha256"), rows, title=file.name)
        click.echo("\n".join([*_facts(inspection), *map(_sentence_of, inspection["notes"]), inspection["summary"]]))
    if json_target:
        write_json(inspection, json_target)


@main.command()
@click.argument("a", type=FILE)
@click.argument("b", type=FILE, required=False)
@click.option("--manifest", type=FILE, help="What A is checked against; A may then be the source of the conversion.")
@click.option("--weights-key", metavar="NAME", help="Which set of weights of A, where it holds several.")
@click.option("--weights-key-b", metavar="NAME", help="Which set of weights of B, where it holds several.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    *,
    a: Path,
    b: Path | None,
    manifest: Path | None,
    weights_key: str | None,
    weights_key_b: str | None,
    json_target: str | None,
) -> None:
    """Check that checkpoints A and B hold the same tensors, or that A alone is as its manifest says.

    \b
    A B  bit for bit, whatever their formats and layouts; exits 0 when they do and 1 when they do not.
    A    against A.manifest.json, or --manifest: exits 5 and names each tensor that changed.
    """  # noqa: D301  # as above
    from dataclasses import asdict

    from convert.checks.integrity import verify_file
    from convert.checks.verify import selections_of, verify_files
    from convert.errors import UsageProblem

    if b is None and (weights_key, weights_key_b) != (None, None):
        raise UsageProblem("--weights-key goes with two files: the manifest says which set it is about. Leave it out.")
    if b is None:
        integrity = verify_file(a, manifest)
        sentences, code = integrity.sentences(), 0 if integrity.intact else 5
        data = {"schema": "mixer-convert/integrity/1", "intact": integrity.intact, **asdict(integrity)}
    elif manifest is not None:
        raise UsageProblem("--manifest goes with one file. Leave out the second, or --manifest.")
    else:
        verification = verify_files(a, b, selections_of(weights_key, weights_key_b))
        sentences, code = verification.sentences(a.name, b.name), 0 if verification.equal else 1
        data = {"schema": "mixer-convert/verification/2", "equal": verification.equal, **asdict(verification)}
    if json_target != "-":
        click.echo("\n".join(sentences))
    if json_target:
        write_json(data, json_target)
    ctx.exit(code)


def _facts(inspection: dict[str, Any]) -> Iterator[str]:
    """Yield what else is known of a checkpoint, one fact per line."""
    for name in ("weights_key", "stripped_prefix"):
        if inspection[name] not in (None, "."):
            yield f"{name}: {inspection[name]}"
    if inspection["config"]:
        yield "config: " + ", ".join(f"{name} {value}" for name, value in inspection["config"].items())
    yield from (f"recorded in: {one['place']}" for one in inspection["recorded"])


def _convert(
    json_target: str | None,
    *,
    checkpoint: Path | None,
    init: str | None,
    seed: int | None,
    num_classes: int | None,
    in_chans: int | None,
    dtype: str | None,
    out: Path | None,
    force: bool,
    **options: Any,
) -> None:
    with _hashed_early(checkpoint) as early:
        from convert.commands.progress import display
        from convert.disk.underway import telling
        from convert.errors import UsageProblem
        from convert.job import convert_checkpoint, request_of
        from convert.request import Adaptation

        if seed is not None and not init and num_classes is None:
            raise UsageProblem("--seed goes with --init random or --num-classes. Add one, or leave --seed out.")
        request = request_of(
            checkpoint=checkpoint,
            init_seed=(seed or 0) if init else None,
            adaptation=Adaptation(num_classes=num_classes, in_chans=in_chans, head_seed=seed or 0, dtype=dtype),
            **options,
        )
        with display() as update, telling(update):
            manifest = convert_checkpoint(request, out, force=force, command_line=command_line(), early=early)
    click.echo(_sentence(manifest), err=True)
    if json_target != "-":
        click.echo(manifest["output"]["path"])
    if json_target:
        write_json(manifest, json_target)


def _hashed_early(checkpoint: Path | None) -> AbstractContextManager[EarlyHash | None]:
    """Start to hash the file on a second core while NumPy is imported on this one; return it as a context manager."""
    if "numpy" not in sys.modules:  # no matrix products are needed, and its threads would spin on that core
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from convert.disk.hashing import EarlyHash

    return nullcontext() if checkpoint is None else EarlyHash(checkpoint)


def _sentence(manifest: dict[str, Any]) -> str:
    """Return a summary of the conversion, in sentences for the user."""
    source, output, tensors = manifest["source"], manifest["output"], manifest["tensors"]
    transposed = sum(tensor["transform"] == "transpose" for tensor in tensors)
    size, fingerprint = output["bytes"] / 1e6, output["fingerprint"][:16]
    sentences = [
        f"{source['name']} → {output['path']}: {len(tensors)} tensors, {transposed} Linear weights transposed",
        *dict.fromkeys(t["adapted"] for t in tensors if t["adapted"]),
        *manifest["notes"],
    ]
    config, key = manifest["config"], source["weights_key"]
    if built := [f"{name} {config[name]}" for name in ("gelu", "layer_norm_eps") if name in config]:
        sentences.append(f"built with {', '.join(built)}")
    if key not in (None, "."):
        sentences.append(f"its set of weights: {key}")
    done, *others = sentences
    return " ".join([f"{done}, {size:.1f} MB, fingerprint {fingerprint}.", *map(_sentence_of, others)])


def _sentence_of(note: str) -> str:
    return f"{note[0].upper()}{note[1:].rstrip('.')}."


def _list(json_target: str | None) -> None:
    from convert.commands.tables import print_table
    from convert.families import installed

    for family in installed() if json_target != "-" else ():
        print_table(family.headers, [family.as_row(variant) for variant in family.variants])
    if json_target:
        variants = [family.as_data(variant) for family in installed() for variant in family.variants]
        write_json({"schema": "mixer-convert/variants/1", "variants": variants}, json_target)


if __name__ == "__main__":
    main()
