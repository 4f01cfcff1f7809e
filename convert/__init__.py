"""Conversion of timm's vision-MLP checkpoints to PaddlePaddle: a state dict in, a state dict out."""

from __future__ import annotations

from os import PathLike
from typing import Any

__version__ = "0.1.0"


def load_paddle(
    variant: str | None = None,
    *,
    checkpoint: str | PathLike[str] | None = None,
    num_classes: int | None = None,
    dtype: str | None = None,
    **said: Any,
) -> Any:
    """Return a ready Paddle model, a `paddle.nn.Layer`, in evaluation mode, with the weights converted in memory.

    What the file and its manifest say of the config is followed; what nobody says is said in a warning.

    Args:
        variant: A name of `mixer-convert --list`. Default: read from the checkpoint's shapes.
        checkpoint: A local file, or a folder with one. Default: the variant's published weights, from the hub.
        num_classes: A fresh random head for so many classes, unless there is one for as many.
        dtype: float32, float16 or bfloat16. Default: that of the weights.
        said: src (timm, google or paddle), weights_key and ema (which of several sets of weights), gelu (erf or tanh)
            and layer_norm_eps, as the command's options.

    Raises:
        MixerConvertError: As `mixer-convert` reports it; the text says what to do.
    """
    import warnings
    from pathlib import Path

    from convert.installed import require
    from convert.job import check_and_map, choose_source, request_of
    from convert.request import Adaptation

    if unknown := said.keys() - {"src", "weights_key", "ema", "gelu", "layer_norm_eps"}:
        raise TypeError(f"load_paddle: unknown {', '.join(sorted(unknown))}")
    require("paddle")
    path = Path(checkpoint) if checkpoint else None
    adaptation = Adaptation(num_classes=num_classes, dtype=dtype)
    request = request_of(variant=variant, checkpoint=path, adaptation=adaptation, **said)
    port = check_and_map(choose_source(request), request)
    if port.assumed:
        warnings.warn(port.assumed, stacklevel=2)
    return port.source.family.build(port.config, port.conversion.state_dict)
