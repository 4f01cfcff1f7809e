"""The whole evaluation, as a user runs it: a small model on a tiny archive; slow: the trained Mixer, all images."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from cifar_files import TEST, batch, images, pickled, python_files, write_archive
from click.testing import CliRunner, Result
from conftest import Run, save_safetensors
from test_reports_workers import workers_of

from align.mixer.models import build_paddle
from align.probes import paddle_probe
from convert import files
from convert.arrays import StateDict
from convert.errors import UsageProblem
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig
from reports.audit.records import schema_of
from reports.data import cifar10
from reports.data.ahead import AHEAD
from reports.data.batches import batches, parts_of
from reports.data.preprocess import imagenet
from reports.score import devices, engines
from reports.score.predictions import read_predictions

COUNT = 30


@pytest.fixture
def mixer_report(frameworks: None) -> Run:
    from reports.commands.cli import main

    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "tiny.tar.gz", python_files(COUNT))


@pytest.fixture
def timm_file(tmp_path: Path, square_source: StateDict) -> Path:
    return save_safetensors(tmp_path / "small.safetensors", square_source)


@pytest.fixture
def weights(timm_file: Path, mixer_convert: Run, tmp_path: Path) -> Path:
    out = tmp_path / "small.pdparams"
    assert mixer_convert("--checkpoint", timm_file, "--out", out).exit_code == 0
    return out


def report(result: Result, path: Path) -> dict[str, Any]:
    assert result.exit_code == 1, result.output
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("engine", ["inference", "eager"])
def test_it_counts_what_the_model_says(
    mixer_report: Run,
    weights: Path,
    timm_file: Path,
    data: Path,
    tmp_path: Path,
    engine: str,
    square_config: MixerConfig,
    square_source: StateDict,
) -> None:
    """Right answers by the NumPy float64 witness, and timm on the same images; batches of 7 leave a rest of 2."""
    from align.mixer import witness

    target, csv = tmp_path / "r.json", tmp_path / "p.csv"
    arguments = ["evaluate", "--weights", weights, "--data", data, "--engine", engine, "--batch-size", 7]
    result = mixer_report(*arguments, "--against", timm_file, "--predictions", csv, "--json", target)
    found = report(result, target)
    rows, labels = images(COUNT)
    pixels = imagenet(32, "").apply(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    trace = dict(witness.forward(square_config, square_source, pixels))
    predicted = trace["logits"].argmax(axis=1)
    assert found["accuracy"]["correct"] == int((predicted == labels).sum())
    assert found["accuracy"]["total"] == COUNT
    assert read_predictions(csv).predictions.tolist() == predicted.tolist()
    shifted = np.exp(trace["logits"] - trace["logits"].max(axis=1, keepdims=True))
    losses = -np.log((shifted / shifted.sum(axis=1, keepdims=True))[np.arange(COUNT), labels])
    assert found["accuracy"]["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert found["against"]["disagreements"] == 0
    assert 0 < found["against"]["max_logit_diff"] < 1e-5
    assert (
        found["weights"]["fingerprint"]
        == json.loads(Path(f"{weights}.manifest.json").read_text())["output"]["fingerprint"]
    )
    assert (found["engine"]["first_batch"] is None) == (engine == "eager")
    assert found["verdict"] == "not comparable"
    assert "other archive" in result.stdout.splitlines()[-1]


def test_another_model_disagrees(
    mixer_report: Run, weights: Path, square_source: StateDict, data: Path, tmp_path: Path
) -> None:
    other = {**square_source, "head.bias": square_source["head.bias"] + np.float32(np.arange(10) == 3) * 100}
    path, target = save_safetensors(tmp_path / "other.safetensors", other), tmp_path / "r.json"
    result = mixer_report("evaluate", "--weights", weights, "--data", data, "--against", path, "--json", target)
    found = report(result, target)
    assert found["against"]["disagreements"] > 0
    assert found["against"]["max_logit_diff"] == pytest.approx(100, rel=1e-3)


def test_standard_output_is_json_alone(weights: Path, data: Path) -> None:
    """Paddle's C++ code writes to the process's standard output, past Python."""
    arguments = ("evaluate", "--weights", weights, "--data", data, "--json", "-")
    command = [sys.executable, "-m", "reports.commands.cli", *arguments]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    found = json.loads(run.stdout)
    assert found["schema"] == "mixer-report/evaluation/3"
    jsonschema.Draft202012Validator(schema_of("evaluation")).validate(found)
    assert not jsonschema.Draft202012Validator(schema_of("evaluation")).is_valid(found | {"engine": None})
    assert run.stderr.splitlines()[-1].startswith("not comparable: ")
    assert "assumed" in found["preprocessing"]["reason"]


def test_a_predictor_that_computes_something_else_fails(
    mixer_report: Run, weights: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engines.inference

    def off(config: MixerConfig, state_dict: StateDict, _precision: str) -> engines.Engine:
        return real(config, {**state_dict, "head.bias": state_dict["head.bias"] + np.float32(1e-3)})

    monkeypatch.setattr("reports.score.evaluate.inference", off)
    result = mixer_report("evaluate", "--weights", weights, "--data", data)
    assert result.exit_code == 1
    assert "its logits lie 1.0e-03 from eager's" in result.stderr
    told = mixer_report("evaluate", "--weights", weights, "--data", data, "--engine", "eager").stderr.splitlines()
    assert told[0] == "evaluating 30 images"
    assert told[-1].startswith("30 of 30 images, ")


def test_nan_is_no_agreement() -> None:
    with pytest.raises(engines.EngineDisagrees):
        engines.agreement(np.full((2, 10), np.nan), np.zeros((2, 10)))
    assert engines.agreement(np.full((2, 10), 200.001), np.full((2, 10), 200.0))[1] == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--variant", "b16_in21k"], 3, "has 196"),
        (["--device", "tpu"], 2, "there is no such device"),
        (["--preprocess", "variant"], 2, "Pass --variant"),
        (["--preprocess", "published"], 2, "Pass --figure"),
        (["--figure", "nothing"], 2, "no such figure"),
        (["--predictions", "p.txt"], 2, ".npz or .csv"),
    ],
)
def test_what_is_refused(
    mixer_report: Run, weights: Path, data: Path, options: list[str], code: int, sentence: str
) -> None:
    result = mixer_report("evaluate", "--weights", weights, "--data", data, *options)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    if "--variant" not in options:
        assert sentence in result.stderr
    else:
        assert "Is --variant right?" in result.stderr


@pytest.mark.parametrize("device", ["gpu", "gpu:3"])
@pytest.mark.parametrize(
    "command",
    [["evaluate"], ["finetune", "--recipe", "small", "--out", "o"], ["audit", "--checkpoint", "c", "--out", "o"]],
)
def test_a_gpu_without_paddle_s_build_for_it_is_refused_first(
    mixer_report: Run, command: list[str], device: str
) -> None:
    """Before the weights and the images are looked for, which are not there."""
    result = mixer_report(*command, "--weights", "none.pdparams", "--data", "none.tar.gz", "--device", device)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert f"Error: --device {device}: the Paddle that is installed (" in result.stderr
    assert "pip install paddlepaddle-gpu -i https://www.paddlepaddle.org.cn/packages/stable/cu126/" in result.stderr


@pytest.mark.parametrize(("count", "said"), [(0, "sees no GPU; does nvidia-smi show one?"), (2, "sees 2 GPU(s)")])
def test_a_gpu_that_is_not_there_is_refused(
    frameworks: None, monkeypatch: pytest.MonkeyPatch, count: int, said: str
) -> None:
    monkeypatch.setattr("paddle.device.is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr("paddle.device.cuda.device_count", lambda: count)
    with pytest.raises(UsageProblem, match=re.escape(said)):
        devices.check_device("gpu:2")
    if count:
        devices.check_device("gpu:1")
        devices.check_device("gpu")


def test_the_predictor_runs_on_the_cpu_alone() -> None:
    with pytest.raises(UsageProblem, match="it runs on cpu, not on gpu"):
        engines.choose_engine("inference", "gpu")
    assert engines.choose_engine("auto", "gpu") == "eager"


def test_bad_weights_and_data(
    mixer_report: Run,
    tmp_path: Path,
    config: MixerConfig,
    source: StateDict,
    square_source: StateDict,
    weights: Path,
    data: Path,
) -> None:
    def refusal(file: Path, archive: Path, *options: object) -> tuple[int, str]:
        result = mixer_report("evaluate", "--weights", file, "--data", archive, *options)
        assert "Traceback" not in result.output
        return result.exit_code, result.stderr

    seven = save_safetensors(tmp_path / "seven.safetensors", source)
    code, said = refusal(seven, data)
    assert (code, "has 7 classes, CIFAR-10 has 10" in said) == (3, True)
    head = {"head.weight": np.zeros((10, config.hidden_dim), np.float32), "head.bias": np.zeros(10, np.float32)}
    small = save_safetensors(tmp_path / "small20.safetensors", {**source, **head})
    assert refusal(small, data, "--no-resize")[0] == 3
    assert refusal(small, data)[0] == 1, "resized, it runs"
    cut = data.with_name("cut.tar.gz")
    cut.write_bytes(data.read_bytes()[:-2000])
    assert refusal(weights, cut)[0] == 5
    wrong = write_archive(
        tmp_path / "w.tar.gz", {**python_files(), TEST: pickled(batch(*images(12), "training batch 1 of 5"))}
    )
    assert refusal(weights, wrong)[0] == 3
    assert refusal(weights, tmp_path / "none")[0] == 4
    manifest = Path(f"{weights}.manifest.json")
    manifest.write_text(manifest.read_text().replace(json.loads(manifest.read_text())["output"]["sha256"], "0" * 64))
    code, said = refusal(weights, data)
    assert (code, "about another file" in said) == (5, True)
    manifest.write_text("{")
    assert refusal(weights, data)[0] == 3
    overflow = {**square_source, "head.weight": np.full((10, 24), 3e38, np.float32)}
    code, said = refusal(save_safetensors(tmp_path / "o.safetensors", overflow), data, "--engine", "eager")
    assert (code, "not finite" in said) == (3, True)


def test_a_known_upstream_is_held_against_its_row(
    mixer_report: Run, weights: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The row's protocol is the default, the manifest names the upstream, and a canonical archive leaves a verdict."""
    manifest = Path(f"{weights}.manifest.json")
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "variant": {"name": "b16_in21k"}}))
    monkeypatch.setattr("reports.score.weights.SIZES", ())
    monkeypatch.setattr("convert.mixer.identity.UPSTREAM", ())
    target = tmp_path / "r.json"
    found = report(mixer_report("evaluate", "--weights", weights, "--data", data, "--json", target), target)
    assert found["published"]["id"] == "google_b16_in21k"
    assert found["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    named = [reason.partition(" (")[0] for reason in found["finding"]["reasons"]]
    assert named == ["other archive", "other count", "other preprocessing"], "32 px are not the row's 224"
    monkeypatch.setitem(cifar10.ARCHIVE_SHA256, "python", found["data"]["sha256"])
    monkeypatch.setattr("reports.score.verdict.TEST_IMAGES", COUNT)
    changed = ["evaluate", "--weights", weights, "--data", data, "--accept-preprocessing"]
    result = mixer_report(*changed)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("below the published 96.82 %")
    assert mixer_report(*changed[:-1], "--variant", "b16_in1k").exit_code == 2
    manifest.write_text(json.dumps({**content, "source": {"kind": "random"}, "variant": {"name": "b16_in21k"}}))
    assert "unknown weights" in mixer_report(*changed).stdout


def test_published_prints_every_figure(mixer_report: Run, tmp_path: Path) -> None:
    result = mixer_report("published", "--json", tmp_path / "p.json")
    assert result.exit_code == 0
    figures = json.loads((tmp_path / "p.json").read_text())["figures"]
    assert len(figures) == 6
    for figure in figures:
        assert f"{figure['percent']:.2f}" in result.stdout
        assert figure["locator"] in result.stdout
        assert figure["recipe"] in result.stdout


def test_batches_are_all_images_once_in_order() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), dtype=np.uint8)
    whole = imagenet(12, "").apply(pixels)
    for size in (1, 5, 23, 50):
        parts = list(batches(pixels, imagenet(12, ""), parts_of(23, size)))
        assert [index for part, _ in parts for index in range(part.start, part.stop)] == list(range(23))
        np.testing.assert_array_equal(np.concatenate([made for _, made in parts]), whole)
    next(iter(batches(pixels, imagenet(12, ""), parts_of(23, 1))))
    assert AHEAD > 0


