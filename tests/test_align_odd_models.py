"""Models that are right but odd are compared, and what cannot be is refused in a sentence."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, save_safetensors
from strangers import OTHER_NAMES, TIMM_NAMES, other_names_pairing, timm_model, timm_weights

import align
from convert.arrays import StateDict
from convert.errors import BadInput

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


@pytest.fixture(scope="module")
def reference(weights: StateDict, one_thread: None) -> Any:
    return timm_model(weights)


def without_gradients(layer: Any) -> Any:
    """Let a layer compute as under `no_grad`, as inference code does."""
    import paddle

    kind = type(layer)
    layer.__class__ = type("Inference", (kind,), {"forward": paddle.no_grad()(kind.forward)})
    return layer


def frozen(layer: Any) -> Any:
    for parameter in layer.parameters():
        parameter.stop_gradient = True
    return layer


@pytest.mark.parametrize("change", [without_gradients, frozen])
def test_a_model_through_which_no_gradient_goes_is_aligned(reference: Any, weights: StateDict, change: Any) -> None:
    """Its functional layers are covered all the same: another value of theirs is seen at the output."""
    result = align.align(reference, change(TIMM_NAMES.build(weights, variant="functional-fc2")))
    assert result.verdict == "aligned", result.gates


@pytest.mark.parametrize("change", [without_gradients, frozen])
def test_a_parameter_without_a_part_is_found_there_too(
    reference: Any, weights: StateDict, tmp_path: Path, change: Any
) -> None:
    """The norm's point is left out and the norm skipped where its scale is 1: nothing else could show it."""
    trivial = {**weights, "blocks.1.norm2.weight": np.ones_like(weights["blocks.1.norm2.weight"])}
    layer = change(TIMM_NAMES.build(trivial, mistake="norm-skipped"))
    result = align.align(timm_model(trivial), layer)
    assert result.verdict == "diverged"


def kept_on_itself(layer: Any) -> Any:
    """Let each block put what it was given on itself, and read it when it is done with something else."""

    def forward(self: Any, x: Any) -> Any:
        self.x = x
        self.normalised = self.norm1(self.x)
        self.x = self.x + self.mlp_tokens(self.normalised.transpose((0, 2, 1))).transpose((0, 2, 1))
        self.normalised = self.norm2(self.x)
        return self.x + self.mlp_channels(self.normalised)

    for block in layer.blocks:
        block.__class__ = type("Keeps", (type(block),), {"forward": forward})
    return layer


def in_a_plain_list(layer: Any) -> Any:
    """Let the blocks be called from a list that stands beside those registered."""
    vars(layer)["order"] = [*layer.blocks]
    kind = type(layer)

    def forward_features(self: Any, x: Any) -> Any:
        x = self.stem(x)
        for block in self.order:
            x = block(x)
        return self.norm(x)

    layer.__class__ = type("Listed", (kind,), {"forward_features": forward_features})
    return layer


def kept_in_a_plain_list(layer: Any) -> Any:
    return in_a_plain_list(kept_on_itself(layer))


def kept_behind_methods(layer: Any) -> Any:
    """Let the blocks be called by their own methods, in a dictionary of tuples."""
    kept_on_itself(layer)
    vars(layer)["steps"] = {"mixing": tuple(block.forward for block in layer.blocks)}
    kind = type(layer)

    def forward_features(self: Any, x: Any) -> Any:
        x = self.stem(x)
        for step in self.steps["mixing"]:
            x = step(x)
        return self.norm(x)

    layer.__class__ = type("Stepped", (kind,), {"forward_features": forward_features})
    return layer


