"""The user's own model is what is compared, not a copy of it, and it has in the end all that it had before."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strangers import TIMM_NAMES, timm_model, timm_weights

import align
from align.probes import torch_probe
from convert.arrays import StateDict

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


@pytest.fixture
def reference(weights: StateDict, one_thread: None) -> Any:
    return timm_model(weights)


def doubled(layer: Any) -> None:
    """Make a wrong port of a right one, by its weights."""
    import paddle

    with paddle.no_grad():
        layer.head.weight.set_value(layer.head.weight * 2)


def of_paddle(layer: Any) -> list[Any]:
    """Return the identity, memory, dtype, flags and values of all that a layer holds, and what lies around them."""
    tensors = [*layer.parameters(), *layer.buffers()]
    grads = [None if one.grad is None else one.grad.numpy().tolist() for one in tensors]
    memory = [(id(one), one.data_ptr(), str(one.dtype), one.stop_gradient, one.numpy().tobytes()) for one in tensors]
    return [memory, grads, *map(around, layer.sublayers(include_self=True))]


def of_torch(model: Any) -> list[Any]:
    tensors = [*model.parameters(), *model.buffers()]
    memory = [
        (id(t), t.data_ptr(), str(t.dtype), t.requires_grad, id(t.grad), t.detach().numpy().tobytes()) for t in tensors
    ]
    return [memory, *map(around, model.modules())]


def around(layer: Any) -> Any:
    """Return the attributes of a layer, each by its identity, and what its dicts have in them."""
    return {
        key: [(name, id(one)) for name, one in value.items()] if isinstance(value, dict) else (id(value), repr(value))
        for key, value in vars(layer).items()
        if key != "_built"  # Paddle's mark of a layer that has been run
    }


def by_lambda(layer: Any) -> None:
    """Replace the forward on the instance; a copy would go on calling this layer's head."""
    head, forward = layer.head, layer.forward
    layer.classify = lambda x: head(x) + 0
    layer.forward = lambda x: forward(x) + 0


def by_a_deep_copy_of_another(layer: Any, right: Any) -> None:
    layer.__class__ = type("Model", (type(layer),), {"__deepcopy__": lambda self, memo: copy.deepcopy(right, memo)})


def test_a_forward_on_the_instance_is_compared(reference: Any, weights: StateDict) -> None:
    layer = TIMM_NAMES.build(weights)
    by_lambda(layer)
    assert align.align(reference, layer).verdict == "aligned"
    doubled(layer)
    assert align.align(reference, layer).verdict == "diverged"


def test_another_model_for_a_copy_does_not_count(reference: Any, weights: StateDict) -> None:
    layer = TIMM_NAMES.build(weights)
    by_a_deep_copy_of_another(layer, TIMM_NAMES.build(weights))
    doubled(layer)
    assert align.align(reference, layer).verdict == "diverged"


def test_a_parameter_hidden_from_the_state_dict_is_seen(reference: Any, weights: StateDict) -> None:
    import paddle

    layer = TIMM_NAMES.build(weights)
    kind = type(layer)

    def state_dict(self: Any, *arguments: Any, **named: Any) -> Any:
        return {key: one for key, one in kind.state_dict(self, *arguments, **named).items() if key != "shift"}

    layer.shift = layer.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(0.0))
    hides = {"state_dict": state_dict, "forward": lambda self, x: kind.forward(self, x) + self.shift}
    layer.__class__ = type("Hides", (kind,), hides)
    result = align.align(reference, layer)
    assert result.verdict == "diverged"
    assert "shift: is in the candidate only" in result.gate("structure").sentence


@pytest.mark.parametrize("what", ["an open file", "a module", "a lock", "a generator"])
def test_what_cannot_be_copied(reference: Any, weights: StateDict, what: str) -> None:
    layer = TIMM_NAMES.build(weights)
    with Path(__file__).open(encoding="utf-8") as file:
        held = {"an open file": file, "a module": np, "a lock": threading.Lock(), "a generator": iter(range(3))}
        layer.held = held[what]
        assert align.align(reference, layer).verdict == "aligned"
        assert layer.held is held[what]


