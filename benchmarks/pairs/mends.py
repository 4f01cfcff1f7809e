"""Corrections of candidates' known deviations, and makers of models that no package offers under one name."""

import importlib
from collections.abc import Iterator
from typing import Any

from align.mixer.models import build_timm
from align.mixer.specimens import small
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerKind

INCEPTION_EPSILON = 1e-3
"""BatchNorm's epsilon in torchvision/models/inception.py, BasicConv2d: BatchNorm2d(eps=0.001)."""


def dropout(model: Any) -> None:
    """Make dropout scale in training, so that inference leaves values unchanged, as in torch."""
    for layer in _of(model, "Dropout"):
        layer.mode = "upscale_in_train"


def squeezenet(model: Any) -> None:
    """Set SqueezeNet's ceil mode, first convolution without padding, and dropout as in torchvision."""
    dropout(model)
    for pool in _of(model, "MaxPool2D"):
        pool.ceil_mode = True
    model._conv._padding, model._conv._updated_padding = 0, [0, 0]


def inception(model: Any) -> None:
    """Set Inception's epsilon and dropout as in torchvision."""
    dropout(model)
    for layer in _of(model, "Dropout"):
        layer.p = 0.5
    for norm in _of(model, "BatchNorm2D", "BatchNorm"):
        norm._epsilon = INCEPTION_EPSILON


def swin(model: Any) -> None:
    """Remove the shift from Swin's last stage, where a window is the whole map."""
    for block in model.layers[-1].blocks:
        block.shift_size, block.attn_mask = 0, None


def small_of_timm(kind: MixerKind) -> Any:
    """Return timm's model with the small config of a kind."""
    config = small(kind)
    return build_timm(config, None, init_state_dict(config, 0))


def language_model(package: str, name: str, **config: Any) -> Any:
    """Return a package's language model with this config.

    Raises:
        ImportError: The package is not installed.
    """
    module = importlib.import_module(package)
    return getattr(module, f"{name}Model")(getattr(module, f"{name}Config")(**config))


def _of(model: Any, *types: str) -> Iterator[Any]:
    return (layer for layer in model.sublayers() if type(layer).__name__ in types)
