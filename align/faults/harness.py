"""Faults of the comparison itself: ways in which it could pass because nothing, or the wrong thing, is compared.

They apply to any case whose candidate is a Paddle layer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from align.core.case import Case
from align.core.point import Point
from align.faults.fault import Fault, Planted
from align.faults.front import layer_of


def _fault(name: str, plant: Callable[[Case], Planted | None]) -> Fault:
    return Fault(name=name, kind="harness", plant=plant)


def _outputs(case: Case) -> list[Point]:
    """Return the points that are outputs of modules, in which a fault can be planted."""
    return [point for point in case.points if point.candidate.where == "output" and point.candidate.module]


def _middle(case: Case) -> Point:
    points = _outputs(case)
    return points[len(points) // 2]


def _no_points(_: Case) -> Planted:
    return Planted(layer="", case=lambda case: replace(case, points=()))


def _not_hooked(case: Case) -> Planted:
    """Return a fault in which a module takes no hook, like one whose forward is called directly."""
    point = _middle(case)

    def model(model: Any) -> None:
        layer = layer_of(model, point.candidate.module)
        layer.register_forward_post_hook = lambda _: SimpleNamespace(remove=lambda: None)

    return Planted(layer=point.name, model=model)


def _exchanged(case: Case) -> Planted:
    """Return a fault in which two modules show each other's values."""
    points = _outputs(case)
    first = _middle(case)
    alike = [point for point in points[points.index(first) + 1 :] if point.shape == first.shape]

    def model(model: Any) -> None:
        one, other = (layer_of(model, point.candidate.module) for point in (first, alike[0]))
        hook_one, hook_other = one.register_forward_post_hook, other.register_forward_post_hook
        one.register_forward_post_hook, other.register_forward_post_hook = hook_other, hook_one

    return Planted(layer=first.name, model=model)


def _puts_out(change: Callable[[Any], Any]) -> Callable[[Case], Planted]:
    """Return a function that plants a change in the output of a module in the middle."""

    def plant(case: Case) -> Planted:
        point = _middle(case)

        def model(model: Any) -> None:
            layer = layer_of(model, point.candidate.module)
            forward = layer.forward
            layer.forward = lambda *inputs: change(forward(*inputs))

        return Planted(layer=point.name, model=model)

    return plant


def _torch_proxy() -> AbstractContextManager[Any]:
    """Return a context in which `import torch` gives Paddle, so that Paddle would be compared with itself."""
    from paddle.compat import proxy

    guard: AbstractContextManager[Any] = proxy.use_torch_proxy_guard()
    return guard


def _other_images(model: Any) -> None:
    forward = model.forward
    model.forward = lambda images: forward(images.flip(axis=3))


def _one_precision(model: Any) -> None:
    """Make the model silently compute in float32 where float64 is asked for."""
    forward = model.forward

    def single(images: Any) -> Any:
        model.to(dtype="float32")
        return forward(images.astype("float32"))

    model.forward = single


def _at_the_start(**planted: Any) -> Callable[[Case], Planted]:
    return lambda case: Planted(layer=case.points[0].name, **planted)


HARNESS: tuple[Fault, ...] = (
    _fault("no point to compare", _no_points),
    _fault("a point that is never shown", _not_hooked),
    _fault("two points shown under each other's name", _exchanged),
    _fault("a point shown for the first image only", _puts_out(lambda value: value[:1])),
    _fault("a point shown as a broadcastable scalar", _puts_out(lambda value: value.flatten()[:1])),
    _fault("Paddle on both sides, through its torch proxy", _at_the_start(around=_torch_proxy)),
    _fault("other images for Paddle", _at_the_start(model=_other_images)),
    _fault("float32 where float64 is asked for", _at_the_start(model=_one_precision)),
)