@pytest.mark.slow
def test_both_engines_predict_the_same_for_the_trained_mixer(
    mixer_report: Run, mixer_convert: Run, trained: Path, test_images: Path, tmp_path: Path
) -> None:
    """On the first 2,000 test images; test_reports_audit.py counts all of them, and compares all with timm."""
    weights, target = tmp_path / "mixer.pdparams", tmp_path / "r.json"
    assert mixer_convert("--checkpoint", trained, "--out", weights).exit_code == 0
    found = {}
    for engine, size in (("inference", 50), ("eager", 16)):
        out = tmp_path / f"{engine}.npz"
        arguments = ["evaluate", "--weights", weights, "--data", test_images, "--limit", 2000, "--json", target]
        result = mixer_report(*arguments, "--engine", engine, "--batch-size", size, "--predictions", out)
        assert "other count (2,000 of 10,000 images)" in result.stdout
        said, found[engine] = report(result, target), read_predictions(out)
        assert said["engine"]["name"] == engine
        reasons = [reason.partition(" (")[0] for reason in said["finding"]["reasons"]]
        assert reasons == ["unknown weights", "other archive", "other count"]
    np.testing.assert_array_equal(found["eager"].predictions, found["inference"].predictions)
    np.testing.assert_allclose(found["eager"].losses, found["inference"].losses, atol=1e-5)


