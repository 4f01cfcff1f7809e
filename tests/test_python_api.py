"""The functions for notebooks and scripts, and that they say what the commands say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, save_safetensors

import align
import convert
from align.core.result import AlignmentResult
from align.mixer.models import build_timm
from convert.arrays import StateDict
from convert.errors import MixerConvertError
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig, get_variant

pytestmark = pytest.mark.usefixtures("frameworks")


def test_load_paddle_returns_a_ready_model(tmp_path: Path) -> None:
    import paddle

    weights = init_state_dict(get_variant("s32").config, 0)
    path = save_safetensors(tmp_path / "s32.safetensors", weights)
    model = convert.load_paddle("s32", checkpoint=path)
    assert isinstance(model, paddle.nn.Layer)
    assert not model.training
    np.testing.assert_array_equal(model.head.weight.numpy(), weights["head.weight"].T)
    assert convert.load_paddle(checkpoint=path, num_classes=3)(paddle.zeros([1, 3, 224, 224])).shape == [1, 3]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_load_paddle_keeps_the_dtype(tmp_path: Path, source: StateDict, dtype: str) -> None:
    import ml_dtypes
    import paddle

    cast = {key: array.astype(getattr(ml_dtypes, dtype, dtype)) for key, array in source.items()}
    model = convert.load_paddle(checkpoint=save_safetensors(tmp_path / "x.safetensors", cast))
    assert model.norm.bias.dtype == getattr(paddle, dtype)
    expected = cast["norm.bias"].astype(np.float32)
    np.testing.assert_array_equal(model.norm.bias.astype("float32").numpy(), expected)


def test_errors_are_the_command_s(tmp_path: Path) -> None:
    with pytest.raises(MixerConvertError, match="Did you mean"):
        convert.load_paddle("b16_in2k")
    with pytest.raises(MixerConvertError, match="no such source"):
        convert.load_paddle("s32", src="foo")


def test_align_takes_models_in_memory_and_leaves_them_alone(
    tmp_path: Path, config: MixerConfig, source: StateDict, assert_aligned: Callable[..., AlignmentResult]
) -> None:
    import paddle

    timm_model = build_timm(config, None, source)
    paddle_model = convert.load_paddle(checkpoint=save_safetensors(tmp_path / "x.safetensors", source))
    assert align.align(timm_model, paddle_model)
    strict = align.align(timm_model, paddle_model, atol=1e-12)
    assert (strict.verdict, bool(strict)) == ("rounding", False)
    accepted = align.align(timm_model, paddle_model, atol=1e-12, accept_rounding=True)
    assert (accepted.verdict, bool(accepted)) == ("rounding", True)
    assert assert_aligned(timm_model, paddle_model, atol=1e-12, accept_rounding=True)
    with pytest.raises(pytest.fail.Exception, match=r"^rounding: "):
        assert_aligned(timm_model, paddle_model, atol=1e-12)
    assert next(timm_model.parameters()).dtype.is_floating_point
    assert next(timm_model.parameters()).itemsize == 4
    assert paddle_model.head.weight.dtype == paddle.float32
    paddle_model.blocks[1].norm1._epsilon = 1e-5
    result = align.align(timm_model, paddle_model, input_seed=3, accept_rounding=True)
    assert not result, "nothing but rounding is accepted"
    assert result.first_divergence is not None
    assert result.first_divergence.layer == "blocks.1.norm1"


def test_align_takes_the_epsilon_from_the_model(tmp_path: Path, config: MixerConfig, source: StateDict) -> None:
    import torch

    timm_model = build_timm(config, None, source)
    paddle_model = convert.load_paddle(checkpoint=save_safetensors(tmp_path / "x.safetensors", source))
    for module in timm_model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    for layer in paddle_model.sublayers():
        if hasattr(layer, "_epsilon"):
            layer._epsilon = 1e-5
    assert align.align(timm_model, paddle_model).verdict == "aligned"


def test_align_knows_timm_s_own_tanh_gelu(tmp_path: Path, config: MixerConfig, source: StateDict) -> None:
    """timm's `gelu_tanh` is a class of its own, not torch.nn.GELU with an argument."""
    from timm.layers import GELUTanh

    timm_model = build_timm(config, None, source)
    for block in timm_model.blocks:
        block.mlp_tokens.act, block.mlp_channels.act = GELUTanh(), GELUTanh()
    path = save_safetensors(tmp_path / "x.safetensors", source)
    assert align.align(timm_model, convert.load_paddle(checkpoint=path, gelu="tanh")).verdict == "aligned"
    assert align.align(timm_model, convert.load_paddle(checkpoint=path)).verdict == "diverged"