@pytest.mark.parametrize("change", [kept_on_itself, in_a_plain_list, kept_in_a_plain_list, kept_behind_methods])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_whose_layers_keep_values_or_stand_in_a_list(
    reference: Any, weights: StateDict, change: Any, batch: int
) -> None:
    """Several forwards of one model run at a time, and none may read what another one kept."""
    for seed in range(3):
        result = align.align(reference, change(TIMM_NAMES.build(weights)), batch=batch, input_seed=seed)
        assert result.verdict == "aligned", result.first_divergence or result.gates


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_forward_that_exits_ends_nothing(reference: Any, weights: StateDict, batch: int) -> None:
    """`SystemExit(0)` would end the command with the code of an aligned port."""
    layer = TIMM_NAMES.build(weights)
    kind = type(layer)

    def forward(self: Any, images: Any) -> Any:
        if len(images) == batch:
            raise SystemExit(0)
        return kind.forward(self, images)

    layer.__class__ = type("Exits", (kind,), {"forward": forward})
    result = align.align(reference, layer)
    assert result.verdict == "diverged"
    assert any("SystemExit" in gate.sentence for gate in result.gates)


def in_half(layer: Any) -> Any:
    layer.to(dtype="float16")
    return layer


def with_a_lock(layer: Any) -> Any:
    layer.lock = threading.Lock()
    return layer


def test_half_precision_is_refused(reference: Any, weights: StateDict) -> None:
    with pytest.raises(BadInput, match="is float16"):
        align.align(reference, in_half(TIMM_NAMES.build(weights)))


def test_what_cannot_be_copied_is_compared_but_not_trained(reference: Any, weights: StateDict) -> None:
    layer = with_a_lock(TIMM_NAMES.build(weights))
    assert align.align(reference, layer).verdict == "aligned"
    with pytest.raises(BadInput, match="cannot be copied, and some gates take a copy"):
        align.align(reference, layer, backward=True)


def test_a_model_without_values_is_refused(reference: Any) -> None:
    import paddle

    with paddle.LazyGuard():
        layer = paddle.nn.Linear(3, 3)
    with pytest.raises(BadInput, match="has no value yet"):
        align.align(reference, layer)


def test_static_mode_is_refused(reference: Any, weights: StateDict) -> None:
    import paddle

    layer = TIMM_NAMES.build(weights)
    paddle.enable_static()
    try:
        with pytest.raises(BadInput, match="static mode"):
            align.align(reference, layer)
    finally:
        paddle.disable_static()


def test_a_wrapped_or_half_reference_is_refused(weights: StateDict) -> None:
    import torch

    layer = TIMM_NAMES.build(weights)
    with pytest.raises(BadInput, match=r"\.module"):
        align.align(torch.nn.DataParallel(timm_model(weights)), layer)
    with pytest.raises(BadInput, match="is bfloat16"):
        align.align(timm_model(weights).bfloat16(), layer)


def test_the_headline_cannot_be_left_out(reference: Any, weights: StateDict, tmp_path: Path) -> None:
    pairing = tmp_path / "pairing.toml"
    pairing.write_text(other_names_pairing().replace("[left-out]", '[left-out]\n"logits" = "why not"'))
    if "logits" not in pairing.read_text():
        pairing.write_text(f'{other_names_pairing()}\n[left-out]\n"logits" = "why not"\n')
    with pytest.raises(BadInput, match="it is what is compared"):
        align.align(reference, OTHER_NAMES.build(weights), pairing)


@pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
def test_a_candidate_in_timm_s_layout(mixer_align: Run, weights: StateDict, tmp_path: Path, suffix: str) -> None:
    """A file of timm's is converted; Paddle's own with torch's Linear weights is the wrong port that it looks like."""
    import paddle

    checkpoint, candidate = save_safetensors(tmp_path / "timm.safetensors", weights), tmp_path / f"candidate{suffix}"
    if suffix == ".safetensors":
        save_safetensors(candidate, weights)
    else:
        paddle.save({key: paddle.to_tensor(np.array(array)) for key, array in weights.items()}, str(candidate))
    target = f"{TIMM_NAMES.file}:build"
    result = mixer_align("--checkpoint", checkpoint, "--candidate", candidate, "--candidate-model", target)
    assert result.exit_code == (0 if suffix == ".safetensors" else 1), result.output
