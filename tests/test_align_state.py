"""A candidate that changes with use: right ones that keep something pass, those that only this gate can see fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from strangers import TIMM_NAMES, timm_model, timm_weights

import align
from align.core.result import AlignmentResult
from align.gates import state
from convert.arrays import StateDict

pytestmark = pytest.mark.usefixtures("one_thread")

Forward = Callable[[Any, Any], Any]
LATE = 20
"""More forwards than all other gates make; of a model that is right until then nothing else can be seen."""


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


@pytest.fixture(scope="module")
def reference(weights: StateDict, one_thread: None) -> Any:
    return timm_model(weights)


def layer_with(weights: StateDict, forward: Callable[[Any, Any, Any], Any], **held: Any) -> Any:
    """Return a right port whose first block computes by this forward, given the right one."""
    layer = TIMM_NAMES.build(weights)
    block = layer.blocks[0]
    kind = type(block)
    for name, value in held.items():
        setattr(block, name, value)
    computes = lambda self, x: forward(self, lambda y: kind.forward(self, y), x)  # noqa: E731
    block.__class__ = type("Block", (kind,), {"forward": computes, "uses": []})
    return layer


def only_the_state_fails(result: AlignmentResult, *says: str) -> None:
    """Check that no other gate does, but for what other weights show of a model that is another one by then."""
    failed = {gate.name: gate.passed for gate in result.gates if not gate.passed}
    assert failed in ({"state": False}, {"state": False, "redrawn": False}), result.gates
    assert result.verdict == "diverged"
    assert result.first_divergence is not None
    for what in says:
        assert what in result.gate("state").sentence
        assert what in result.first_divergence.sentence


def passes(result: AlignmentResult, *says: str) -> None:
    assert result.verdict == "aligned", result.gates
    for what in says:
        assert what in result.gate("state").sentence


def counted(self: Any, right: Callable[[Any], Any], x: Any) -> Any:
    self.calls += 1
    return right(x)


def memoised(self: Any, right: Callable[[Any], Any], x: Any) -> Any:
    import paddle

    if self.one is None:
        self.one = paddle.ones([1], "float32")
    return right(x) * self.one.astype(x.dtype)


def cached_by_shape(self: Any, right: Callable[[Any], Any], x: Any) -> Any:
    import paddle

    key = (tuple(x.shape), str(x.dtype))
    if key not in self.cache:
        self.cache[key] = paddle.ones(x.shape, x.dtype)
    return right(x) * self.cache[key]


RIGHT = [
    pytest.param(counted, {"calls": 0}, "blocks.0.calls", id="counter"),
    pytest.param(memoised, {"one": None}, "blocks.0.one", id="memoised"),
    pytest.param(cached_by_shape, {"cache": {}}, "blocks.0.cache", id="cache"),
]


@pytest.mark.parametrize(("forward", "held", "name"), RIGHT)
def test_what_is_kept_without_an_effect_passes_and_is_told(
    reference: Any, weights: StateDict, forward: Any, held: dict[str, Any], name: str
) -> None:
    result = align.align(reference, layer_with(weights, forward, **held))
    passes(result, name, "24 further forwards give the same bits")


def forwards_of(reference: Any, layer: Any, *, keeps: bool) -> int:
    """Return how many forwards an alignment makes of a right port, which keeps their number or nothing."""
    numbers, block = [], layer.blocks[0]

    def before(block: Any, _: object) -> None:  # of hooks, the gate does not look at what is around them
        numbers.append(0)
        if keeps:
            block.calls = len(numbers)

    block.calls = 0
    handle = block.register_forward_pre_hook(before)
    passes(align.align(reference, layer))
    handle.remove()
    return len(numbers)


@pytest.mark.parametrize(("small", "more"), [(2**20, 0), (0, 25)], ids=["small", "large"])
def test_further_forwards_are_made_of_a_large_model_only_where_something_changes(
    reference: Any, weights: StateDict, monkeypatch: pytest.MonkeyPatch, small: int, more: int
) -> None:
    monkeypatch.setattr(state, "SMALL", small)
    counts = [forwards_of(reference, TIMM_NAMES.build(weights), keeps=keeps) for keeps in (False, True)]
    assert counts[1] == counts[0] + more


def test_dropout_of_nothing_in_training_mode_passes(reference: Any, weights: StateDict) -> None:
    layer = TIMM_NAMES.build(weights)
    layer.train()
    passes(align.align(reference, layer), "training mode (the model, stem, stem.proj and ")
    assert all(one.training for one in layer.sublayers(include_self=True))


class TestTensors:
    def test_a_counting_buffer(self, reference: Any, weights: StateDict) -> None:
        import paddle

        def forward(self: Any, right: Any, x: Any) -> Any:
            self.count.add_(paddle.ones([1], self.count.dtype))
            return right(x)

        layer = layer_with(weights, forward)
        layer.blocks[0].register_buffer("count", paddle.zeros([1]), persistable=False)
        only_the_state_fails(align.align(reference, layer), "blocks.0.count: a forward pass changes it")

    def test_a_parameter_that_drifts_by_less_than_a_float32(self, reference: Any, weights: StateDict) -> None:
        import paddle

        def forward(self: Any, right: Any, x: Any) -> Any:
            y = right(x)
            if x.dtype == paddle.float64:
                with paddle.no_grad():
                    self.norm1.bias.add_(paddle.full([1], 1e-18, "float64"))
            return y

        small = {**weights, "blocks.0.norm1.bias": np.full_like(weights["blocks.0.norm1.bias"], 1e-4)}
        result = align.align(timm_model(small), layer_with(small, forward))
        only_the_state_fails(result, "blocks.0.norm1.bias: a forward pass changes it")

    def test_a_buffer_that_is_taken_away(self, reference: Any, weights: StateDict) -> None:
        import paddle

        def forward(self: Any, right: Any, x: Any) -> Any:
            self._buffers.pop("once", None)
            return right(x)

        layer = layer_with(weights, forward)
        layer.blocks[0].register_buffer("once", paddle.zeros([1]), persistable=False)
        only_the_state_fails(align.align(reference, layer), "blocks.0.once: a forward pass takes it away")


def attribute(self: Any) -> int:
    self.calls += 1
    return int(self.calls)


def in_a_list(self: Any) -> int:
    self.log.append(0)
    return len(self.log)


def of_the_class(self: Any) -> int:
    type(self).uses.append(0)
    return len(type(self).uses)


def in_an_object(self: Any) -> int:
    return next(self.numbers)


def in_a_tensor(self: Any) -> int:
    self.steps[0] = self.steps[0] + 1
    return int(self.steps[0])


@pytest.mark.parametrize(
    ("count", "held"),
    [
        pytest.param(attribute, lambda: {"calls": 0}, id="int"),
        pytest.param(in_a_list, lambda: {"log": []}, id="list"),
        pytest.param(of_the_class, dict, id="class"),
        pytest.param(in_an_object, lambda: {"numbers": itertools.count()}, id="count"),
        pytest.param(in_a_tensor, lambda: {"steps": [0]}, id="list item"),
    ],
)
def test_another_result_after_some_use(
    reference: Any, weights: StateDict, count: Callable[[Any], int], held: Callable[[], dict[str, Any]]
) -> None:
    def forward(self: Any, right: Any, x: Any) -> Any:
        return right(x) * (1 if count(self) < LATE else 1.5)

    result = align.align(reference, layer_with(weights, forward, **held()))
    only_the_state_fails(result, "changes with use, and further forward", "of one image differs")


def test_a_counter_in_a_closure(reference: Any, weights: StateDict) -> None:
    number = 0

    def forward(self: Any, x: Any) -> Any:
        nonlocal number
        number += 1
        return self.right(x) * (1 if number < LATE else 1.5)

    layer = TIMM_NAMES.build(weights)
    block = layer.blocks[0]
    kind = type(block)
    block.__class__ = type("Block", (kind,), {"forward": forward, "right": kind.forward})
    only_the_state_fails(align.align(reference, layer), "blocks.0.forward's number")


def test_a_forward_that_fails_after_some_use(reference: Any, weights: StateDict) -> None:
    def forward(self: Any, right: Any, x: Any) -> Any:
        if attribute(self) > LATE:
            raise MemoryError("the cache is full")
        return right(x)

    only_the_state_fails(align.align(reference, layer_with(weights, forward, calls=0)), "the cache is full")


def test_another_result_in_evaluation_mode(reference: Any, weights: StateDict) -> None:
    def forward(self: Any, right: Any, x: Any) -> Any:
        return right(x) * (1 if self.training else 1 + 1e-9)

    layer = layer_with(weights, forward)
    layer.train()
    only_the_state_fails(align.align(reference, layer), "it is in training mode (the model, ", "eval() moves")
