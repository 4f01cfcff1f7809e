"""The settings of paired modules: for each row one pair that is the same and one that is not, in both frameworks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from align.pairing.setting_table import SETTINGS
from align.pairing.settings import differences, known_constant
from convert.arrays import Array

pytestmark = pytest.mark.usefixtures("frameworks")
Build = Callable[[Any], Any]
TRAINING = ", which matters in training only"

SAME: dict[str, tuple[Build, Build]] = {
    "Conv2d": (
        lambda nn: nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=2, groups=2, padding_mode="circular"),
        lambda nn: nn.Conv2D(4, 4, [3, 3], stride=[2, 2], padding=1, dilation=2, groups=2, padding_mode="circular"),
    ),
    "Conv2d, padding per axis": (
        lambda nn: nn.Conv2d(2, 2, (3, 5), padding=(1, 2)),
        lambda nn: nn.Conv2D(2, 2, (3, 5), padding=[1, 1, 2, 2]),
    ),
    "Conv2d, padding in pairs": (
        lambda nn: nn.Conv2d(2, 2, 3, padding=(1, 2)),
        lambda nn: nn.Conv2D(2, 2, 3, padding=[[0, 0], [0, 0], [1, 1], [2, 2]]),
    ),
    "Conv2d, same": (lambda nn: nn.Conv2d(2, 2, 3, padding="same"), lambda nn: nn.Conv2D(2, 2, 3, padding="SAME")),
    "Conv2d, same as 1": (lambda nn: nn.Conv2d(2, 2, 3, padding=1), lambda nn: nn.Conv2D(2, 2, 3, padding="SAME")),
    "Conv2d, even and same": (
        lambda nn: nn.Conv2d(2, 2, 4, padding="same"),
        lambda nn: nn.Conv2D(2, 2, 4, padding=[1, 2, 1, 2]),
    ),
    "Conv2d, valid": (lambda nn: nn.Conv2d(2, 2, 3, padding="valid"), lambda nn: nn.Conv2D(2, 2, 3, padding="VALID")),
    "Conv1d": (lambda nn: nn.Conv1d(2, 2, 3, padding=1), lambda nn: nn.Conv1D(2, 2, 3, padding=[1])),
    "Conv3d": (lambda nn: nn.Conv3d(2, 2, 3, padding=(0, 1, 2)), lambda nn: nn.Conv3D(2, 2, 3, padding=[0, 1, 2])),
    "ConvTranspose2d": (
        lambda nn: nn.ConvTranspose2d(2, 2, 3, stride=2, output_padding=1),
        lambda nn: nn.Conv2DTranspose(2, 2, 3, stride=2, output_padding=1),
    ),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(3), lambda nn: nn.BatchNorm2D(3)),
    "BatchNorm2d, momentum": (lambda nn: nn.BatchNorm2d(3, momentum=0.01), lambda nn: nn.BatchNorm(3, momentum=0.99)),
    "BatchNorm2d, epsilon rounded": (
        lambda nn: nn.BatchNorm2d(3, eps=float(np.float32(1e-5))),
        lambda nn: nn.BatchNorm2D(3, epsilon=1e-5),
    ),
    "LayerNorm": (lambda nn: nn.LayerNorm((3, 4), eps=1e-6), lambda nn: nn.LayerNorm([3, 4], epsilon=1e-6)),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 4), lambda nn: nn.GroupNorm(2, 4)),
    "InstanceNorm2d": (lambda nn: nn.InstanceNorm2d(4), lambda nn: nn.InstanceNorm2D(4)),
    "Embedding": (lambda nn: nn.Embedding(5, 4, padding_idx=-1), lambda nn: nn.Embedding(5, 4, padding_idx=-1)),
    "PReLU": (lambda nn: nn.PReLU(3), lambda nn: nn.PReLU(3)),
    "MultiheadAttention": (
        lambda nn: nn.MultiheadAttention(4, 2, batch_first=True),
        lambda nn: nn.MultiHeadAttention(4, 2),
    ),
    "LSTM": (
        lambda nn: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
        lambda nn: nn.LSTM(3, 4, num_layers=2, direction="bidirect", time_major=True),
    ),
    "GRU": (lambda nn: nn.GRU(3, 4, batch_first=True), lambda nn: nn.GRU(3, 4)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(3, 2, 1), lambda nn: nn.MaxPool2D([3, 3], 2, [1, 1])),
    "MaxPool2d, its own stride": (lambda nn: nn.MaxPool2d((2, 2)), lambda nn: nn.MaxPool2D(2)),
    "AvgPool2d": (
        lambda nn: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        lambda nn: nn.AvgPool2D(3, 2, 1, exclusive=True),
    ),
    "AvgPool2d, no padding": (lambda nn: nn.AvgPool2d(2), lambda nn: nn.AvgPool2D(2)),
    "AvgPool1d": (lambda nn: nn.AvgPool1d(2, padding=1), lambda nn: nn.AvgPool1D(2, padding=1, exclusive=False)),
    "AdaptiveAvgPool2d": (lambda nn: nn.AdaptiveAvgPool2d((2, 2)), lambda nn: nn.AdaptiveAvgPool2D(2)),
    "AdaptiveMaxPool1d": (lambda nn: nn.AdaptiveMaxPool1d(2), lambda nn: nn.AdaptiveMaxPool1D(2)),
    "LeakyReLU": (lambda nn: nn.LeakyReLU(0.2), lambda nn: nn.LeakyReLU(0.2)),
    "GELU": (lambda nn: nn.GELU(), lambda nn: nn.GELU()),
    "GELU, tanh": (lambda nn: nn.GELU("tanh"), lambda nn: nn.GELU(approximate=True)),
    "ELU": (lambda nn: nn.ELU(0.5), lambda nn: nn.ELU(0.5)),
    "CELU": (lambda nn: nn.CELU(0.5), lambda nn: nn.CELU(0.5)),
    "Hardtanh": (lambda nn: nn.Hardtanh(-2, 2), lambda nn: nn.Hardtanh(-2, 2)),
    "ReLU6": (lambda nn: nn.ReLU6(), lambda nn: nn.ReLU6()),
    "ReLU6 as Hardtanh": (lambda nn: nn.Hardtanh(0, 6), lambda nn: nn.ReLU6()),
    "Softplus": (lambda nn: nn.Softplus(), lambda nn: nn.Softplus()),
    "Softshrink": (lambda nn: nn.Softshrink(), lambda nn: nn.Softshrink()),
    "Hardshrink": (lambda nn: nn.Hardshrink(), lambda nn: nn.Hardshrink()),
    "Threshold": (lambda nn: nn.Threshold(1.0, 0.0), lambda nn: nn.ThresholdedReLU()),
    "Softmax": (lambda nn: nn.Softmax(dim=-1), lambda nn: nn.Softmax()),
    "Softmax, maybe the same": (lambda nn: nn.Softmax(dim=1), lambda nn: nn.Softmax(axis=-1)),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(dim=1), lambda nn: nn.LogSoftmax(axis=1)),
    "GLU": (lambda nn: nn.GLU(), lambda nn: nn.GLU()),
    "Dropout": (lambda nn: nn.Dropout(0.2), lambda nn: nn.Dropout(0.2)),
    "Dropout2d": (lambda nn: nn.Dropout2d(0.2), lambda nn: nn.Dropout2D(0.2)),
    "Dropout2d by axes": (lambda nn: nn.Dropout2d(0.2), lambda nn: nn.Dropout(0.2, axis=[1, 0])),
    "AlphaDropout": (lambda nn: nn.AlphaDropout(0.2), lambda nn: nn.AlphaDropout(0.2)),
    "Upsample": (lambda nn: nn.Upsample(scale_factor=2), lambda nn: nn.Upsample(scale_factor=[2, 2])),
    "Upsample, bilinear": (
        lambda nn: nn.Upsample(size=(6, 7), mode="bilinear"),
        lambda nn: nn.Upsample(size=[6, 7], mode="bilinear"),
    ),
    "Upsample, bicubic, which has no align mode": (
        lambda nn: nn.Upsample(scale_factor=2, mode="bicubic"),
        lambda nn: nn.Upsample(scale_factor=2, mode="bicubic", align_mode=1),
    ),
    "UpsamplingBilinear2d": (
        lambda nn: nn.UpsamplingBilinear2d(scale_factor=2),
        lambda nn: nn.UpsamplingBilinear2D(scale_factor=2),
    ),
    "UpsamplingNearest2d": (
        lambda nn: nn.UpsamplingNearest2d(scale_factor=2),
        lambda nn: nn.UpsamplingNearest2D(scale_factor=2),
    ),
    "PixelShuffle": (lambda nn: nn.PixelShuffle(2), lambda nn: nn.PixelShuffle(2)),
    "PixelUnshuffle": (lambda nn: nn.PixelUnshuffle(2), lambda nn: nn.PixelUnshuffle(2)),
    "ChannelShuffle": (lambda nn: nn.ChannelShuffle(2), lambda nn: nn.ChannelShuffle(2)),
    "ZeroPad2d": (lambda nn: nn.ZeroPad2d(1), lambda nn: nn.ZeroPad2D(1)),
    "ConstantPad2d": (lambda nn: nn.ConstantPad2d((1, 2, 3, 4), 5), lambda nn: nn.Pad2D([1, 2, 3, 4], value=5)),
    "ReflectionPad1d": (lambda nn: nn.ReflectionPad1d(1), lambda nn: nn.Pad1D(1, mode="reflect")),
    "CircularPad2d": (lambda nn: nn.CircularPad2d(1), lambda nn: nn.Pad2D(1, mode="circular")),
    "Flatten": (lambda nn: nn.Flatten(), lambda nn: nn.Flatten()),
    "LocalResponseNorm": (lambda nn: nn.LocalResponseNorm(3), lambda nn: nn.LocalResponseNorm(3)),
    "Linear": (lambda nn: nn.Linear(2, 3), lambda nn: nn.Linear(2, 3)),
    "other classes": (lambda nn: nn.LayerNorm(3), lambda nn: nn.GroupNorm(1, 3, epsilon=0.5)),
}


def _is(name: str, found: str, wanted: str, *, training: bool = False) -> str:
    return f"{name} is {found}, the reference's {wanted}{TRAINING if training else ''}"


DIFFERENT: list[tuple[str, Build, Build, list[str]]] = [
    (
        "Conv2d",
        lambda nn: nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=1, groups=2),
        lambda nn: nn.Conv2D(4, 4, (3, 5), stride=(2, 1), padding=[1, 0], dilation=2, groups=1, padding_mode="zeros"),
        [
            _is("kernel size", "(3, 5)", "3"),
            _is("stride", "(2, 1)", "2"),
            _is("padding", "(1, 0)", "1"),
            _is("dilation", "2", "1"),
            _is("groups", "1", "2"),
        ],
    ),
    (
        "Conv2d, asymmetric",
        lambda nn: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        lambda nn: nn.Conv2D(2, 2, 3, padding=[1, 2, 1, 1], data_format="NHWC"),
        [
            _is("padding", "((1, 2), (1, 1))", "1"),
            _is("padding mode", "zeros", "reflect"),
            _is("channels' axis", "last", "second"),
        ],
    ),
    (
        "Conv2d, same at stride 2",
        lambda nn: nn.Conv2d(2, 2, 3, stride=2, padding=1),
        lambda nn: nn.Conv2D(2, 2, 3, stride=2, padding="SAME"),
        [_is("padding", "same", "1")],
    ),
    (
        "Conv2d, same with dilation",
        lambda nn: nn.Conv2d(2, 2, 3, dilation=2, padding="same"),
        lambda nn: nn.Conv2D(2, 2, 3, dilation=2, padding="SAME"),
        [_is("padding", "1", "2")],
    ),
    (
        "ConvTranspose2d",
        lambda nn: nn.ConvTranspose2d(2, 2, 3, stride=2, output_padding=1),
        lambda nn: nn.Conv2DTranspose(2, 2, 3, stride=2),
        [_is("output padding", "0", "1")],
    ),
    (
        "BatchNorm2d",
        lambda nn: nn.BatchNorm2d(3, eps=1e-3, momentum=None),
        lambda nn: nn.BatchNorm(3, act="relu", momentum=0.99, use_global_stats=True, data_layout="NHWC"),
        [
            _is("epsilon", "1e-05", "0.001"),
            _is("fused activation", "relu", "none"),
            _is("channels' axis", "last", "second"),
            _is("momentum as torch has it", "0.01", "that of a cumulative average", training=True),
            _is("use of the running statistics", "on", "off", training=True),
        ],
    ),
    (
        "BatchNorm2d, momentum mistaken",
        lambda nn: nn.BatchNorm2d(3, momentum=0.1),
        lambda nn: nn.BatchNorm2D(3, momentum=0.1),
        [_is("momentum as torch has it", "0.9", "0.1", training=True)],
    ),
    (
        "LayerNorm",
        lambda nn: nn.LayerNorm((3, 3), eps=1e-6),
        lambda nn: nn.LayerNorm([3]),
        [_is("epsilon", "1e-05", "1e-06"), _is("normalized shape", "(3)", "(3, 3)")],
    ),
    (
        "GroupNorm",
        lambda nn: nn.GroupNorm(2, 4),
        lambda nn: nn.GroupNorm(4, 4, epsilon=1e-6, data_format="NHWC"),
        [
            _is("epsilon", "1e-06", "1e-05"),
            _is("number of groups", "4", "2"),
            _is("channels' axis", "last", "second"),
        ],
    ),
    (
        "InstanceNorm2d",
        lambda nn: nn.InstanceNorm2d(4),
        lambda nn: nn.InstanceNorm2D(4, epsilon=1e-3),
        [_is("epsilon", "0.001", "1e-05")],
    ),
    (
        "Embedding",
        lambda nn: nn.Embedding(5, 4, padding_idx=4, max_norm=1.0),
        lambda nn: nn.Embedding(5, 4),
        [_is("padding index", "none", "4"), _is("largest norm", "none", "1")],
    ),
    (
        "PReLU",
        lambda nn: nn.PReLU(3),
        lambda nn: nn.PReLU(1, data_format="NHWC"),
        [_is("number of parameters", "1", "3"), _is("channels' axis", "last", "second")],
    ),
    (
        "MultiheadAttention",
        lambda nn: nn.MultiheadAttention(4, 2, dropout=0.1),
        lambda nn: nn.MultiHeadAttention(4, 4),
        [
            _is("number of heads", "4", "2"),
            _is("batch first", "on", "off"),
            _is("dropout", "0", "0.1", training=True),
        ],
    ),
    (
        "LSTM",
        lambda nn: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
        lambda nn: nn.LSTM(3, 4, dropout=0.5),
        [
            _is("number of layers", "1", "2"),
            _is("running both ways", "off", "on"),
            _is("batch first", "on", "off"),
            _is("dropout", "0.5", "0", training=True),
        ],
    ),
    (
        "MaxPool2d",
        lambda nn: nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True),
        lambda nn: nn.MaxPool2D((3, 2), data_format="NHWC"),
        [
            _is("kernel size", "(3, 2)", "3"),
            _is("stride", "(3, 2)", "2"),
            _is("padding", "0", "1"),
            _is("ceil mode", "off", "on"),
            _is("channels' axis", "last", "second"),
            _is("dilation", "1", "2"),
        ],
    ),
    (
        "AvgPool2d",
        lambda nn: nn.AvgPool2d(3, 2, 1, divisor_override=4),
        lambda nn: nn.AvgPool2D(3, 2, 1, ceil_mode=True),
        [
            _is("ceil mode", "on", "off"),
            _is("counting of the padding", "off", "on"),
            _is("divisor", "none", "4"),
        ],
    ),
    (
        "AvgPool2d, sizes",
        lambda nn: nn.AvgPool2d(3),
        lambda nn: nn.AvgPool2D(2, 1, padding=[1, 1], data_format="NHWC"),
        [
            _is("kernel size", "2", "3"),
            _is("stride", "1", "3"),
            _is("padding", "1", "0"),
            _is("channels' axis", "last", "second"),
        ],
    ),
    (
        "AdaptiveAvgPool2d",
        lambda nn: nn.AdaptiveAvgPool2d((2, None)),
        lambda nn: nn.AdaptiveAvgPool2D(2),
        [_is("output size", "2", "(2, none)")],
    ),
    (
        "AdaptiveMaxPool2d",
        lambda nn: nn.AdaptiveMaxPool2d(1),
        lambda nn: nn.AdaptiveMaxPool2D(2),
        [_is("output size", "2", "1")],
    ),
    ("LeakyReLU", lambda nn: nn.LeakyReLU(), lambda nn: nn.LeakyReLU(0.2), [_is("negative slope", "0.2", "0.01")]),
    ("GELU", lambda nn: nn.GELU(), lambda nn: nn.GELU(approximate=True), [_is("approximation", "tanh", "none")]),
    ("ELU", lambda nn: nn.ELU(), lambda nn: nn.ELU(0.5), [_is("alpha", "0.5", "1")]),
    ("CELU", lambda nn: nn.CELU(), lambda nn: nn.CELU(0.5), [_is("alpha", "0.5", "1")]),
    (
        "Hardtanh",
        lambda nn: nn.ReLU6(),
        lambda nn: nn.Hardtanh(),
        [_is("lower bound", "-1", "0"), _is("upper bound", "1", "6")],
    ),
    (
        "Hardtanh as ReLU6",
        lambda nn: nn.Hardtanh(),
        lambda nn: nn.ReLU6(),
        [_is("lower bound", "0", "-1"), _is("upper bound", "6", "1")],
    ),
    (
        "Softplus",
        lambda nn: nn.Softplus(),
        lambda nn: nn.Softplus(beta=2, threshold=10),
        [_is("beta", "2", "1"), _is("threshold", "10", "20")],
    ),
    ("Softshrink", lambda nn: nn.Softshrink(), lambda nn: nn.Softshrink(0.25), [_is("threshold", "0.25", "0.5")]),
    ("Hardshrink", lambda nn: nn.Hardshrink(), lambda nn: nn.Hardshrink(0.25), [_is("threshold", "0.25", "0.5")]),
    (
        "Threshold",
        lambda nn: nn.Threshold(0.5, 2.0),
        lambda nn: nn.ThresholdedReLU(),
        [_is("threshold", "1", "0.5"), _is("value", "0", "2")],
    ),
    ("Softmax", lambda nn: nn.Softmax(dim=1), lambda nn: nn.Softmax(axis=2), [_is("axis", "2", "1")]),
    ("LogSoftmax", lambda nn: nn.LogSoftmax(dim=1), lambda nn: nn.LogSoftmax(axis=0), [_is("axis", "0", "1")]),
    ("GLU", lambda nn: nn.GLU(dim=-2), lambda nn: nn.GLU(), [_is("axis", "-1", "-2")]),
    (
        "Dropout",
        lambda nn: nn.Dropout2d(0.5),
        lambda nn: nn.Dropout(0.2, mode="downscale_in_infer"),
        [
            _is("mode", "downscale_in_infer", "upscale_in_train"),
            _is("probability", "0.2", "0.5", training=True),
            _is("axes", "none", "(0, 1)", training=True),
        ],
    ),
    (
        "Dropout2d, channels last",
        lambda nn: nn.Dropout2d(0.5),
        lambda nn: nn.Dropout2D(0.5, data_format="NHWC"),
        [_is("axes", "(0, 3)", "(0, 1)", training=True)],
    ),
    (
        "Upsample",
        lambda nn: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda nn: nn.Upsample(size=[4, 5], mode="bilinear", align_corners=True),
        [
            _is("size", "(4, 5)", "2 times the input's"),
            _is("interpolation", "bilinear, corners aligned", "bilinear, corners not aligned"),
        ],
    ),
    (
        "Upsample, align mode",
        lambda nn: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda nn: nn.Upsample(scale_factor=2, mode="bilinear", align_mode=1),
        [_is("interpolation", "bilinear, align_mode 1", "bilinear, corners not aligned")],
    ),
    ("PixelShuffle", lambda nn: nn.PixelShuffle(2), lambda nn: nn.PixelShuffle(3), [_is("factor", "3", "2")]),
    ("PixelUnshuffle", lambda nn: nn.PixelUnshuffle(2), lambda nn: nn.PixelUnshuffle(3), [_is("factor", "3", "2")]),
    ("ChannelShuffle", lambda nn: nn.ChannelShuffle(2), lambda nn: nn.ChannelShuffle(3), [_is("groups", "3", "2")]),
    (
        "Pad2d",
        lambda nn: nn.ReflectionPad2d(1),
        lambda nn: nn.Pad2D([1, 1, 2, 1], value=2.0),
        [
            _is("padding", "(1, 1, 2, 1)", "(1, 1, 1, 1)"),
            _is("padding mode", "constant", "reflect"),
            _is("value", "2", "0"),
        ],
    ),
    (
        "Flatten",
        lambda nn: nn.Flatten(),
        lambda nn: nn.Flatten(2, 3),
        [_is("first axis", "2", "1"), _is("last axis", "3", "-1")],
    ),
    (
        "LocalResponseNorm",
        lambda nn: nn.LocalResponseNorm(3),
        lambda nn: nn.LocalResponseNorm(5, alpha=1e-3, beta=0.5, k=2.0),
        [_is("size", "5", "3"), _is("alpha", "0.001", "0.0001"), _is("beta", "0.5", "0.75"), _is("k", "2", "1")],
    ),
]


def _both(reference: Build, candidate: Build) -> tuple[Any, Any]:
    import paddle
    import torch

    return reference(torch.nn), candidate(paddle.nn)


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same_is_not_spoken_of(name: str) -> None:
    assert differences(*_both(*SAME[name])) == []


@pytest.mark.parametrize(("name", "reference", "candidate", "sentences"), DIFFERENT, ids=[one[0] for one in DIFFERENT])
def test_what_is_not_the_same_is_said(name: str, reference: Build, candidate: Build, sentences: list[str]) -> None:
    assert differences(*_both(reference, candidate)) == sentences


def test_every_row_is_read_on_both_sides_in_some_pair_and_says_something() -> None:
    fired = set()
    for _, reference, candidate, _ in DIFFERENT:
        modules = _both(reference, candidate)
        said = {sentence.split(" is ")[0] for sentence in differences(*modules)}
        names = [{kind.__name__ for kind in type(module).__mro__} for module in modules]
        fired |= {
            (row.reference, row.name)
            for row in SETTINGS
            if row.name in said and names[0] & {*row.reference} and names[1] & {*row.candidate}
        }
    assert {(row.reference, row.name) for row in SETTINGS} == fired


def test_timms_modules_are_read_as_what_they_derive_from() -> None:
    import paddle
    import timm.layers as layers

    nn = paddle.nn
    assert differences(layers.LayerNorm2d(3, eps=1e-6), nn.LayerNorm(3)) == [_is("epsilon", "1e-05", "1e-06")]
    norm = layers.BatchNormAct2d(3)
    assert differences(norm, nn.BatchNorm(3, act="relu")) == []
    assert differences(norm, nn.BatchNorm2D(3)) == [_is("fused activation", "none", "relu")]
    assert differences(layers.BatchNormAct2d(3, apply_act=False), nn.BatchNorm2D(3)) == []


def test_what_a_forward_of_its_own_may_pad_otherwise_is_not_compared() -> None:
    import paddle
    import timm.layers as layers

    assert differences(layers.Conv2dSame(3, 3, 3, 2), paddle.nn.Conv2D(3, 3, 3, 2, padding="SAME")) == []


def _paddles_same_ignores_dilation(array: Array) -> tuple[Any, Any]:
    import paddle

    x, weight = paddle.to_tensor(array), paddle.ones([1, 1, 3, 3])
    same = paddle.nn.functional.conv2d(x, weight, dilation=2, padding="SAME").numpy()
    return same, paddle.nn.functional.conv2d(x, weight, dilation=1, padding=1).numpy()


def test_paddle_itself_has_no_dilation_where_it_pads_to_the_same_size() -> None:
    same, without = _paddles_same_ignores_dilation(np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6))
    assert np.array_equal(same, without)


KNOWN: list[tuple[str, Build, Build, float, float]] = [
    ("Hardsigmoid", lambda nn: nn.Hardsigmoid(), lambda nn: nn.Hardsigmoid(), 5e-8, 1.1e-7),
    ("SELU", lambda nn: nn.SELU(), lambda nn: nn.SELU(), 5e-8, 1.1e-6),
    ("ELU", lambda nn: nn.ELU(0.3), lambda nn: nn.ELU(0.3), 1e-9, 1e-7),
    ("CELU", lambda nn: nn.CELU(0.3), lambda nn: nn.CELU(0.3), 1e-9, 1e-7),
    ("Hardtanh", lambda nn: nn.Hardtanh(-0.3, 0.3), lambda nn: nn.Hardtanh(-0.3, 0.3), 1e-9, 1e-7),
    ("Softshrink", lambda nn: nn.Softshrink(0.3), lambda nn: nn.Softshrink(0.3), 1e-9, 1e-7),
    (
        "Upsample",
        lambda nn: nn.Upsample(size=(7, 9), mode="bilinear"),
        lambda nn: nn.Upsample(size=[7, 9], mode="bilinear"),
        1e-8,
        1e-4,
    ),
]
EXACT: list[tuple[Build, Build]] = [
    SAME["Upsample, bicubic, which has no align mode"],
    (lambda nn: nn.ELU(), lambda nn: nn.ELU()),
    (lambda nn: nn.CELU(0.5), lambda nn: nn.CELU(0.5)),
    (lambda nn: nn.Hardtanh(), lambda nn: nn.Hardtanh()),
    (lambda nn: nn.ReLU6(), lambda nn: nn.ReLU6()),
    (lambda nn: nn.Softshrink(), lambda nn: nn.Softshrink()),
    (lambda nn: nn.LeakyReLU(0.1), lambda nn: nn.LeakyReLU(0.1)),
    (lambda nn: nn.Hardswish(), lambda nn: nn.Hardswish()),
    (lambda nn: nn.Softplus(0.3), lambda nn: nn.Softplus(0.3)),
    (lambda nn: nn.Upsample(size=(7, 9)), lambda nn: nn.Upsample(size=[7, 9])),
    (
        lambda nn: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda nn: nn.Upsample(scale_factor=2, mode="bilinear"),
    ),
]


def _apart(reference: Any, candidate: Any) -> float:
    """Return how far apart two modules' outputs lie in float64, on numbers up to 30."""
    import paddle
    import torch

    x = np.linspace(-30, 30, 2 * 3 * 5 * 67).reshape(2, 3, 5, 67)
    return float(np.abs(reference(torch.from_numpy(x)).numpy() - candidate(paddle.to_tensor(x)).numpy()).max())


@pytest.mark.parametrize(("name", "reference", "candidate", "least", "most"), KNOWN, ids=[one[0] for one in KNOWN])
def test_a_known_constant_is_named_where_it_matters(
    name: str, reference: Build, candidate: Build, least: float, most: float
) -> None:
    modules = _both(reference, candidate)
    assert least < _apart(*modules) < most
    sentence = known_constant(*modules)
    assert sentence is not None
    assert "Paddle" in sentence
    assert differences(*modules) == []


@pytest.mark.parametrize(("reference", "candidate"), EXACT)
def test_no_constant_is_named_where_none_matters(reference: Build, candidate: Build) -> None:
    modules = _both(reference, candidate)
    assert _apart(*modules) < 1e-13
    assert known_constant(*modules) is None
