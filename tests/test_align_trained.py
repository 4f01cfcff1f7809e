"""The whole path on a Mixer that was really trained: convert without --variant, align, and count right answers."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, shared

from align.mixer.models import build_paddle
from convert import files
from convert.arrays import Array, StateDict
from convert.mixer.shapes import infer_config
from convert.mixer.variants import MixerConfig

pytestmark = pytest.mark.usefixtures("frameworks")

CORRECT = 5991
"""Of the 10,000 test images; the checkpoint's card, measured with torch."""
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.fixture
def converted(mixer_convert: Run, trained: Path, tmp_path: Path) -> Path:
    out = tmp_path / "mixer.pdparams"
    result = mixer_convert("--checkpoint", trained, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_it_converts_without_a_variant_and_aligns(
    mixer_align: Run, trained: Path, converted: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    result = mixer_align("--checkpoint", trained, "--candidate", converted, "--json", report)
    assert result.exit_code == 0, result.output
    data = json.loads(report.read_text())
    figures = [diff["max_abs_diff"] for layer in data["layers"] for diff in layer["float64"].values()]
    assert max(figures) < 1e-12


@pytest.mark.slow
def test_the_converted_model_is_right_as_often(trained: Path, converted: Path) -> None:
    images, labels = _cifar10(shared("cifar10/test_jpeg.npz"))
    state_dict = files.read(trained)
    config = infer_config({key: array.shape for key, array in state_dict.items()}, trained.name)
    assert _correct(config, files.read(converted), images, labels) == CORRECT


def _correct(config: MixerConfig, state_dict: StateDict, images: Array, labels: Array) -> int:
    import paddle

    model = build_paddle(config, state_dict)
    with paddle.no_grad():
        batches = [model(paddle.to_tensor(images[i : i + 50])).numpy() for i in range(0, len(images), 50)]
    return int((np.concatenate(batches).argmax(axis=1) == labels).sum())


def _cifar10(path: Path) -> tuple[Array, Array]:
    """Return normalised images (10000, 3, 32, 32) float32 and labels."""
    from PIL import Image

    packed = np.load(path)
    blob, offsets = packed["jpeg"].tobytes(), packed["offsets"]
    jpegs = (io.BytesIO(blob[begin:end]) for begin, end in itertools.pairwise(offsets))
    pixels = [np.asarray(Image.open(jpeg).convert("RGB")) for jpeg in jpegs]
    images = (np.stack(pixels).astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), packed["labels"]