def test_paddle_s_device_is_left_as_it_was_found(
    tmp_path: Path, config: MixerConfig, source: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: what the device was set to is noted, and every computation stays on the CPU that there is."""
    now = ["gpu:1"]
    monkeypatch.setattr("paddle.device.get_device", lambda: now[-1])
    monkeypatch.setattr("paddle.device.set_device", now.append)
    timm_model = build_timm(config, None, source)
    paddle_model = convert.load_paddle(checkpoint=save_safetensors(tmp_path / "x.safetensors", source))
    assert now[-1] == "gpu:1"
    assert align.align(timm_model, paddle_model).verdict == "aligned"
    assert "cpu" in now, "it is compared on the CPU"
    assert now[-1] == "gpu:1"
    with pytest.raises(MixerConvertError):
        align.align(timm_model, object())
    assert now[-1] == "gpu:1"


def test_a_recorded_model_is_checked_with_the_weights_that_it_holds(tmp_path: Path) -> None:
    import paddle
    import torch

    reference, candidate, trace = torch.nn.Linear(64, 32), paddle.nn.Linear(64, 32), tmp_path / "linear.json"
    weight = reference.weight.detach().numpy()
    candidate.set_state_dict({"weight": weight.T.copy(), "bias": reference.bias.detach().numpy()})
    align.record(reference, candidate, trace, input_shape=[64])
    assert align.check(trace, candidate)
    strict = [align.check(trace, candidate, atol=0.0, accept_rounding=accepted) for accepted in (False, True)]
    assert [(one.verdict, bool(one)) for one in strict] == [("rounding", False), ("rounding", True)]
    with pytest.raises(convert.UsageProblem, match="exists"):
        align.record(reference, candidate, trace, input_shape=[64])
    with pytest.raises(convert.UsageProblem, match="--candidate-model"):
        align.check(trace)
    candidate.bias.set_value(candidate.bias + 2.0**-20)
    changed = align.check(trace, candidate, accept_rounding=True)
    assert (changed.verdict, bool(changed)) == ("diverged", False)


def test_a_family_s_trace_is_checked_with_a_file(tmp_path: Path, mixer_align: Run, checkpoint: Path) -> None:
    trace, out = tmp_path / "mixer.json", tmp_path / "mixer.pdparams"
    assert mixer_align("record", "--checkpoint", checkpoint, "--out", trace).exit_code == 0
    convert.convert_file(checkpoint, out)
    assert align.check(trace, weights=out)
    with pytest.raises(convert.UsageProblem, match="a model of its own"):
        align.check(trace, convert.load_paddle(checkpoint=checkpoint))


@pytest.mark.parametrize("function", [convert.convert_file, convert.load_state_dict, convert.load_paddle])
def test_an_option_that_there_is_not_is_no_option(checkpoint: Path, function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="unknown wieghts_key"):
        function(checkpoint=checkpoint, wieghts_key="a")


def test_what_is_loaded_is_the_caller_s_own(checkpoint: Path, source: StateDict) -> None:
    loaded = convert.load_state_dict(checkpoint)
    np.testing.assert_array_equal(loaded["head.weight"], source["head.weight"])
    checkpoint.unlink()
    loaded["head.weight"][:] = 0
