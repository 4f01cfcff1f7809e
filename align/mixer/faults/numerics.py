"""Faults of arithmetic: NaN and infinity, too few bits, results that do not repeat."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from align.faults.fault import Fault, Planted, Weights
from align.faults.front import Change, layer_of, put_in_front
from align.mixer.faults.places import at_block, channels_fc2, mixer_fault
from convert.mixer.variants import MixerConfig


def _fault(name: str, plant: Callable[[MixerConfig], Planted | None]) -> Fault:
    return mixer_fault("numerics", name, plant)


def scaled(by: float, *, float32_only: bool = False) -> Fault:
    """Return the fault that makes one layer's output too large by this ratio."""
    change = _scaled(by)
    return _fault(f"one layer off by {by:.0e}", _around_fc2(_float32_only(change) if float32_only else change))


def epsilon_off(by: float) -> Fault:
    """Return the fault that makes the last LayerNorm's epsilon too large by this ratio; ResMLP has none."""

    def plant(config: MixerConfig) -> Planted | None:
        def model(model: Any) -> None:
            model.norm._epsilon *= 1 + by

        return None if config.family == "resmlp" else Planted(layer="norm", model=model)

    return _fault(f"epsilon off by {by:.0e}", plant)


def _one_weight(value: float) -> Callable[[MixerConfig], Planted]:
    def plant(config: MixerConfig) -> Planted:
        def weights(state_dict: Weights) -> None:
            key = f"{channels_fc2(config)}.weight"
            state_dict[key] = state_dict[key].copy()
            state_dict[key].flat[7] = value

        return Planted(layer=channels_fc2(config), weights=weights)

    return plant


def _around_fc2(change: Change) -> Callable[[MixerConfig], Planted]:
    """Return what plants a change of one Linear's forward: change(linear, forward, input) is the output."""

    def plant(config: MixerConfig) -> Planted:
        def model(model: Any) -> None:
            put_in_front(layer_of(model, channels_fc2(config)), change)

        return Planted(layer=channels_fc2(config), model=model)

    return plant


def _float32_only(change: Change) -> Change:
    """Return the change, applied in the float32 pass only, where rounding could hide it."""
    return lambda linear, forward, x: change(linear, forward, x) if x.dtype.name.lower() == "float32" else forward(x)


def _through(dtype: str) -> Change:
    """Return the change that rounds the Linear's input and output to this dtype."""
    return lambda _, forward, x: forward(x.astype(dtype).astype(x.dtype)).astype(dtype).astype(x.dtype)


def _reduced_products(linear: Any, _forward: Any, x: Any) -> Any:
    """Multiply with 10 bits of mantissa and add in float32, as a GPU does in TF32."""
    import paddle

    return paddle.nn.functional.linear(_ten_bits(x), _ten_bits(linear.weight), linear.bias)


def _ten_bits(tensor: Any) -> Any:
    import paddle

    bits = tensor.numpy().view(np.uint32)
    return paddle.to_tensor(((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32))


def _nan_at_one_place(_linear: Any, forward: Any, x: Any) -> Any:
    import paddle

    values = forward(x).numpy()
    values.flat[3] = np.nan
    return paddle.to_tensor(values)


def _nan_on_both_sides(config: MixerConfig) -> Planted:
    """Plant NaN on both sides: many comparisons take NaN to equal NaN."""

    def reference(model: Any) -> None:
        def poison(_module: Any, _inputs: Any, output: Any) -> Any:
            output = output.clone()
            output.view(-1)[3] = float("nan")
            return output

        model.get_submodule(channels_fc2(config)).register_forward_hook(poison)

    planted = _around_fc2(_nan_at_one_place)(config)
    return Planted(layer=planted.layer, model=planted.model, reference=reference)


def _scaled(by: float) -> Change:
    return lambda _, forward, x: forward(x) * (1 + by)


def _alternates_by_one_ulp(config: MixerConfig) -> Planted:
    """Make every other run of the reference output one value's next float, which no bound detects."""

    def reference(model: Any) -> None:
        import torch

        runs = itertools.count()

        def nudge(_module: Any, _inputs: Any, output: Any) -> Any:
            output = output.clone()
            value = output.view(-1)[3:4]
            if next(runs) % 2:
                value.copy_(torch.nextafter(value, torch.full_like(value, torch.inf)))
            return output

        model.get_submodule(channels_fc2(config)).register_forward_hook(nudge)

    return Planted(layer=channels_fc2(config), reference=reference)


def _constant(config: MixerConfig) -> Planted | None:
    """Add a constant to a block's output: no float32 bound detects it, and every later LayerNorm subtracts it again."""

    def model(model: Any) -> None:
        put_in_front(layer_of(model, at_block(config)), lambda _, forward, x: forward(x) + 1e-7)

    return None if config.family == "resmlp" else Planted(layer=at_block(config), model=model)


def _noise(_linear: Any, forward: Any, x: Any) -> Any:
    """Add fresh noise of about one unit in the last place, which every bound allows."""
    import paddle

    y = forward(x)
    unit = 2.0**-23 if y.dtype.name.lower() == "float32" else 2.0**-52
    return y + unit * y.abs().max() * paddle.rand(y.shape).astype(y.dtype)


NUMERICS: tuple[Fault, ...] = (
    _fault("NaN in one weight", _one_weight(np.nan)),
    _fault("infinity in one weight", _one_weight(np.inf)),
    _fault("NaN in one activation", _around_fc2(_nan_at_one_place)),
    _fault("NaN in one activation, float32 only", _around_fc2(_float32_only(_nan_at_one_place))),
    _fault("NaN in the same activation on both sides", _nan_on_both_sides),
    _fault("float16 in one layer", _around_fc2(_through("float16"))),
    _fault("float16 in one layer, float32 only", _around_fc2(_float32_only(_through("float16")))),
    _fault("bfloat16 in one layer, float32 only", _around_fc2(_float32_only(_through("bfloat16")))),
    _fault("TF32 products in one layer, float32 only", _around_fc2(_float32_only(_reduced_products))),
    scaled(1e-9),
    _fault("a constant that every later norm takes away", _constant),
    _fault("noise below every bound, fresh in each run", _around_fc2(_noise)),
    _fault("a reference that does not repeat itself, by one ulp", _alternates_by_one_ulp),
)
