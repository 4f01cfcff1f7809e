"""The table of settings that paired modules have in common: classes, the setting's name, and how to read it.

Pure: classes and attributes are known by their names. Measured with torch 2.14.1 and paddlepaddle 3.3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.pairing.setting_values import (
    Reader,
    attribute,
    axis,
    channels_axis,
    dropped_axes,
    padding,
    padding_counts,
    padding_mode,
    per_axis,
    pool_stride,
    scale_or_size,
    upsampling,
)

Readers = Mapping[str, tuple[Reader | str, Reader | str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row: torch's classes, Paddle's, the setting's name in a sentence, and how to read it on either side.

    A class stands for its subclasses too. training: Whether it matters in training only.
    """

    reference: tuple[str, ...]
    candidate: tuple[str, ...]
    name: str
    of_reference: Reader
    of_candidate: Reader
    training: bool = False


def _always(value: Any) -> Reader:
    return lambda _: value


def _rows(reference: str, candidate: str, always: Readers, training: Readers | None = None) -> tuple[Setting, ...]:
    """Return the rows of one kind of module.

    Args:
        reference: Names of torch's classes, separated by spaces.
        candidate: Names of Paddle's classes, likewise.
        always: How to read each setting on either side, by the setting's name; a string is an attribute's name.
        training: The same for settings that matter in training only.
    """
    rows = []
    for name, readers in {**always, **(training or {})}.items():
        of_reference, of_candidate = (attribute(one) if isinstance(one, str) else one for one in readers)
        row = Setting(
            reference=tuple(reference.split()),
            candidate=tuple(candidate.split()),
            name=name,
            of_reference=of_reference,
            of_candidate=of_candidate,
            training=name in (training or {}),
        )
        rows.append(row)
    return tuple(rows)


def _fused(module: Any) -> str | None:
    """Return the name of the activation that one of timm's norms holds; None if it has none."""
    held = getattr(module, "act", None)
    name = type(held).__name__.lower()
    return None if held is None or name == "identity" else name


def _momentum(module: Any) -> Any:
    return "that of a cumulative average" if module.momentum is None else module.momentum


def _padding_index(module: Any) -> Any:
    index = module._padding_idx
    return index if index is None or index >= 0 else module._num_embeddings + index


def _gelu(module: Any) -> str:
    approximate = module._approximate
    return approximate if isinstance(approximate, str) else "tanh" if approximate else "none"


def _bound(attribute: str, of_relu6: float) -> Reader:
    return lambda module: of_relu6 if type(module).__name__ == "ReLU6" else getattr(module, attribute)


CHANNELS: tuple[Reader | str, Reader | str] = (_always("second"), channels_axis)
EPSILON: Readers = {"epsilon": ("eps", attribute("_epsilon", "epsilon"))}
POOL: Readers = {
    "kernel size": (per_axis("kernel_size"), per_axis("ksize", "kernel_size")),
    "stride": (pool_stride, pool_stride),
    "padding": (padding("padding"), padding("padding")),
    "ceil mode": ("ceil_mode", "ceil_mode"),
    "channels' axis": CHANNELS,
}
CONV: Readers = {
    "kernel size": (per_axis("kernel_size"), per_axis("_kernel_size")),
    "stride": (per_axis("stride"), per_axis("_stride")),
    "padding": (padding("padding"), padding("_padding")),
    "padding mode": ("padding_mode", "_padding_mode"),
    "dilation": (per_axis("dilation"), per_axis("_dilation")),
    "groups": ("groups", "_groups"),
    "output padding": (per_axis("output_padding"), per_axis("output_padding")),
    "channels' axis": CHANNELS,
}
BATCH_NORM: Readers = {
    **EPSILON,
    "fused activation": (_fused, lambda module: getattr(module, "_act", None)),
    "channels' axis": CHANNELS,
}
BATCH_NORM_TRAINING: Readers = {
    "momentum as torch has it": (_momentum, lambda module: 1 - module._momentum),
    "use of the running statistics": (_always(False), lambda module: bool(module._use_global_stats)),
}
RECURRENT: Readers = {
    "number of layers": ("num_layers", "num_layers"),
    "running both ways": ("bidirectional", lambda module: module.num_directions == 2),
    "batch first": ("batch_first", lambda module: not module.time_major),
}
PADDING: Readers = {
    "padding": ("padding", "padding"),
    "padding mode": (padding_mode, padding_mode),
    "value": (attribute("value", default=0), "value"),
}
AVERAGE: Readers = {
    "counting of the padding": (padding_counts, padding_counts),
    "divisor": ("divisor_override", "divisor"),
}
DROPOUT: Readers = {"mode": (_always("upscale_in_train"), attribute("mode", default="upscale_in_train"))}
DROPOUT_TRAINING: Readers = {"probability": ("p", "p"), "axes": (dropped_axes, dropped_axes)}
UPSAMPLE: Readers = {"size": (scale_or_size, scale_or_size), "interpolation": (upsampling, upsampling)}
ALPHA: Readers = {"alpha": ("alpha", "_alpha")}
AXIS: Readers = {"axis": (axis("dim"), axis("_axis"))}
OUTPUT: Readers = {"output size": (per_axis("output_size"), per_axis("_output_size", "output_size"))}
SHRINK: Readers = {"threshold": ("lambd", "_threshold")}
BOUNDS: Readers = {"lower bound": ("min_val", _bound("_min", 0)), "upper bound": ("max_val", _bound("_max", 6))}
LOCAL: Readers = {name: (name, name) for name in ("size", "alpha", "beta", "k")}
EMBEDDING: Readers = {"padding index": ("padding_idx", _padding_index), "largest norm": ("max_norm", "_max_norm")}
PRELU: Readers = {"number of parameters": ("num_parameters", "_num_parameters"), "channels' axis": CHANNELS}
ATTENTION: Readers = {"number of heads": ("num_heads", "num_heads"), "batch first": ("batch_first", _always(True))}
INNER_DROPOUT: Readers = {"dropout": ("dropout", "dropout")}
PADS = "_ConstantPadNd _ReflectionPadNd _ReplicationPadNd _CircularPadNd"

