"""Faults that show on some values only: large or tiny ones, constant rows, outliers. On normal images none shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from align.faults.fault import Fault
from align.faults.front import Change
from align.mixer.faults.places import (
    at_block,
    channels_fc1,
    channels_fc2,
    head,
    in_front,
    layer_norm,
    norm_in_block,
    stem_projection,
    tokens_in_block,
)
from convert.mixer.variants import MixerConfig

FLOAT16_MAX = 65504.0


def _fault(name: str, path: Callable[[MixerConfig], str | None], change: Change) -> Fault:
    return in_front("values", name, path, change)


def _activation(config: MixerConfig) -> str:
    return f"{at_block(config)}.mlp_channels.act"


def _gelu(config: MixerConfig) -> str | None:
    return None if config.family == "gmixer" else _activation(config)


def _silu(config: MixerConfig) -> str | None:
    return _activation(config) if config.family == "gmixer" else None


def _clipped_before(limit: float) -> Change:
    return lambda _, forward, x: forward(x.clip(-limit, limit))


def _clipped_behind(limit: float) -> Change:
    return lambda _, forward, x: forward(x).clip(-limit, limit)


def _capped(limit: float) -> Change:
    return lambda _, forward, x: forward(x).clip(max=limit)


def _where(chosen: Callable[[Any], Any], instead: Callable[[Any], Any]) -> Change:
    """Return the change that outputs `instead` where the input is `chosen`, both broadcast over the output."""

    def change(_: Any, forward: Callable[[Any], Any], x: Any) -> Any:
        import paddle

        y = forward(x)
        return paddle.where(chosen(x).expand_as(y), instead(x).expand_as(y), y)

    return change


def _rows_of(value: float) -> Callable[[Any], Any]:
    def instead(x: Any) -> Any:
        import paddle

        return paddle.full([1], value, x.dtype)

    return instead


def _constant_rows(x: Any) -> Any:
    return x.max(axis=-1, keepdim=True) == x.min(axis=-1, keepdim=True)


def _zero_rows(x: Any) -> Any:
    return x.abs().max(axis=-1, keepdim=True) == 0


def _outliers_dropped(_: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Replace values beyond a million by 0, as if they were missing."""
    return forward(x * (x.abs() <= 1e6).astype(x.dtype))


def _least_variance(norm: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Clip the variance from below, which leaves rows of usual variance as they are."""
    import paddle

    centred = x - x.mean(axis=-1, keepdim=True)
    variance = centred.square().mean(axis=-1, keepdim=True)
    clipped = centred / (variance.clip(min=1e-4) + norm._epsilon).sqrt() * norm.weight + norm.bias
    y = forward(x)
    return paddle.where((variance < 1e-4).expand_as(y), clipped, y)


VALUES: tuple[Fault, ...] = (
    _fault("an activation capped at 6", _activation, _capped(6.0)),
    _fault("GELU zero below -6", _gelu, _where(lambda x: x < -6, _rows_of(0.0))),
    _fault("GELU the identity beyond 6", _gelu, _where(lambda x: x > 6, lambda x: x)),
    _fault("SiLU saturated beyond 20", _silu, _capped(20.0)),
    _fault("SiLU zero below -20", _silu, _where(lambda x: x < -20, _rows_of(0.0))),
    _fault("LayerNorm zero on constant rows", layer_norm, _where(_constant_rows, _rows_of(0.0))),
    _fault("LayerNorm NaN on constant rows", layer_norm, _where(_constant_rows, _rows_of(float("nan")))),
    _fault("LayerNorm's variance clipped from below at 1e-4", layer_norm, _least_variance),
    _fault("inputs of a norm clipped to ±1e3", norm_in_block, _clipped_before(1e3)),
    _fault("inputs of a Linear clipped to ±1e3", channels_fc1, _clipped_before(1e3)),
    _fault("inputs of the token mixing clipped to ±1e3", tokens_in_block, _clipped_before(1e3)),
    _fault("outputs of a Linear clamped to float16's range", channels_fc2, _clipped_behind(FLOAT16_MAX)),
    _fault("outliers of a Linear's input dropped", channels_fc2, _outliers_dropped),
    _fault("a Linear's zero rows taken for padding", channels_fc1, _where(_zero_rows, _rows_of(0.0))),
    _fault("pixels clipped to ±255", stem_projection, _clipped_before(255.0)),
    _fault("logits clamped to ±1e4", head, _clipped_behind(1e4)),
)
