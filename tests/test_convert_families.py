"""A family of another package beside the Mixers: each command picks the one that is meant."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, save_safetensors
from toy_family import SMALL, shapes_of

import convert
from convert import families, files
from convert.evidence.recorded import manifest_path


def test_there_and_back(mixer_convert: Run, toy: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "out.pdparams", tmp_path / "back.safetensors"
    result = mixer_convert("--checkpoint", toy, "--out", out)
    assert result.exit_code == 0, result.output
    assert "4 tensors, 2 Linear weights transposed" in result.stderr
    assert "built with" not in result.stderr
    weights, converted = files.read(toy), files.read(out)
    for key, array in weights.items():
        np.testing.assert_array_equal(converted[f"net.{key}"], array.T if array.ndim == 2 else array, strict=True)
    manifest = json.loads(manifest_path(out).read_text())
    assert manifest["config"] == {"inputs": 3, "hidden": 5, "outputs": 2}
    assert manifest["layouts"] == {"source": "timm", "target": "paddle"}
    assert mixer_convert("--checkpoint", out, "--dst", "timm", "--out", back).exit_code == 0
    for path in (out, back):
        assert mixer_convert("verify", path).exit_code == 0
        assert mixer_convert("verify", toy, path).exit_code == 0
    assert {key: array.tobytes() for key, array in files.read(back).items()} == {
        key: array.tobytes() for key, array in weights.items()
    }


def test_inspect_says_what_each_is(mixer_convert: Run, toy: Path, checkpoint: Path) -> None:
    assert (
        "toy.safetensors: a two-layer MLP in timm layout, the size of toy_small" in mixer_convert("inspect", toy).stdout
    )
    assert "timm.safetensors: an MLP-Mixer in timm layout" in mixer_convert("inspect", checkpoint).stdout


def test_neither_knows_a_stranger(mixer_convert: Run, toy: Path, tmp_path: Path) -> None:
    stranger = save_safetensors(tmp_path / "x.safetensors", {"conv.weight": np.ones((2, 3), np.float32)})
    assert "no MLP-Mixer or two-layer MLP that we know" in mixer_convert("inspect", stranger).stdout


def test_the_mixers_are_there_still(mixer_convert: Run, toy: Path, checkpoint: Path, tmp_path: Path) -> None:
    for file in (checkpoint, "--init"):
        arguments = ["--checkpoint", file] if file is checkpoint else [file, "random", "--variant", "s32"]
        assert mixer_convert(*arguments, "--out", tmp_path / "mixer.pdparams", "--force").exit_code == 0
        assert json.loads(manifest_path(tmp_path / "mixer.pdparams").read_text())["config"]["family"] == "mixer"
    assert mixer_convert("verify", checkpoint, toy).exit_code == 1


def test_a_variant_says_whose_it_is(
    mixer_convert: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mixer_convert("--variant", "toy_small", "--init", "random", "--seed", 1).exit_code == 0
    assert json.loads(Path("toy.random_seed1.pdparams.manifest.json").read_text())["variant"]["name"] == "toy_small"
    assert mixer_convert("--variant", "toy_small", "--checkpoint", toy, "--out", "x.pdparams").exit_code == 0
    listed = mixer_convert("--list").stdout
    assert "b16_in21k" in listed
    assert "toy_small" in listed
    unknown = mixer_convert("--variant", "toy")
    assert unknown.exit_code == 2
    assert "toy_small" in unknown.stderr


@pytest.mark.parametrize("options", [["--gelu", "erf"], ["--dst", "paddlevit"], ["--src", "google"]])
def test_what_a_family_has_not_is_refused(mixer_convert: Run, toy: Path, tmp_path: Path, options: list[str]) -> None:
    result = mixer_convert("--checkpoint", toy, *options, "--out", tmp_path / "x.pdparams")
    assert result.exit_code == 2, result.output
    assert options[1] in result.stderr
    assert not (tmp_path / "x.pdparams").exists()


def test_load_paddle_builds_its_model(toy: Path) -> None:
    assert convert.load_paddle(checkpoint=toy).keys() == {f"net.{name}" for name in shapes_of(SMALL)}


def test_one_that_cannot_be_loaded_is_named(mixer_convert: Run, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "site" / "toy-1.dist-info" / "entry_points.txt").write_text(f"[{families.GROUP}]\ntoy = no_such:TOY\n")
    result = mixer_convert("inspect", toy)
    assert result.exit_code == 2
    assert "no_such:TOY: this family of models cannot be loaded" in result.stderr


def test_without_an_installation_there_is_a_sentence(
    mixer_convert: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: ())
    families.installed.cache_clear()
    result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "x.pdparams")
    families.installed.cache_clear()
    assert result.exit_code == 2
    assert (
        result.stderr == "Error: mixer-convert is not installed, so no models are known to it. Run: pip install -e .\n"
    )
