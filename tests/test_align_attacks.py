"""Ports as others write them, right and wrong, that the gates once told wrongly from one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import align
from align.core.bounds import ALLOWED, FLOAT64, ROUNDOFF, Roundings
from align.core.result import AlignmentResult
from align.mixer import models
from align.mixer.specimens import small
from convert.arrays import StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, MixerKind

pytestmark = pytest.mark.usefixtures("one_thread")

Change = Callable[[Any], object]


def compared(config: MixerConfig, change: Change, weights: StateDict | None = None) -> AlignmentResult:
    """Return how a right port compares after a change to it."""
    weights = weights or init_state_dict(config, 0)
    layer = models.build_paddle(config, convert_state_dict(weights, config).state_dict)
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
