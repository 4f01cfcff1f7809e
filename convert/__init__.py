"""Conversion of timm's vision-MLP checkpoints to PaddlePaddle: a state dict in, a state dict out."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convert.paddle_mixer import MlpMixer

__version__ = "0.1.0"


def load_paddle(
    variant: str | None = None,
    *,
    checkpoint: str | PathLike[str] | None = None,
    src: str = "timm",
    ema: bool | None = None,
    num_classes: int | None = None,
) -> MlpMixer:
    """Return a ready Paddle model, in evaluation mode, with the weights converted in memory.

    Args:
        variant: A name of `mixer-convert --list`. Default: read from the checkpoint's shapes.
        checkpoint: A local file. Default: the variant's published weights, from the Hugging Face hub.
        src: Where the weights are from: timm, google or paddle.
        ema: Averaged or raw weights of a training checkpoint that has both.
        num_classes: A fresh random head for so many classes.

    Raises:
        MixerConvertError: As `mixer-convert` reports it; the text says what to do.
    """
    from pathlib import Path

    from convert.adapt import Adaptation
    from convert.port import Request, check_and_map, choose_source
    from convert.variants import get_variant

    request = Request(
        variant=get_variant(variant) if variant else None,
        checkpoint=Path(checkpoint) if checkpoint else None,
        src=src,
        ema=ema,
        adaptation=Adaptation(num_classes=num_classes),
    )
    port = check_and_map(choose_source(request), request)

    from convert import paddle_mixer

    return paddle_mixer.build(port.config, port.conversion.state_dict)
