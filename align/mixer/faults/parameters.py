"""Faults in the parameters that the values at the points hardly show, or that make those values prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from align.faults.fault import Fault, Planted, Weights
from align.faults.front import layer_of, put_in_front
from align.mixer.faults.places import channels_fc1, channels_fc2, head, in_front, mixer_fault, norm_in_block
from align.mixer.points import LOGITS
from convert.mixer.variants import MixerConfig

POSITIONS = "pos_embed"


def _fault(name: str, plant: Callable[[MixerConfig], Planted | None]) -> Fault:
    return mixer_fault("weights", name, plant)


def _negative_zero(parameter: Callable[[MixerConfig], str]) -> Callable[[MixerConfig], Planted]:
    """Return what plants a zero of the other sign in a parameter, which no sum shows."""

    def plant(config: MixerConfig) -> Planted:
        key = parameter(config)

        def put(zero: float) -> Callable[[Weights], None]:
            def change(state_dict: Weights) -> None:
                state_dict[key] = state_dict[key].copy()
                state_dict[key].flat[7] = zero

            return change

        return Planted(layer=key.rpartition(".")[0], source=put(0.0), weights=put(-0.0))

    return plant


def _position_embedding(_: MixerConfig) -> Planted:
    """Add a position embedding like a Vision Transformer's, saved with the model but never used by the forward."""
    values = np.random.default_rng(0).normal(0, 0.02, (1, 16, 10)).astype(np.float32)

    def model(model: Any) -> None:
        import paddle

        initial = paddle.nn.initializer.Assign(values)
        setattr(model, POSITIONS, model.create_parameter(values.shape, default_initializer=initial))

    return Planted(layer="", weights=lambda state_dict: state_dict.update({POSITIONS: values}), model=model)


def _buffer_applied(*, persistable: bool) -> Callable[[MixerConfig], Planted]:
    """Multiply by a buffer 8 float32 steps above 1, which no float32 bound detects."""

    def plant(config: MixerConfig) -> Planted:
        def model(model: Any) -> None:
            import paddle

            layer = layer_of(model, channels_fc2(config))
            layer.register_buffer("scale", paddle.full([1], 1 + 1e-6, "float32"), persistable=persistable)
            put_in_front(layer, lambda layer, forward, x: forward(x) * layer.scale)

        return Planted(layer=channels_fc2(config), model=model)

    return plant


def without_bias(linear: Any, _: Callable[[Any], Any], x: Any) -> Any:
    """Return a Linear's output without its bias."""
    import paddle

    return paddle.nn.functional.linear(x, linear.weight)


def _wider(config: MixerConfig) -> Planted:
    """Save one parameter in float64."""
    key = f"{channels_fc1(config)}.bias"

    def weights(state_dict: Weights) -> None:
        state_dict[key] = state_dict[key].astype(np.float64)

    return Planted(layer=channels_fc1(config), weights=weights)


def _zero_head(_: MixerConfig) -> Planted:
    """Zero the head, as timm initialises it: every logit is 0 on every side, whatever came before."""

    def source(state_dict: Weights) -> None:
        for key in ("head.weight", "head.bias"):
            state_dict[key] = np.zeros_like(state_dict[key])

    return Planted(layer=LOGITS, source=source)


def _not_loaded(config: MixerConfig) -> Planted:
    """Leave a parameter at its initial value, as can happen because `set_state_dict` never raises."""

    def model(model: Any) -> None:
        norm = model.norm
        bias = norm.beta if config.family == "resmlp" else norm.bias
        bias.set_value(np.zeros(bias.shape, np.float32))

    return Planted(layer="norm", model=model)


PARAMETERS: tuple[Fault, ...] = (
    _fault("a bias's zero of the other sign", _negative_zero(lambda c: f"{channels_fc2(c)}.bias")),
    _fault(
        "a norm's zero of the other sign",
        _negative_zero(lambda c: f"{norm_in_block(c)}.{'beta' if c.family == 'resmlp' else 'bias'}"),
    ),
    _fault("a parameter that acts nowhere, saved with the others", _position_embedding),
    _fault("a tensor widened to float64", _wider),
    _fault("values scaled by a buffer that is saved", _buffer_applied(persistable=True)),
    _fault("values scaled by a buffer that is not saved", _buffer_applied(persistable=False)),
    in_front("weights", "a Linear's bias not added", channels_fc2, without_bias),
    in_front("weights", "the head's bias not added", head, without_bias),
)

LOADING: tuple[Fault, ...] = (
    mixer_fault("harness", "all-zero head", _zero_head),
    mixer_fault("harness", "a parameter that the model never loaded", _not_loaded),
)