def with_gradients(layer: Any, reference: Any) -> None:
    import paddle
    import torch

    layer(paddle.ones([1, 3, 32, 32])).sum().backward()
    reference(torch.ones(1, 3, 32, 32)).sum().backward()


def with_buffers(layer: Any, reference: Any) -> None:
    """Of whole numbers and of fractions, unsaved: a cast gives each another object or another dtype."""
    import paddle
    import torch

    layer.register_buffer("number", paddle.ones([2], "int64"), persistable=False)
    layer.register_buffer("halves", paddle.ones([2]) / 2, persistable=False)
    reference.register_buffer("halves", torch.ones(2) / 2, persistent=False)


def in_training(layer: Any, reference: Any) -> None:
    layer.train()
    layer.norm.eval()
    reference.train()
    reference.norm.eval()


def frozen(layer: Any, reference: Any) -> None:
    layer.head.weight.stop_gradient = True
    reference.head.weight.requires_grad = False


def keeping(layer: Any, _: Any) -> None:
    """Keep the first result: without an effect, but in float64 by the end."""
    kind = type(layer)

    def forward(self: Any, x: Any) -> Any:
        self.calls += 1
        self.cache[str(x.dtype)] = x
        self.log.append(x)
        self.last = x
        return kind.forward(self, x)

    layer.calls, layer.cache, layer.log, layer.last = 0, {}, [], None
    layer.__class__ = type("Keeping", (kind,), {"forward": forward})


def nothing(*_: Any) -> None:
    pass


CHANGES = [nothing, with_gradients, with_buffers, in_training, frozen, keeping]


@pytest.mark.parametrize("change", CHANGES)
def test_neither_is_changed(reference: Any, weights: StateDict, change: Callable[[Any, Any], None]) -> None:
    layer = TIMM_NAMES.build(weights)
    change(layer, reference)
    before = of_paddle(layer), of_torch(reference)
    assert align.align(reference, layer).verdict == "aligned"
    assert (of_paddle(layer), of_torch(reference)) == before


def test_neither_is_changed_by_one_that_writes_to_its_weights(reference: Any, weights: StateDict) -> None:
    import paddle

    layer = TIMM_NAMES.build(weights)
    kind = type(layer)

    def forward(self: Any, x: Any) -> Any:
        with paddle.no_grad():
            self.head.bias.add_(paddle.ones([1], x.dtype))
        return kind.forward(self, x)

    layer.__class__ = type("Writes", (kind,), {"forward": forward})
    before = of_paddle(layer)
    assert align.align(reference, layer).verdict in ("diverged", "inconclusive")
    assert of_paddle(layer) == before


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_neither_is_changed_by_a_failure(reference: Any, weights: StateDict, batch: int) -> None:
    layer = TIMM_NAMES.build(weights)
    kind = type(layer)

    def forward(self: Any, x: Any) -> Any:
        if len(x) == batch:
            raise KeyboardInterrupt
        return kind.forward(self, x)

    layer.__class__ = type("Interrupted", (kind,), {"forward": forward})
    before = of_paddle(layer), of_torch(reference)
    with pytest.raises(KeyboardInterrupt):
        align.align(reference, layer)
    assert (of_paddle(layer), of_torch(reference)) == before


def test_a_failure_waits_for_the_cast_of_what_is_lent(
    reference: Any, weights: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast = torch_probe.cast

    def slow_cast(model: Any, dtype: Any) -> None:
        time.sleep(0.5)
        cast(model, dtype)

    monkeypatch.setattr(torch_probe, "cast", slow_cast)
    test_neither_is_changed_by_a_failure(reference, weights, 1)
    time.sleep(0.6)
    assert next(reference.parameters()).itemsize == 4


def test_threads_with_the_same_models_do_not_disturb_each_other(reference: Any, weights: StateDict) -> None:
    layer = TIMM_NAMES.build(weights)
    before, verdicts = (of_paddle(layer), of_torch(reference)), []
    threads = [threading.Thread(target=lambda: verdicts.append(align.align(reference, layer).verdict)) for _ in "123"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert verdicts == ["aligned"] * 3
    assert (of_paddle(layer), of_torch(reference)) == before
