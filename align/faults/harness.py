"""Faults of the comparison itself: ways in which it could pass because nothing, or the wrong thing, is compared."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import numpy as np

from align.faults.fault import Fault, Planted, Weights, at_block, first_norm, middle
from convert.mixer.variants import MixerConfig


def _fault(name: str, plant: Callable[[MixerConfig], Planted | None]) -> Fault:
    return Fault(name=name, kind="harness", plant=plant)


def _no_points() -> AbstractContextManager[Any]:
    """Let the comparison expect no point at all."""
    return patch("align.run.layers_of", return_value=())


def _torch_proxy() -> AbstractContextManager[Any]:
    """Let `import torch` give Paddle, so that Paddle would be compared with itself."""
    from paddle.compat import proxy

    guard: AbstractContextManager[Any] = proxy.use_torch_proxy_guard()
    return guard


def _zero_head(_: MixerConfig) -> Planted:
    """Timm's own initialisation: every logit is 0 on every side, whatever came before."""

    def source(state_dict: Weights) -> None:
        for key in ("head.weight", "head.bias"):
            state_dict[key] = np.zeros_like(state_dict[key])

    return Planted(layer="logits", source=source)


def _not_loaded(config: MixerConfig) -> Planted:
    """`set_state_dict` never raises: a parameter can keep its initial value."""

    def model(model: Any) -> None:
        norm = model.norm
        bias = norm.beta if config.family == "resmlp" else norm.bias
        bias.set_value(np.zeros(bias.shape, np.float32))

    return Planted(layer="norm", model=model)


def _other_images(model: Any) -> None:
    forward = model.forward
    model.forward = lambda images, tap: forward(images.flip(axis=3), tap)


def _one_precision(model: Any) -> None:
    """Compute in float32 where float64 is asked for, and say nothing."""
    forward = model.forward

    def single(images: Any, tap: Any) -> Any:
        model.to(dtype="float32")
        return forward(images.astype("float32"), tap)

    model.forward = single


def _tapped(change: Callable[[str, Any, Any], Any], layer: Callable[[MixerConfig], str]) -> Any:
    """Return the fault that stands between the model and the tap: change(point, value, tap) gives what goes on."""

    def plant(config: MixerConfig) -> Planted:
        point = layer(config)

        def model(model: Any) -> None:
            forward = model.forward

            def wrapped(images: Any, tap: Any) -> Any:
                return forward(
                    images, lambda name, value: change(name, value, tap) if name == point else tap(name, value)
                )

            model.forward = wrapped

        return Planted(layer=point, model=model)

    return plant


def _middle_norm(config: MixerConfig) -> str:
    return first_norm(config, middle(config))


def _show_one(name: str, value: Any, tap: Any) -> Any:
    """Show the first image alone, which would broadcast against the batch."""
    tap(name, value[:1])
    return value


def _show_flat(name: str, value: Any, tap: Any) -> Any:
    """Show an array of shape (1,), which broadcasts against anything."""
    tap(name, value.flatten()[:1])
    return value


HARNESS: tuple[Fault, ...] = (
    _fault("no point to compare", lambda _: Planted(layer="stem", around=_no_points)),
    _fault("a point that is never shown", _tapped(lambda _name, value, _tap: value, _middle_norm)),
    _fault("a point shown under another name", _tapped(lambda n, v, tap: tap(f"{n}.other", v), _middle_norm)),
    _fault("a point shown for the first image only", _tapped(_show_one, at_block)),
    _fault("a point shown as a broadcastable scalar", _tapped(_show_flat, at_block)),
    _fault("all-zero head", _zero_head),
    _fault("Paddle on both sides, through its torch proxy", lambda _: Planted(layer="stem", around=_torch_proxy)),
    _fault("a parameter that the model never loaded", _not_loaded),
    _fault("other images for Paddle", lambda _: Planted(layer="stem", model=_other_images)),
    _fault("float32 where float64 is asked for", lambda _: Planted(layer="stem", model=_one_precision)),
)
