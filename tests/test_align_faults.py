"""The faults that hide: each shows where its name says, and not on the usual batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from align.core.case import Case, Settings
from align.faults.fault import Fault, Planted
from align.faults.front import layer_of
from align.mixer.faults import DEPENDENCE, LIMITS, OUTPUTS, STATE, TRIVIAL, VALUES
from align.mixer.specimens import SPECIMENS
from align.probes import paddle_probe
from align.selftest.run import try_fault
from convert.arrays import Array
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict

pytestmark = pytest.mark.usefixtures("frameworks")

SMALL = [name for name in SPECIMENS if name != "s32"]
LEAVES = {"stem": "stem.proj", "logits": "head"}


def right_case(name: str) -> Case:
    return SPECIMENS[name].case(Settings(), 0)


def planted_in(name: str, faults: tuple[Fault, ...]) -> Iterator[tuple[Fault, Planted]]:
    right = right_case(name)
    for fault in faults:
        planted = fault.plant(right)
        if planted is not None:
            yield fault, planted


def built(name: str, planted: Planted | None = None) -> Any:
    """Return the Paddle model of a config, with a fault or without."""
    return SPECIMENS[name].case(Settings(), 0, planted).candidate.build()


def given_to(model: Any, path: str, images: Array) -> Array:
    """Return what a layer is given in a forward."""
    import paddle

    given: list[Array] = []
    handle = layer_of(model, path).register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].numpy()))
    with paddle.no_grad():
        model(paddle.to_tensor(images))
    handle.remove()
    return given[0]


def strange(usual: Array) -> Array:
    """Return values of a shape that no image gives: constant rows, zeros, tiny ones, all magnitudes, an outlier."""
    values = usual * 1e5
    rows = values.reshape(-1, values.shape[-1])
    rows[2:3] *= 1e-9
    rows[3:4] *= 1e-4
    rows[0], rows[1], rows[-1, 0] = 0, 0.375, 1e7
    return values


@pytest.mark.parametrize("name", SMALL)
def test_a_fault_of_values_shows_on_strange_ones_alone(name: str) -> None:
    right, images = built(name), right_case(name).inputs.astype(np.float64)
    paddle_probe.cast(right, "float64")
    faults = list(planted_in(name, VALUES))
    assert len(faults) >= 10
    for fault, planted in faults:
        wrong = built(name, planted)
        paddle_probe.cast(wrong, "float64")
        path = LEAVES.get(planted.layer, planted.layer)
        layers = layer_of(right, path), layer_of(wrong, path)
        usual = given_to(right, path, images)
        assert same(layers, usual), fault.name
        assert not (same(layers, 10 * usual) and same(layers, strange(usual))), fault.name


def same(layers: tuple[Any, Any], values: Array) -> bool:
    """Return whether two layers put out the same, as a bound on float64 judges it."""
    import paddle

    with paddle.no_grad():
        one, other = (layer(paddle.to_tensor(values)).numpy() for layer in layers)
    return np.allclose(one, other, rtol=0, atol=1e-12 * max(1.0, float(np.abs(one).max())))


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_a_fault_of_dependence_shows_with_other_weights_alone(name: str, copied: bool) -> None:
    """A copy of the model is faulty with its own weights, as a gate that copies it would have it."""
    config, images = SPECIMENS[name].config, right_case(name).inputs
    others = convert_state_dict(init_state_dict(config, 1), config).state_dict
    for fault, planted in planted_in(name, (*DEPENDENCE, *TRIVIAL)):
        same = SPECIMENS[name].case(Settings(), 0, Planted(layer="", source=planted.source))
        right, wrong = same.candidate.build(), built(name, planted)
        assert np.allclose(logits(right, images), logits(wrong, images), rtol=0, atol=1e-6), fault.name
        models = [paddle_probe.copied(model) if copied else model for model in (right, wrong)]
        for model in models:
            paddle_probe.load(model, others)
        assert not np.allclose(logits(models[0], images), logits(models[1], images), rtol=0, atol=1e-5), fault.name


def logits(model: Any, images: Array) -> Array:
    found: Array = paddle_probe.forward(model, images)
    return found


@pytest.mark.parametrize("name", SMALL)
def test_a_fault_of_state_shows_in_use(name: str) -> None:
    images = right_case(name).inputs
    assert not remembered(built(name), images)
    for fault, planted in planted_in(name, STATE):
        assert remembered(built(name, planted), images), fault.name


def remembered(model: Any, images: Array) -> set[str]:
    """Return what twenty forwards, other images and evaluation mode change."""
    held = tensors(model)
    first = logits(model, images)
    changed = {"result" for _ in range(19) if logits(model, images).tobytes() != first.tobytes()}
    if tensors(model) != held:
        changed.add("tensors")
    if np.abs(logits(model, images[::-1].copy())[::-1] - first).max() > 1e-4:
        changed.add("order")
    model.eval()
    if np.abs(logits(model, images) - first).max() > 1e-4:
        changed.add("mode")
    return changed


def tensors(model: Any) -> dict[str, bytes]:
    every = [*model.named_parameters(), *model.named_buffers()]
    return {key: tensor.numpy().tobytes() for key, tensor in every}


def test_the_fault_where_gradients_are_recorded_shows_there_alone() -> None:
    import paddle

    fault = next(fault for fault in OUTPUTS if "gradients" in fault.name)
    images = right_case("small-mixer").inputs
    right, wrong = (built("small-mixer", planted) for planted in (None, fault.plant(right_case("small-mixer"))))
    assert np.array_equal(logits(right, images), logits(wrong, images))
    with paddle.enable_grad():
        one, other = (model(paddle.to_tensor(images)).numpy() for model in (right, wrong))
    assert not np.allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.what)
def test_a_limit_is_not_seen_and_its_larger_version_is(limit: Any) -> None:
    specimen = SPECIMENS["small-mixer"]
    outcomes = {}
    for size in (limit.unseen, limit.seen):
        fault = limit.fault_of(size)
        planted = fault.plant(right_case("small-mixer"))
        assert planted is not None
        outcomes[size] = try_fault(fault, planted, "small-mixer", specimen).outcome
    assert outcomes == {limit.unseen: "missed", limit.seen: "caught"}
