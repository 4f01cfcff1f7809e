"""Sentences on where the settings of two paired modules differ, and on what the frameworks themselves round. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.pairing.setting_table import SETTINGS, Setting
from align.pairing.setting_values import LINEAR, Axis

UNITS = {True: "on", False: "off", None: "none"}


def differences(reference: Any, candidate: Any) -> list[str]:
    """Return a sentence for each setting that differs between a torch and a Paddle module that both have it.

    Example:
        >>> differences(torch.nn.LayerNorm(8, eps=1e-6), paddle.nn.LayerNorm(8))
        ["epsilon is 1e-05, the reference's 1e-06"]
    """
    return [sentence for row in SETTINGS if (sentence := _difference(row, reference, candidate)) is not None]


def known_constant(reference: Any, candidate: Any) -> str | None:
    """Return which constant that Paddle rounds explains why modules of the same settings differ in float64.

    None where none is known. It explains a difference, and hides none.
    """
    for known in KNOWN:
        if _is_one(reference, "torch.nn.", (known.reference,)) and _is_one(candidate, "paddle.nn.", known.candidate):
            return f"{known.sentence} ({known.source})" if known.applies(candidate) else None
    return None


def _difference(row: Setting, reference: Any, candidate: Any) -> str | None:
    if not (_is_one(reference, "torch.nn.", row.reference) and _is_one(candidate, "paddle.nn.", row.candidate)):
        return None
    try:
        wanted, found = row.of_reference(reference), row.of_candidate(candidate)
    except AttributeError:  # one side has no such setting
        return None
    if _is_same(wanted, found):
        return None
    when = ", which matters in training only" if row.training else ""
    return f"{row.name} is {_said(found)}, the reference's {_said(wanted)}{when}"


def _is_one(module: Any, package: str, names: tuple[str, ...]) -> bool:
    """Return whether a module is an instance of one of a framework's classes or of a subclass."""
    return any(kind.__name__ in names and kind.__module__.startswith(package) for kind in type(module).__mro__)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same setting: lists count as tuples, and numbers are compared as float32."""
    if isinstance(one, Axis) and isinstance(other, Axis) and (one < 0) != (other < 0):
        return True  # nothing shows that they differ
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if _is_number(one) and _is_number(other):
        return bool(np.float32(one) == np.float32(other))
    return bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _said(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return UNITS[value]
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_said, value))})"
    return f"{value:.7g}" if _is_number(value) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A constant that Paddle rounds: its classes, a sentence, its source, and whether it applies to a layer."""

    reference: str
    candidate: tuple[str, ...]
    sentence: str
    source: str
    applies: Callable[[Any], bool] = lambda _: True


def _rounded(*names: str) -> Callable[[Any], bool]:
    """Return a function that says whether float32 cannot hold one of a layer's attributes exactly."""
    return lambda layer: any(float(np.float32(value)) != value for name in names if (value := getattr(layer, name, 0)))


def _interpolates(layer: Any) -> bool:
    return getattr(layer, "mode", "bilinear").lower() in LINEAR and layer.size is not None


FLOAT32 = "Paddle keeps {} as float32 even in float64"
MEASURED = "measured with paddlepaddle 3.3.1"
KNOWN: tuple[_Known, ...] = (
    _Known(
        reference="Hardsigmoid",
        candidate=("Hardsigmoid",),
        sentence="Paddle's slope is 0.1666667, not 1/6, which moves the output by up to 1.0e-7",
        source="paddle/nn/functional/activation.py, hardsigmoid: slope = 0.1666667",
    ),
    _Known(
        reference="SELU",
        candidate=("SELU",),
        sentence=f"{FLOAT32.format('scale and alpha')}, which moves the output by 3.3e-8 of its size",
        source=MEASURED,
    ),
    _Known(
        reference="ELU",
        candidate=("ELU",),
        sentence=FLOAT32.format("alpha"),
        source=MEASURED,
        applies=_rounded("_alpha"),
    ),
    _Known(
        reference="CELU",
        candidate=("CELU",),
        sentence=FLOAT32.format("alpha"),
        source=MEASURED,
        applies=_rounded("_alpha"),
    ),
    _Known(
        reference="Hardtanh",
        candidate=("Hardtanh",),
        sentence=FLOAT32.format("its bounds"),
        source=MEASURED,
        applies=_rounded("_min", "_max"),
    ),
    _Known(
        reference="Softshrink",
        candidate=("Softshrink",),
        sentence=FLOAT32.format("the threshold"),
        source=MEASURED,
        applies=_rounded("_threshold"),
    ),
    _Known(
        reference="Upsample",
        candidate=("Upsample", "UpsamplingBilinear2D"),
        sentence=f"{FLOAT32.format('the ratio of the sizes')}, which moves the output by about 1e-6",
        source=MEASURED,
        applies=_interpolates,
    ),
)
