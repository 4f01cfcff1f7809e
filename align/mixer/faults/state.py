"""Faults in what the Paddle model remembers: it changes with use, or computes something else in another mode."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from align.faults.fault import Fault, Planted
from align.faults.front import Change, layer_of, put_in_front
from align.gates.state import SMALL
from align.mixer.faults.places import (
    channels_fc1,
    channels_fc2,
    head,
    in_front,
    last_norm,
    mixer_fault,
    point_of_module,
    whole_model,
)
from align.mixer.points import LOGITS
from convert.mixer.shapes import timm_shapes
from convert.mixer.variants import MixerConfig

CALLS = 17
"""A number of calls that the gates of the forward, the output and the batch do not reach together, but a user does."""


def counts_up_to(calls: int) -> Change:
    """Return the change that makes the output too large by a thousandth from this call on."""

    def change(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
        vars(layer)["calls"] = vars(layer).get("calls", 0) + 1
        return forward(x) * (1.001 if layer.calls >= calls else 1.0)

    return change


def _counted_elsewhere(config: MixerConfig) -> Planted | None:
    """Count outside the model, as in a global variable of its Python module, which no attribute shows.

    A larger model cannot have this fault: the further forwards that would show it are not made, as they take too long.
    """
    if sum(math.prod(shape) for shape in timm_shapes(config).values()) > SMALL:
        return None

    def model(model: Any) -> None:
        calls = itertools.count(1)
        put_in_front(model, lambda _, forward, x: forward(x) * (1.001 if next(calls) >= CALLS else 1.0))

    return Planted(layer=LOGITS, model=model)


def _with_buffer(name: str, path: Callable[[MixerConfig], str], value: float, change: Change, **kept: bool) -> Fault:
    """Return the fault of a layer that has an additional buffer and a change that uses it."""

    def plant(config: MixerConfig) -> Planted:
        def model(model: Any) -> None:
            import paddle

            layer = layer_of(model, path(config))
            layer.register_buffer("seen", paddle.full([1], value, "float32"), **kept)
            put_in_front(layer, change)

        return Planted(layer=point_of_module(path(config)), model=model)

    return mixer_fault("state", name, plant)


def _counted(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    layer.seen.set_value(layer.seen + 1)
    return forward(x)


def _averaged(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Keep a running mean, as a batch norm does, but use it for nothing."""
    layer.seen.set_value((layer.seen * 0.9 + x.mean() * 0.1).astype(layer.seen.dtype))
    return forward(x)


def _in_training(path: Callable[[MixerConfig], str], change: Change, *, everywhere: bool = False) -> Any:
    def plant(config: MixerConfig) -> Planted:
        def model(model: Any) -> None:
            layer = layer_of(model, path(config))
            put_in_front(layer, change)
            (model if everywhere else layer).train()

        return Planted(layer=point_of_module(path(config)), model=model)

    return plant


def _scaled_in_evaluation(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Scale, in evaluation only, by the share that a dropout of a tenth would have kept."""
    return forward(x) if layer.training else forward(x) * 0.9


def _batch_statistics(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Centre by the batch's mean in training mode, as a batch norm does."""
    return forward(x - x.mean(axis=0, keepdim=True)) if layer.training else forward(x)


def _nudged(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Move one weight to the next float after each forward."""
    y = forward(x)
    weight = layer.weight.numpy()
    weight.flat[7] = np.nextafter(weight.flat[7], np.inf, dtype=weight.dtype)
    layer.weight.set_value(weight)
    return y


def _cached_by_shape(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Return the first result for a shape and dtype ever after."""
    answers = vars(layer).setdefault("answers", {})
    key = (tuple(x.shape), str(x.dtype))
    if key not in answers:
        answers[key] = forward(x)
    return answers[key].clone()


def _first_call(layer: Any, forward: Callable[[Any], Any], x: Any) -> Any:
    """Return another result on the first call, as if to warm up."""
    first = "warm" not in vars(layer)
    vars(layer)["warm"] = True
    return forward(x) * (1.001 if first else 1.0)


STATE: tuple[Fault, ...] = (
    _with_buffer("a saved buffer that counts forwards", channels_fc2, 0.0, _counted),
    _with_buffer("an unsaved buffer that counts forwards", channels_fc1, 0.0, _counted, persistable=False),
    _with_buffer("a running mean that is used for nothing", last_norm, 0.0, _averaged),
    in_front("state", f"another result from the model's call {CALLS} on", whole_model, counts_up_to(CALLS)),
    mixer_fault("state", f"another result from call {CALLS} on, counted beside the model", _counted_elsewhere),
    in_front("state", f"another result from a layer's call {CALLS} on", channels_fc2, counts_up_to(CALLS)),
    mixer_fault(
        "state", "one layer in training mode, wrong in evaluation", _in_training(channels_fc2, _scaled_in_evaluation)
    ),
    mixer_fault(
        "state",
        "a model in training mode, wrong in evaluation",
        _in_training(head, _scaled_in_evaluation, everywhere=True),
    ),
    mixer_fault(
        "state", "a norm of the batch's statistics in training mode", _in_training(last_norm, _batch_statistics)
    ),
    in_front("state", "a weight nudged by one ulp in each forward", channels_fc2, _nudged),
    in_front("state", "the first answer for a shape given ever after", whole_model, _cached_by_shape),
    in_front("state", "the first call answered otherwise", channels_fc2, _first_call),
)
