"""Ports as their users have them: outputs by field name, made static; called with gradients, with an input to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from strangers import SCHEMA, TIMM_NAMES, timm_model, timm_weights

import align
from convert.arrays import StateDict

pytestmark = pytest.mark.usefixtures("one_thread")


class Named(NamedTuple):
    scale: float
    values: Any


@dataclass
class Fields:
    scale: float
    values: Any


@dataclass(frozen=True)
class Frozen:
    scale: float
    values: Any


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


@pytest.fixture(scope="module")
def reference(weights: StateDict, one_thread: None) -> Any:
    return timm_model(weights)


def returning(layer: Any, change: Callable[[Any, Any], Any]) -> Any:
    """Let a layer return what this makes of its input and its output."""
    kind = type(layer)

    def forward(self: Any, x: Any) -> Any:
        return change(x, kind.forward(self, x))

    layer.__class__ = type("Changed", (kind,), {"forward": forward})
    return layer


def by_field(layer: Any, form: Callable[..., Any]) -> Any:
    """Let the model and its first block return a record; the block behind takes it out again."""
    returning(layer.blocks[0], lambda _, y: form(scale=1.0, values=y))
    layer.blocks[1].register_forward_pre_hook(lambda _, inputs: (inputs[0].values,))
    return returning(layer, lambda _, y: form(scale=1.0, values=y))


@pytest.mark.parametrize("form", [Named, Fields, Frozen])
@pytest.mark.parametrize("factor", [1, 1.5])
def test_an_item_by_its_field_s_name(
    reference: Any, weights: StateDict, tmp_path: Path, form: Callable[..., Any], factor: float
) -> None:
    layer = TIMM_NAMES.build(weights)
    returning(layer.blocks[0], lambda _, y: y * factor)
    pairing = tmp_path / "pairing.toml"
    points = ['"blocks.0" = { output = "blocks.0", item = "values" }', 'logits = { output = "", item = "values" }']
    pairing.write_text("\n".join([SCHEMA, "[points]", *points, ""]))
    result = align.align(reference, by_field(layer, form), pairing)
    assert result.verdict == ("aligned" if factor == 1 else "diverged"), result.gates
    assert factor == 1 or (result.first_divergence and result.first_divergence.layer == "blocks.0")


def test_a_field_that_is_not_there(reference: Any, weights: StateDict, tmp_path: Path) -> None:
    pairing = tmp_path / "pairing.toml"
    pairing.write_text(f'{SCHEMA}[points]\nlogits = {{ output = "", item = "logits" }}\n')
    layer = returning(TIMM_NAMES.build(weights), lambda _, y: Fields(scale=1.0, values=y))
    result = align.align(reference, layer, pairing)
    assert result.verdict == "diverged"
    assert "Fields has no such item" in result.gate("structure").sentence


@pytest.mark.parametrize("mistake", [None, "epsilon"])
def test_a_model_that_is_made_static(reference: Any, weights: StateDict, mistake: str | None) -> None:
    import paddle
    from paddle.jit.dy2static.program_translator import ProgramTranslator

    layer = paddle.jit.to_static(TIMM_NAMES.build(weights, **({"mistake": mistake} if mistake else {})))
    result = align.align(reference, layer)
    assert result.verdict == ("diverged" if mistake else "aligned"), result.gates
    assert ProgramTranslator().enable_to_static


@pytest.mark.parametrize("batch", [1, 2])
def test_an_input_that_is_overwritten(reference: Any, weights: StateDict, batch: int) -> None:
    import paddle

    def overwrite(x: Any, y: Any) -> Any:
        with paddle.no_grad():
            x.scale_(2.0)
        return y

    result = align.align(reference, returning(TIMM_NAMES.build(weights), overwrite), batch=batch)
    assert result.verdict == "diverged"
    assert result.gate("output").passed is False
    assert "it overwrites its input" in result.gate("output").sentence


@pytest.mark.parametrize("batch", [1, 2])
def test_another_result_while_gradients_are_recorded(reference: Any, weights: StateDict, batch: int) -> None:
    import paddle

    layer = returning(TIMM_NAMES.build(weights), lambda _, y: y * 1.5 if paddle.is_grad_enabled() else y)
    result = align.align(reference, layer, batch=batch)
    assert result.verdict == "diverged"
    assert result.gate("batch" if batch > 1 else "output").passed is False
