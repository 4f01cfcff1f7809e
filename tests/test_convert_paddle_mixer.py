from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from conftest import Run

from align.core.inputs import seeded_images
from align.mixer.models import build_paddle
from align.mixer.points import points_of
from align.probes import paddle_probe
from convert.arrays import Array, StateDict
from convert.checks.loading import NotLoaded
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, MixerKind

pytestmark = pytest.mark.usefixtures("frameworks")


def test_a_converted_file_loads_as_it_is(
    mixer_convert: Run, checkpoint: Path, tmp_path: Path, config: MixerConfig, source: StateDict
) -> None:
    import paddle

    from convert.mixer.paddle_mixer import MlpMixer

    out = tmp_path / "out.pdparams"
    mixer_convert("--checkpoint", checkpoint, "--out", out)
    model = MlpMixer(config)
    assert model.set_state_dict(paddle.load(str(out))) == ([], [])
    held = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    assert held.keys() == source.keys()
    np.testing.assert_array_equal(held["head.weight"], source["head.weight"].T)
    np.testing.assert_array_equal(held["stem.proj.weight"], source["stem.proj.weight"])


def test_parameters_that_paddle_leaves_unloaded_are_an_error(
    config: MixerConfig, source: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paddle 3.0 takes none of a lazy model's parameters, and gives every name back."""
    from convert.mixer.paddle_mixer import MlpMixer

    monkeypatch.setattr(MlpMixer, "set_state_dict", lambda _, given: ([], list(given)))
    with pytest.raises(NotLoaded, match="Run: pip install --upgrade paddlepaddle"):
        build_paddle(config, convert_state_dict(source, config).state_dict)


def images_of(config: MixerConfig, batch: int) -> Array:
    return seeded_images((batch, config.in_chans, config.image_size, config.image_size), 0)


def test_hooks_show_every_point_in_forward_order(config: MixerConfig, source: StateDict) -> None:
    model = build_paddle(config, convert_state_dict(source, config).state_dict)
    points, shown = points_of(config, 3), dict[str, Array]()
    with paddle_probe.tapped(model, {point.name: point.candidate for point in points}) as run:
        returned = run(images_of(config, 3), shown.__setitem__)
    assert [(name, value.shape) for name, value in shown.items()] == [(point.name, point.shape) for point in points]
    np.testing.assert_array_equal(shown["logits"], returned)
    np.testing.assert_array_equal(returned, paddle_probe.forward(model, images_of(config, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("family", get_args(MixerKind))
def test_it_exports_as_it_is(config: MixerConfig, family: MixerKind, tmp_path: Path) -> None:
    """Saved for deployment and loaded again without our code, it gives the same logits for any batch."""
    import paddle

    config = dataclasses.replace(config, family=family, tokens_mlp_dim=6 if family in ("mixer", "gmixer") else 0)
    model = build_paddle(config, convert_state_dict(init_state_dict(config, 0), config).state_dict)
    size = [None, config.in_chans, config.image_size, config.image_size]
    exported = paddle.jit.to_static(model, [paddle.static.InputSpec(size, "float32")], full_graph=True)
    paddle.jit.save(exported, str(tmp_path / "exported"))
    loaded = paddle.jit.load(str(tmp_path / "exported"))
    eager = build_paddle(config, convert_state_dict(init_state_dict(config, 0), config).state_dict)
    for batch in (1, 3):
        images = images_of(config, batch)
        expected = paddle_probe.forward(eager, images)
        np.testing.assert_allclose(loaded(paddle.to_tensor(images)).numpy(), expected, rtol=0, atol=1e-6)


def test_epsilon_and_gelu_come_from_the_config(config: MixerConfig) -> None:
    from convert.mixer.paddle_mixer import MlpMixer

    model = MlpMixer(config)
    assert config.layer_norm_eps == 1e-6
    assert {layer._epsilon for layer in model.sublayers() if hasattr(layer, "_epsilon")} == {1e-6}
    assert not model.blocks[0].mlp_tokens.act._approximate
    assert MlpMixer(dataclasses.replace(config, gelu="tanh")).blocks[3].mlp_channels.act._approximate


def test_the_model_trains(config: MixerConfig) -> None:
    import paddle

    from convert.mixer.paddle_mixer import MlpMixer

    model = MlpMixer(config)
    images, labels = paddle.to_tensor(images_of(config, 4)), paddle.to_tensor([0, 1, 2, 3])
    loss = paddle.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in model.parameters())
