"""Faults in the candidate's weights: what a wrong rule, a wrong index or a lossy cast leaves behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from align.faults.fault import Fault, Planted, Weights
from align.mixer.faults.places import at_block, first_norm, middle, mixer_fault, tokens_linear
from align.mixer.points import layer_of_parameter
from convert.arrays import Array
from convert.mixer.variants import MixerConfig


def _fault(name: str, plant: Callable[[MixerConfig], Planted | None]) -> Fault:
    return mixer_fault("weights", name, plant)


def _altered(parameter: str, change: Callable[[Array], Array]) -> Planted:
    """Return the fault that replaces one parameter by a changed copy of it."""

    def weights(state_dict: Weights) -> None:
        state_dict[parameter] = np.ascontiguousarray(change(state_dict[parameter].copy()))

    return Planted(layer=layer_of_parameter(parameter), weights=weights)


def _swapped(layer: str, pairs: Iterator[tuple[str, str]]) -> Planted:
    """Return the fault that exchanges pairs of parameters."""
    exchanged = list(pairs)

    def weights(state_dict: Weights) -> None:
        for one, other in exchanged:
            state_dict[one], state_dict[other] = state_dict[other], state_dict[one]

    return Planted(layer=layer, weights=weights)


def _half(parameter: str) -> Planted:
    return _altered(parameter, lambda w: w.astype(np.float16))


def _untransposed_square(config: MixerConfig) -> Planted | None:
    name = tokens_linear(config, middle(config))
    square = config.family in ("resmlp", "gmlp") or config.tokens_mlp_dim == config.tokens
    return _altered(f"{name}.weight", lambda w: w.T) if square else None


def _untransposed(config: MixerConfig) -> Planted:
    return _altered(f"{at_block(config)}.mlp_channels.fc1.weight", lambda w: w.T)


def _reshaped(config: MixerConfig) -> Planted:
    return _altered(f"{at_block(config)}.mlp_channels.fc2.weight", lambda w: w.T.reshape(w.shape))


def _swapped_blocks(config: MixerConfig) -> Planted:
    i = middle(config)
    return Planted(layer=first_norm(config, i), weights=_renumber({i: i + 1, i + 1: i}))


def _shifted_blocks(config: MixerConfig) -> Planted:
    n = config.num_blocks
    return Planted(layer=first_norm(config, 0), weights=_renumber({i: (i + 1) % n for i in range(n)}))


def _renumber(source_of: dict[int, int]) -> Callable[[Weights], None]:
    """Return the change that fills blocks with the weights of others, as `source_of` says."""

    def weights(state_dict: Weights) -> None:
        original = dict(state_dict)
        for key in original:
            block = re.match(r"blocks\.(\d+)\.", key)
            if block and int(block[1]) in source_of:
                state_dict[key] = original[f"blocks.{source_of[int(block[1])]}.{key[block.end() :]}"]

    return weights


def _swapped_layers(config: MixerConfig) -> Planted:
    i = middle(config)
    one, other = (f"{tokens_linear(config, block)}.weight" for block in (i, i + 1))
    return _swapped(layer_of_parameter(one), iter([(one, other)]))


def _swapped_norms(config: MixerConfig) -> Planted:
    i = middle(config)
    one = first_norm(config, i)
    other = first_norm(config, i + 1) if config.family == "gmlp" else f"blocks.{i}.norm2"
    kinds = ("alpha", "beta") if config.family == "resmlp" else ("weight", "bias")
    return _swapped(one, ((f"{one}.{kind}", f"{other}.{kind}") for kind in kinds))


def _permuted_outputs(config: MixerConfig) -> Planted:
    """Permute a Linear's outputs, the second axis of Paddle's [in, out] weights."""
    return _altered(f"{tokens_linear(config, middle(config))}.weight", lambda w: np.roll(w, 1, axis=1))


def _permuted_inputs(config: MixerConfig) -> Planted:
    return _altered(f"{at_block(config)}.mlp_channels.fc2.weight", lambda w: w[::-1])


def _two_channels_exchanged(_: MixerConfig) -> Planted:
    return _altered("head.weight", lambda w: w[[1, 0, *range(2, len(w))]])


def _rounded(dtype: DTypeLike) -> Callable[[MixerConfig], Planted]:
    def plant(config: MixerConfig) -> Planted:
        return _altered(f"{at_block(config)}.mlp_channels.fc1.weight", lambda w: w.astype(dtype).astype(w.dtype))

    return plant


def _lowest_bit(suffix: Callable[[MixerConfig], str]) -> Callable[[MixerConfig], Planted]:
    def flip(array: Array) -> Array:
        array.view(np.uint32).flat[array.size // 2] ^= 1
        return array

    return lambda config: _altered(suffix(config), flip)


def _norm_scale(config: MixerConfig) -> str:
    return f"{first_norm(config, middle(config))}.{'alpha' if config.family == 'resmlp' else 'weight'}"


def _missing(config: MixerConfig) -> Planted:
    parameter = f"{at_block(config)}.mlp_channels.fc2.bias"
    return Planted(layer=layer_of_parameter(parameter), weights=lambda state_dict: _remove(state_dict, parameter))


def _remove(state_dict: Weights, parameter: str) -> None:
    del state_dict[parameter]


def _one_too_many(config: MixerConfig) -> Planted:
    parameter = f"{first_norm(config, config.num_blocks)}.weight"
    extra = {parameter: np.ones(config.hidden_dim, np.float32)}
    return Planted(layer=layer_of_parameter(parameter), weights=lambda state_dict: state_dict.update(extra))


WEIGHTS: tuple[Fault, ...] = (
    _fault("square Linear left untransposed", _untransposed_square),
    _fault("non-square Linear left untransposed", _untransposed),
    _fault("Linear reshaped where it should be transposed", _reshaped),
    _fault("two blocks swapped", _swapped_blocks),
    _fault("block index shifted by one", _shifted_blocks),
    _fault("one layer's weight swapped with the next block's", _swapped_layers),
    _fault("two norms swapped", _swapped_norms),
    _fault("output channels of a Linear rotated by one", _permuted_outputs),
    _fault("input channels of a Linear reversed", _permuted_inputs),
    _fault("two channels of the head exchanged", _two_channels_exchanged),
    _fault("colours of the stem read as BGR", lambda _: _altered("stem.proj.weight", lambda w: w[:, ::-1])),
    _fault("stem kernel transposed", lambda _: _altered("stem.proj.weight", lambda w: w.swapaxes(2, 3))),
    _fault("a tensor missing", _missing),
    _fault("a tensor too many", _one_too_many),
    _fault("a tensor kept as float16", lambda _: _half("head.weight")),
    _fault("a bias zeroed", lambda c: _altered(f"{at_block(c)}.mlp_channels.fc1.bias", np.zeros_like)),
    _fault("the head's bias zeroed", lambda _: _altered("head.bias", np.zeros_like)),
    _fault("a weight's sign flipped", lambda c: _altered(f"{at_block(c)}.mlp_channels.fc2.weight", np.negative)),
    _fault("a tensor rounded to bfloat16", _rounded(ml_dtypes.bfloat16)),
    _fault("a tensor rounded to float16", _rounded(np.float16)),
    _fault("lowest bit of one weight", _lowest_bit(lambda c: f"{at_block(c)}.mlp_channels.fc1.weight")),
    _fault("lowest bit of one stem weight", _lowest_bit(lambda _: "stem.proj.weight")),
    _fault("lowest bit of one norm scale", _lowest_bit(_norm_scale)),
    _fault("lowest bit of one bias", _lowest_bit(lambda c: f"{tokens_linear(c, middle(c))}.bias")),
    _fault("lowest bit of one head weight", _lowest_bit(lambda _: "head.weight")),
)
