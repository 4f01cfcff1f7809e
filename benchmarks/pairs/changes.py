"""Changes to a Paddle layer's settings, or of the layer itself, each planted by path in a copy of the model."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pairs.bed import Change, Plant

from convert.arrays import Shape, StateDict

ACTIVATIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ReLU": ("GELU", {}),
    "ReLU6": ("Hardswish", {}),
    "LeakyReLU": ("ReLU", {}),
    "Swish": ("Hardswish", {}),
    "Silu": ("Hardswish", {}),
    "Hardswish": ("Swish", {}),
    "Hardsigmoid": ("Sigmoid", {}),
    "Sigmoid": ("Hardsigmoid", {}),
    "Mish": ("Swish", {}),
    "Tanh": ("Hardtanh", {}),
}
"""Stand-ins for activations, with other values wherever the input is not zero or large; GELU gets its other form."""


def set_attributes(path: str, **attributes: Any) -> Plant:
    """Return the plant that sets attributes of a layer."""

    def plant(layers: dict[str, Any], _: StateDict) -> None:
        for name, value in attributes.items():
            setattr(layers[path], name, value)

    return plant


def set_layer(path: str, make: Callable[[Any], Any]) -> Plant:
    """Return the plant that replaces a layer by another one made from it."""

    def plant(layers: dict[str, Any], _: StateDict) -> None:
        parent, _, name = path.rpartition(".")
        made = make(layers[path])
        made.eval()
        layers[parent]._sub_layers[name] = made

    return plant


def epsilon(path: str, layer: Any) -> Change:
    """Return the change that multiplies a norm's epsilon by ten."""
    value = 10 * layer._epsilon
    return Change(layers=(path,), what=f"epsilon {value:.0e}", plant=set_attributes(path, _epsilon=value))


def padded(path: str, layer: Any) -> Change:
    """Return the change that makes a convolution repeat the edge around its input."""

    def repeating(old: Any) -> Any:
        from paddle import nn

        made = nn.Conv2D(
            old._in_channels,
            old._out_channels,
            old._kernel_size,
            stride=old._stride,
            padding=old._padding,
            padding_mode="replicate",
            dilation=old._dilation,
            groups=old._groups,
            bias_attr=None if old.bias is not None else False,
            data_format=old._data_format,
        )
        made.weight, made.bias = old.weight, old.bias
        return made

    return Change(layers=(path,), what="padding mode replicate", plant=set_layer(path, repeating))


def stepped(path: str, layer: Any) -> Change | None:
    """Return the change that makes a layer step by one; None for one that does so already."""
    name = "_stride" if hasattr(layer, "_stride") else "stride"
    stride = getattr(layer, name, None)
    if name == "stride" and stride is None:
        stride = layer.ksize
    if stride is None or not np.any(np.asarray(stride) > 1):
        return None
    one = 1 if isinstance(stride, int) else [1] * len(stride)
    return Change(layers=(path,), what="stride 1", plant=set_attributes(path, **{name: one}))


def activation(path: str, layer: Any) -> Change | None:
    """Return the change to another activation; None for a layer that is not a known one of Paddle's."""
    from paddle import nn

    kind = type(layer).__name__
    if not type(layer).__module__.startswith("paddle.nn."):
        return None
    if kind == "GELU":
        approximate = not layer._approximate
        what = f"GELU(approximate={approximate})"
        return Change(layers=(path,), what=what, plant=set_layer(path, lambda _: nn.GELU(approximate=approximate)))
    if kind not in ACTIVATIONS:
        return None
    name, options = ACTIVATIONS[kind]
    return Change(
        layers=(path,), what=f"{name} for {kind}", plant=set_layer(path, lambda _: getattr(nn, name)(**options))
    )


def pooled(path: str, layer: Any, given: Shape | None, returned: Shape | None) -> Change | None:
    """Return the change to the other kind of pooling; None where the shapes are not known or it reduces nothing."""
    from paddle import nn

    kind = type(layer).__name__
    if given is None or returned is None or given == returned or np.prod(given) <= np.prod(returned):
        return None
    if kind == "AdaptiveAvgPool2D":
        size = layer._output_size
        return Change(
            layers=(path,),
            what="the greatest for the mean",
            plant=set_layer(path, lambda _: nn.AdaptiveMaxPool2D(size)),
        )
    name, what = (
        ("AvgPool2D", "the mean for the greatest")
        if kind == "MaxPool2D"
        else ("MaxPool2D", "the greatest for the mean")
    )

    def make(old: Any) -> Any:
        return getattr(nn, name)(old.ksize, stride=old.stride, padding=old.padding, ceil_mode=old.ceil_mode)

    return Change(layers=(path,), what=what, plant=set_layer(path, make))