SETTINGS: tuple[Setting, ...] = (
    *_rows("_ConvNd", "_ConvNd", CONV),
    *_rows("_BatchNorm", "_BatchNormBase BatchNorm", BATCH_NORM, BATCH_NORM_TRAINING),
    *_rows("LayerNorm", "LayerNorm", {**EPSILON, "normalized shape": ("normalized_shape", "_normalized_shape")}),
    *_rows("GroupNorm", "GroupNorm", {**EPSILON, "number of groups": ("num_groups", "_num_groups")}),
    *_rows("GroupNorm", "GroupNorm", {"channels' axis": CHANNELS}),
    *_rows("_InstanceNorm", "_InstanceNormBase", EPSILON),
    *_rows("Embedding", "Embedding", EMBEDDING),
    *_rows("PReLU", "PReLU", PRELU),
    *_rows("MultiheadAttention", "MultiHeadAttention", ATTENTION, INNER_DROPOUT),
    *_rows("LSTM GRU RNN", "LSTM GRU SimpleRNN", RECURRENT, INNER_DROPOUT),
    *_rows("_MaxPoolNd", "MaxPool1D MaxPool2D MaxPool3D", {**POOL, "dilation": (per_axis("dilation"), _always(1))}),
    *_rows("_AvgPoolNd", "AvgPool1D AvgPool2D AvgPool3D", {**POOL, **AVERAGE}),
    *_rows("_AdaptiveAvgPoolNd", "AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveAvgPool3D", OUTPUT),
    *_rows("_AdaptiveMaxPoolNd", "AdaptiveMaxPool1D AdaptiveMaxPool2D AdaptiveMaxPool3D", OUTPUT),
    *_rows("LeakyReLU", "LeakyReLU", {"negative slope": ("negative_slope", "_negative_slope")}),
    *_rows("GELU", "GELU", {"approximation": ("approximate", _gelu)}),
    *_rows("ELU", "ELU", ALPHA),
    *_rows("CELU", "CELU", ALPHA),
    *_rows("Hardtanh", "Hardtanh ReLU6", BOUNDS),
    *_rows("Softplus", "Softplus", {"beta": ("beta", "_beta"), "threshold": ("threshold", "_threshold")}),
    *_rows("Softshrink", "Softshrink", SHRINK),
    *_rows("Hardshrink", "Hardshrink", SHRINK),
    *_rows("Threshold", "ThresholdedReLU", {"threshold": ("threshold", "_threshold"), "value": ("value", "_value")}),
    *_rows("Softmax", "Softmax", AXIS),
    *_rows("LogSoftmax", "LogSoftmax", AXIS),
    *_rows("GLU", "GLU", AXIS),
    *_rows("_DropoutNd", "Dropout Dropout2D Dropout3D AlphaDropout FeatureAlphaDropout", DROPOUT, DROPOUT_TRAINING),
    *_rows("Upsample", "Upsample UpsamplingBilinear2D UpsamplingNearest2D", UPSAMPLE),
    *_rows("PixelShuffle", "PixelShuffle", {"factor": ("upscale_factor", "_upscale_factor")}),
    *_rows("PixelUnshuffle", "PixelUnshuffle", {"factor": ("downscale_factor", "_downscale_factor")}),
    *_rows("ChannelShuffle", "ChannelShuffle", {"groups": ("groups", "_groups")}),
    *_rows(PADS, "_PadnD", PADDING),
    *_rows("Flatten", "Flatten", {"first axis": ("start_dim", "start_axis"), "last axis": ("end_dim", "stop_axis")}),
    *_rows("LocalResponseNorm", "LocalResponseNorm", LOCAL),
)
