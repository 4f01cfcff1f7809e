"""Ports as others write them, right and wrong, that the gates once told wrongly from one another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import align
from align.core.bounds import ALLOWED, FLOAT64, ROUNDOFF, Roundings
from align.core.case import Settings
from align.core.result import AlignmentResult
from align.gates import output
from align.mixer import models
from align.mixer.case import Subject, case_of
from align.mixer.specimens import small
from convert.arrays import StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.shapes import timm_shapes
from convert.mixer.variants import MixerConfig, MixerKind, get_variant

pytestmark = pytest.mark.usefixtures("one_thread")

Change = Callable[[Any], object]


def compared(config: MixerConfig, change: Change, weights: StateDict | None = None) -> AlignmentResult:
    """Return how a right port compares after a change to it."""
    weights = weights or init_state_dict(config, 0)
    layer = models.build_paddle(config, convert_state_dict(weights, config).state_dict)
    layer.__class__ = type("Port", (type(layer),), {})  # not the project's own, which shows every point
    change(layer)
    return align.align(models.build_timm(config, None, weights), layer)


def failed(result: AlignmentResult) -> list[str]:
    return [gate.name for gate in result.gates if gate.passed is False]


def front(layer: Any, forward: Callable[..., Any]) -> None:
    """Put a forward in front of a layer's own."""
    layer.__class__ = type("Changed", (type(layer),), {"forward": forward})


def write_norms_out(model: Any, error: float = 0.0) -> None:
    """Let every LayerNorm be (x - mean) / sqrt(variance + epsilon), the epsilon as Python has it."""
    import paddle

    def forward(norm: Any, x: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdim=True)
        variance = (centred * centred).mean(axis=-1, keepdim=True)
        return centred / paddle.sqrt(variance + (norm._epsilon + error)) * norm.weight + norm.bias

    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.LayerNorm):
            front(layer, forward)


class TestNormsWrittenOut:
    """Paddle's LayerNorm rounds its epsilon to float32 in float64 too; one that is written out does not."""

    @pytest.mark.parametrize("size", [1.0, 1e-3])
    @pytest.mark.parametrize("family", ["mixer", "gmixer", "gmlp"])
    def test_it_is_aligned(self, family: MixerKind, size: float) -> None:
        config = small(family)
        weights = init_state_dict(config, 0)
        weights |= {key: array * np.float32(size) for key, array in weights.items() if key.startswith("stem.")}
        result = compared(config, write_norms_out, weights)
        assert result.verdict in ("aligned", "rounding"), result.gates

    @pytest.mark.parametrize("family", ["mixer", "gmlp"])
    def test_another_epsilon_is_not(self, family: MixerKind) -> None:
        result = compared(small(family), lambda model: write_norms_out(model, 1e-9))
        assert result.verdict == "diverged"
        assert {"float64", "stress"} <= {*failed(result)}

    def test_what_it_moves_is_allowed_from_there_on(self) -> None:
        roundings = Roundings(found=dict.fromkeys(("stem", "norm", "fc1"), 1e-6))
        for name, slack in (("stem", 0.0), ("norm", 1e-9), ("fc1", 0.0)):
            roundings.note_size(name, 1.0, slack)
        assert roundings.introduced("stem", "float64") == roundings.introduced("fc1", "float64") == FLOAT64
        assert roundings.introduced("norm", "float64").bound(3.0) == 2 * 1e-9 * 3.0
        assert roundings.whole("stem") == FLOAT64
        assert roundings.whole("fc1").bound(1.0) == ALLOWED * 1e-9 * 1e-6 / ROUNDOFF["float32"]


def in_parts(size: int) -> Change:
    """Let a model compute parts of a batch, the last of which is taken from the end of the part before."""

    def change(model: Any) -> None:
        import paddle

        whole = type(model).forward

        def forward(self: Any, images: Any) -> Any:
            starts = range(0, len(images), size)
            parts = [whole(self, images[i : i + size] if i + size <= len(images) else images[-size:]) for i in starts]
            return paddle.concat(parts)[: len(images)]

        front(model, forward)

    return change


@pytest.mark.parametrize("size", [4, 5, 16, 64])
def test_parts_of_a_batch_that_are_wrong_beyond_the_first(size: int) -> None:
    assert failed(compared(small("mixer"), in_parts(size))) == ["batch"]


def test_the_larger_batch_is_what_can_be_afforded() -> None:
    counts = []
    for config in (small("mixer"), get_variant("b16_in21k").config, get_variant("l16_in21k").config):
        source = {name: np.broadcast_to(np.float32(0), shape) for name, shape in timm_shapes(config).items()}
        counts.append(output._larger(case_of(Subject(source=source, config=config, name="x"), Settings())))
    assert counts[0] == output.MOST_LARGER
    assert output.MOST_LARGER > counts[1] >= counts[2] == output.LEAST_LARGER


def functional_mlps(model: Any, most: float | None = None) -> None:
    """Let MLPs activate by a function, beside a layer that is there and not called; capped, where most is given."""
    import paddle
    import paddle.nn.functional as F  # noqa: N812  # as everyone calls it

    def forward(mlp: Any, x: Any) -> Any:
        x = F.gelu(mlp.fc1(x))
        return mlp.fc2(x if most is None else paddle.clip(x, max=most))

    for block in model.blocks:
        front(block.mlp_channels, forward)


def functional_norms(model: Any, least: float = 0.0) -> None:
    """Let blocks compute their second norm themselves, of a variance that is at least so large."""
    import paddle

    def forward(block: Any, x: Any) -> Any:
        x = x + block.mlp_tokens(block.norm1(x).transpose([0, 2, 1])).transpose([0, 2, 1])
        centred, norm = x - x.mean(axis=-1, keepdim=True), block.norm2
        variance = paddle.clip((centred * centred).mean(axis=-1, keepdim=True), min=least)
        normed = centred / paddle.sqrt(variance + norm._epsilon) * norm.weight + norm.bias
        return x + block.mlp_channels(normed)

    for block in model.blocks:
        front(block, forward)


class TestFunctionsForLayers:
    """What a function computes in a layer's place is called alone with the layers around it."""

    @pytest.mark.parametrize("change", [functional_mlps, functional_norms])
    def test_right_ones_are_aligned(self, change: Change) -> None:
        result = compared(small("mixer"), change)
        assert result.verdict == "aligned", result.gates

    @pytest.mark.parametrize(
        "change", [lambda model: functional_mlps(model, most=6.0), lambda model: functional_norms(model, least=1e-3)]
    )
    def test_wrong_ones_are_not(self, change: Change) -> None:
        assert "stress" in failed(compared(small("mixer"), change))


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_forward_behind_a_lock(kind: Callable[[], Any]) -> None:
    """Two forwards that go in step would wait for each other."""

    def locked(model: Any) -> None:
        shared = kind()
        for layer in (model, *model.blocks):
            whole = type(layer).forward
            layer.__dict__["lock"] = shared if kind is threading.RLock or layer is model else kind()

            def forward(self: Any, x: Any, whole: Any = whole) -> Any:
                with self.lock:
                    return whole(self, x)

            front(layer, forward)

    assert compared(small("mixer"), locked).verdict == "aligned"
