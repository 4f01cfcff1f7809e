from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from align.core.inputs import seeded_images
from align.mixer.points import layers_of
from convert.arrays import StateDict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

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


def test_intermediates_are_named_in_forward_order(config: MixerConfig, source: StateDict) -> None:
    import paddle

    from align.probes.paddle_probe import build

    model = build(config, convert_state_dict(source, config).state_dict)
    images = paddle.to_tensor(seeded_images(config, 3, 0))
    named = model.intermediates(images)
    assert [(name, tuple(value.shape)) for name, value in named.items()] == [
        (layer.name, layer.shape) for layer in layers_of(config, 3)
    ]
    np.testing.assert_array_equal(named["logits"].numpy(), model(images).numpy())


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
    images, labels = paddle.to_tensor(seeded_images(config, 4, 0)), paddle.to_tensor([0, 1, 2, 3])
    loss = paddle.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in model.parameters())