@pytest.mark.slow
def test_a_set_of_weights_has_to_be_chosen_and_makes_the_figure(
    mixer_report: Run, trained: Path, test_images: Path, tmp_path: Path
) -> None:
    """The trained Mixer as `ema`, its halved weights as `model`; what these get right is counted by timm alone."""
    import torch
    from timm.models.mlp_mixer import MlpMixer

    averaged = {key: torch.from_numpy(array.copy()) for key, array in files.read(trained).items()}
    halved = {key: tensor / 2 for key, tensor in averaged.items()}
    path, target, limit = tmp_path / "last.pth", tmp_path / "r.json", 100
    torch.save({"model": halved, "ema": averaged, "epoch": 3}, path)
    arguments = ["evaluate", "--weights", path, "--data", test_images, "--batch-size", 100, "--json", target]
    arguments += ["--limit", limit]
    refused = mixer_report(*arguments)
    assert refused.exit_code == 2
    assert "model (78 tensors), ema (78 tensors)" in refused.stderr
    assert not target.exists()
    said = mixer_report(*arguments, "--ema")
    assert "last.pth, set ema, fingerprint" in said.stdout
    found = report(said, target)
    shown = cifar10.first(cifar10.read_cifar10(test_images), limit)
    model = MlpMixer(img_size=32, patch_size=4, num_blocks=6, embed_dim=128, num_classes=10).eval()

    right = {}
    for key, weights in (("ema", averaged), ("model", halved)):
        model.load_state_dict(weights)
        with torch.inference_mode():
            batches = torch.from_numpy(imagenet(32, "").apply(shown.images)).split(100)
            answers = torch.cat([model(batch).argmax(1) for batch in batches])
        right[key] = int((answers.numpy() == shown.labels).sum())
    assert (found["accuracy"]["correct"], found["weights"]["weights_key"]) == (right["ema"], "ema")
    found = report(mixer_report(*arguments, "--weights-key", "model"), target)
    assert (found["accuracy"]["correct"], found["weights"]["weights_key"]) == (right["model"], "model")
    assert right["model"] < limit / 2 < right["ema"]


