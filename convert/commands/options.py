"""Options that commands share: which weights are meant, and the config that the weights alone do not show."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(path_type=Path)


def variants(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the names of --list that begin with the text typed so far, for shell completion."""
    from convert.families import installed

    names = [variant.name for family in installed() for variant in family.variants]
    return [name for name in names if name.startswith(begun)]


SELECTION = (
    click.option("--weights-key", metavar="NAME", help="Which set of weights, if a file holds several."),
    click.option("--ema/--no-ema", default=None, help="The averaged or the raw weights, if the file names both."),
)
IDENTITY = (
    click.option(
        "--gelu", type=click.Choice(["erf", "tanh"]), help="Which GELU. Default: what the file says, else its layout's."
    ),
    click.option(
        "--layer-norm-eps",
        type=click.FloatRange(0, 1e-3, min_open=True),
        help="Epsilon of every norm. Default: what the file says, else its layout's.",
    ),
)
DTYPE = click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Cast every tensor; wider ones hold each value exactly, narrower ones round. Default: as they are.",
)
SRC = click.option(
    "--src",
    type=click.Choice(["timm", "google", "paddle"]),
    help="Where the weights are from; timm takes Facebook's ResMLP and MMPretrain's files too, paddle PaddleViT's. "
    "Default: detected from the key names; needed if two layouts fit.",
)
