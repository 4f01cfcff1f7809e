"""Conversion of timm's vision-MLP checkpoints to PaddlePaddle: a state dict in, a state dict out."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convert.paddle_mixer import MlpMixer

__version__ = "0.1.0"


def load_paddle(
    variant: str | None = None,
    *,
    checkpoint: str | PathLike[str] | None = None,
    num_classes: int | None = None,
    dtype: str | None = None,
    weights_key: str | None = None,
    ema: bool | None = None,
    **said: Any,
) -> MlpMixer:
    """Return a ready Paddle model, in evaluation mode, with the weights converted in memory.

    What the file and its manifest say of the config is followed; what nobody says is said in a warning.

    Args:
        variant: A name of `mixer-convert --list`. Default: read from the checkpoint's shapes.
        checkpoint: A local file, or a folder with one. Default: the variant's published weights, from the hub.
        num_classes: A fresh random head for so many classes, unless there is one for as many.
        dtype: float32, float16 or bfloat16. Default: that of the weights.
        weights_key: Which set of weights, where a checkpoint holds several.
        ema: The averaged or the raw ones, where their names say so.
        said: src (timm, google or paddle), gelu (erf or tanh) and layer_norm_eps, as the command's options.

    Raises:
        MixerConvertError: As `mixer-convert` reports it; the text says what to do.
    """
    import warnings
    from pathlib import Path

    from convert.adapt import Adaptation
    from convert.files.sets import Selection
    from convert.port import check_and_map, choose_source
    from convert.request import Request
    from convert.variants import get_variant

    if unknown := said.keys() - {"src", "gelu", "layer_norm_eps"}:
        raise TypeError(f"load_paddle: unknown {', '.join(sorted(unknown))}")
    request = Request(
        variant=get_variant(variant) if variant else None,
        checkpoint=Path(checkpoint) if checkpoint else None,
        selection=Selection(key=weights_key, ema=ema),
        adaptation=Adaptation(num_classes=num_classes, dtype=dtype),
        **said,
    )
    port = check_and_map(choose_source(request), request)
    if port.assumed:
        warnings.warn(port.assumed, stacklevel=2)

    from convert import paddle_mixer

    return paddle_mixer.build(port.config, port.conversion.state_dict)