def test_one_channel_is_refused_before_anything_is_written(
    mixer_report: Run, mixer_convert: Run, weights: Path, data: Path, tmp_path: Path
) -> None:
    grey, out = tmp_path / "grey.pdparams", tmp_path / "out.npz"
    assert mixer_convert("--checkpoint", weights, "--in-chans", "1", "--out", grey).exit_code == 0
    for command in (
        ["evaluate", "--predictions", out],
        ["finetune", "--recipe", "small", "--out", out],
        ["audit", "--checkpoint", grey, "--out", out],
    ):
        result = mixer_report(*command, "--weights", grey, "--data", data)
        assert result.exit_code == 3, result.output
        assert "grey.pdparams takes images of 1 channel(s), CIFAR-10's have 3" in result.stderr
        assert not out.exists()


def test_workers_change_no_prediction(mixer_report: Run, weights: Path, data: Path, tmp_path: Path) -> None:
    given = ["evaluate", "--weights", weights, "--data", data, "--batch-size", 7, "--predictions"]
    for workers in (0, 2):
        result = mixer_report(*given, tmp_path / f"{workers}.npz", "--workers", workers)
        assert result.exit_code == 1, result.output
    assert (tmp_path / "0.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    assert workers_of(os.getpid()) == []


def test_the_model_is_paddle_s(weights: Path, square_config: MixerConfig, square_source: StateDict) -> None:
    """The file that is evaluated is the one that converts from timm."""
    expected = convert_state_dict(square_source, square_config).state_dict
    model = build_paddle(square_config, files.read(weights))
    for key, tensor in paddle_probe.parameters(model).items():
        np.testing.assert_array_equal(tensor, expected[key])
