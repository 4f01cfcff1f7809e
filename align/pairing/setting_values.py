"""How a setting is read off a module of either framework, in one form however it was given. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Reader = Callable[[Any], Any]
"""Function that reads a setting off a module; it raises AttributeError if there is none to compare."""

REQUIRED = object()
FRAMEWORKS = ("torch.", "paddle.")
PAD_MODES = {"_ConstantPadNd": "constant", "_ReflectionPadNd": "reflect", "_ReplicationPadNd": "replicate"}
LINEAR = ("linear", "bilinear", "trilinear", "bicubic")
ALL_OF_A_CHANNEL = (0, 1)


class Axis(int):
    """An axis; one counted from the front and one from the back cannot be compared: the number of axes is unknown."""


def attribute(*names: str, default: Any = REQUIRED) -> Reader:
    """Return a reader of the first of these attributes that exists, or else of the default."""

    def read(module: Any) -> Any:
        for name in names:
            if hasattr(module, name):
                return getattr(module, name)
        if default is REQUIRED:
            raise AttributeError(names[0])
        return default

    return read


def per_axis(*names: str) -> Reader:
    """Return a reader of a size for each axis: a single number if all are the same."""
    return lambda module: _collapsed(attribute(*names)(module))


def axis(name: str) -> Reader:
    """Return a reader of an axis."""

    def read(module: Any) -> Axis:
        if (value := getattr(module, name)) is None:
            raise AttributeError(name)
        return Axis(value)

    return read


def padding(name: str) -> Reader:
    """Return a reader of a padding: a number, one per axis, or (before, after) per axis; "same" if inputs decide.

    A subclass with a forward of its own may pad otherwise than the attribute says, as timm's Conv2dSame does, so its
    padding is not compared.
    """

    def read(module: Any) -> Any:
        if not getattr(type(module).forward, "__module__", "").startswith(FRAMEWORKS):
            raise AttributeError(name)
        return _padding(module, getattr(module, name))

    return read


def pool_stride(module: Any) -> Any:
    """Return a pooling's stride, which is its kernel size if none was given."""
    return _collapsed(module.stride) if module.stride is not None else _kernel(module)


def padding_counts(module: Any) -> bool:
    """Return whether an average pooling counts the padding; without padding there is nothing to compare."""
    if _padding(module, module.padding) == 0:
        raise AttributeError("padding")
    return bool(module.count_include_pad) if hasattr(module, "count_include_pad") else not module.exclusive


def channels_axis(layer: Any) -> str:
    """Return which axis one of Paddle's layers takes for the channels: the second or the last."""
    layout = attribute("_data_format", "data_format", "_data_layout")(layer)
    return "second" if str(layout).startswith("NC") else "last"


def dropped_axes(module: Any) -> Any:
    """Return the axes along which a dropout draws; None if it draws for each element."""
    if getattr(module, "axis", None) is not None:
        chosen = module.axis
        return tuple(sorted(chosen)) if isinstance(chosen, list | tuple) else (chosen,)
    if not any(re.search(r"\d[dD]$|^Feature", one) for one in _names(module)):
        return None
    layout = str(getattr(module, "data_format", "NC"))
    return ALL_OF_A_CHANNEL if layout.startswith("NC") else (0, len(layout) - 1)


def padding_mode(module: Any) -> str:
    """Return what a padding layer pads with."""
    if hasattr(module, "_mode"):
        return str(module._mode)
    return next((PAD_MODES[name] for name in _names(module) if name in PAD_MODES), "circular")


def scale_or_size(module: Any) -> str:
    """Return the size of an upsampling's output: a fixed size, or a multiple of the input's."""
    if module.size is not None:
        return f"{_plain(module.size)}"
    return f"{_plain(module.scale_factor)} times the input's"


def upsampling(module: Any) -> str:
    """Return how an upsampling interpolates; whether corners are aligned matters only where it is linear or cubic."""
    names = list(_names(module))
    mode, aligned = str(getattr(module, "mode", "nearest")).lower(), bool(getattr(module, "align_corners", False))
    if "UpsamplingBilinear2D" in names:
        mode, aligned = "bilinear", True
    if mode not in LINEAR:
        return mode
    if not aligned and getattr(module, "align_mode", 0) == 1 and mode != "bicubic":
        return f"{mode}, align_mode 1"
    return f"{mode}, corners {'aligned' if aligned else 'not aligned'}"


def _padding(module: Any, value: Any) -> Any:
    """Return a padding in the form that `padding` describes."""
    axes = _axes(module)
    if isinstance(value, str):
        if value.lower() == "valid":
            return 0
        stride = attribute("_stride", "stride")(module)
        if value.lower() != "same" or _collapsed(stride if stride is not None else 0) != 1:
            return value.lower()
        value = list(_same(module, axes))
    elif isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        layout = str(attribute("_data_format", "data_format", default="NC")(module))
        inner = value if len(value) == axes else value[2:] if layout.startswith("NC") else value[1:-1]
        value = [side for pair in inner for side in pair]
    if isinstance(value, list | tuple) and len(value) == 2 * axes:
        pairs = [tuple(value[i : i + 2]) for i in range(0, 2 * axes, 2)]
        value = [one[0] for one in pairs] if all(before == after for before, after in pairs) else pairs
    return _collapsed(value)


def _same(module: Any, axes: int) -> Iterator[int]:
    """Yield the padding before and after each axis with which it keeps its length at stride 1.

    With "same" padding Paddle's layers have no dilation, whatever they were given.
    """
    kernel, dilation = _per_axis(_kernel(module), axes), _per_axis(getattr(module, "dilation", 1), axes)
    for size, apart in zip(kernel, dilation, strict=True):
        total = apart * (size - 1)
        yield from (total // 2, total - total // 2)


def _kernel(module: Any) -> Any:
    return _collapsed(attribute("ksize", "kernel_size", "_kernel_size")(module))


def _per_axis(value: Any, axes: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * axes


def _axes(module: Any) -> int:
    """Return how many axes besides batch and channels a convolution or pooling has, according to its class's name."""
    found = (re.search(r"([123])[dD]", name) for name in _names(module))
    return next((int(match.group(1)) for match in found if match), 1)


def _names(module: Any) -> Iterator[str]:
    return (kind.__name__ for kind in type(module).__mro__)


def _plain(value: Any) -> str:
    value = _collapsed(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _collapsed(value: Any) -> Any:
    """Return the number that all axes have in common, else a tuple; a single value is returned as it is."""
    if not isinstance(value, list | tuple):
        return value
    items = tuple(value)
    return items[0] if items and all(item == items[0] for item in items) else items
