"""Fine-tuning a small model on a tiny archive: what is written, what a crash leaves, and that a run goes on exactly."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cifar_files import batch, images, pickled, python_files, whole_archive, write_archive
from click.testing import CliRunner, Result
from conftest import Run, save_safetensors
from test_reports_workers import workers_of

from convert import files
from convert.arrays import Array, StateDict
from convert.errors import BadInput
from convert.mixer.adapt import HEAD, adapt
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig
from convert.request import Adaptation
from reports.score.engines import usual_workers
from reports.score.parallel import Group
from reports.score.predictions import read_predictions
from reports.train import finetune, run_file
from reports.train.checkpoints import Checkpoints, Due
from reports.train.recipes import recipe_by_name
from reports.train.signals import EndedBySignal, ended_by_signals
from reports.train.trainer import Trainer

STEPS = 12
VALUES = {
    "name": "tiny",
    "optimizer": "adamw",
    "learning_rate": 1e-2,
    "momentum": 0.0,
    "weight_decay": 0.05,
    "schedule": "cosine",
    "warmup_steps": 2,
    "epochs": 3,
    "batch_size": 16,
    "micro_batch": 16,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "train_percent": 100,
    "augmentation": "crop_and_flip",
    "interpolation": "bilinear",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "head": "seeded",
    "seed": 5,
}


def write_recipe(path: Path, **values: object) -> Path:
    given = {**VALUES, **values}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    sources = [f'{name} = "a test"' for name in given if name != "name"]
    path.write_text("\n".join(["[[recipe]]", *lines, 'remark = "a test"', "[recipe.sources]", *sources]))
    return path


@pytest.fixture
def mixer_report(frameworks: None) -> Run:
    from reports.commands.cli import main

    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def one_block(square_config: MixerConfig) -> MixerConfig:
    return replace(square_config, num_blocks=1)


@pytest.fixture(scope="module")
def weights(one_block: MixerConfig) -> StateDict:
    return init_state_dict(one_block, 0)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, weights: StateDict) -> list[object]:
    """60 training images in batches of 16 for 3 epochs: 12 steps, whose last has 4 images."""
    folder = tmp_path_factory.mktemp("inputs")
    file = save_safetensors(folder / "small.safetensors", weights)
    recipe = write_recipe(folder / "tiny.toml")
    data = whole_archive(folder / "tiny.tar.gz")
    return ["finetune", "--weights", file, "--data", data, "--recipe", recipe, "--checkpoint-every", 5, "--threads", 1]


def succeeded(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def trajectory(out: Path) -> tuple[bytes, bytes, bytes]:
    return tuple((out / name).read_bytes() for name in ("log.jsonl", "final.pdparams", "predictions.npz"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def uninterrupted(arguments: list[object], tmp_path_factory: pytest.TempPathFactory, frameworks: None) -> Path:
    from reports.commands.cli import main

    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    succeeded(CliRunner().invoke(main, [*map(str, arguments), "--out", str(out)]))
    return out


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full for every file of more than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def before_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Let something happen when the number-th step of a process begins."""
    real, begun = Trainer.step, []

    def step(self: Trainer, *given: Any) -> tuple[float, int]:
        begun.append(1)
        if len(begun) == number:
            act()
        return real(self, *given)

    monkeypatch.setattr(Trainer, "step", step)


class Crash(BaseException):
    """What no handler of ours takes."""


def crash() -> None:
    raise Crash


def test_what_a_run_leaves(uninterrupted: Path, mixer_report: Run, arguments: list[object]) -> None:
    entries = [json.loads(line) for line in (uninterrupted / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, STEPS + 1))
    assert [entry["images"] for entry in entries] == [16] * 11 + [4]
    assert [entry["epoch"] for entry in entries] == [1] * 4 + [2] * 4 + [3] * 4
    assert entries[0]["lr"] == 0
    assert np.mean([entry["loss"] for entry in entries[-3:]]) < entries[0]["loss"], "it learns"
    assert sorted(path.name for path in (uninterrupted / "checkpoints").iterdir()) == [
        "step-0000010.safetensors",
        "step-0000012.safetensors",
    ], "the two newest"
    assert (uninterrupted / "curves.png").read_bytes().startswith(b"\x89PNG")
    timed = [json.loads(line) for line in (uninterrupted / "timing.jsonl").read_text().splitlines()]
    assert [line["step"] for line in timed] == list(range(1, STEPS + 1))
    manifest = json.loads((uninterrupted / "final.pdparams.manifest.json").read_text())
    assert manifest["recipe"]["seed"] == 5
    said = json.loads((uninterrupted / "evaluation.json").read_text())
    assert said["accuracy"]["total"] == 12
    again = mixer_report("evaluate", "--weights", uninterrupted / "final.pdparams", "--data", arguments[4])
    assert f"correct        {said['accuracy']['correct']} of 12" in again.output
    assert said["weights"]["fingerprint"] == manifest["output"]["fingerprint"]


def test_the_gradient_is_that_of_the_whole_batch(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path
) -> None:
    """Micro-batches of 5 sum to the batch of 16 but for rounding; the last step's 4 are one of their own."""
    succeeded(mixer_report(*arguments, "--out", tmp_path / "a", "--micro-batch", 5))
    one, many = (
        [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
        for out in (uninterrupted, tmp_path / "a")
    )
    np.testing.assert_allclose(many, one, rtol=1e-4)
    assert many != one, "micro-batches that change no rounding would be none"


def test_when_a_checkpoint_is_written_changes_nothing(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every step, by the clock, or at the end alone, where ten minutes have not gone by."""
    given = [argument for argument in arguments if argument not in ("--checkpoint-every", 5)]
    written: dict[str, list[int]] = {}
    real = Checkpoints.write
    for name, options in {"often": ["--checkpoint-minutes", 1e-9], "rarely": []}.items():
        written[name] = []
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "write", lambda own, c, n=name: (written[n].append(c.step), real(own, c)))
            succeeded(mixer_report(*given, *options, "--out", tmp_path / name))
        assert trajectory(tmp_path / name) == trajectory(uninterrupted)
    assert written == {"often": list(range(1, STEPS + 1)), "rarely": [STEPS]}
    both = mixer_report(*arguments, "--checkpoint-minutes", 1, "--out", tmp_path / "both")
    assert (both.exit_code, "Leave one out" in both.stderr, (tmp_path / "both").exists()) == (2, True, False)


def test_a_checkpoint_is_due_by_the_clock_from_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("reports.train.checkpoints.time", SimpleNamespace(monotonic=lambda: now[0]))
    due, written = Due(steps=None, minutes=10), []
    for step in range(1, 11):
        now[0] += 200
        if due.after(step):
            now[0] += 100  # a slow disk
            written.append(now[0])
            due.written()
    assert written == [700, 1400, 2100]
    by_steps = Due(steps=4, minutes=10)
    now[0] += 1e6
    assert [step for step in range(1, 13) if by_steps.after(step)] == [4, 8, 12]


@pytest.mark.parametrize(
    "optimizer", [pytest.param("adam", marks=pytest.mark.slow), "adamw", pytest.param("sgd", marks=pytest.mark.slow)]
)
def test_a_crashed_run_goes_on_exactly(
    mixer_report: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """It dies in steps 8 and 11; the log has outrun the checkpoints by then."""
    decay, momentum = 0.05 * (optimizer == "adamw"), 0.9 * (optimizer == "sgd")
    recipe = write_recipe(tmp_path / "r.toml", optimizer=optimizer, weight_decay=decay, momentum=momentum)
    given = [*arguments, "--recipe", recipe]
    succeeded(mixer_report(*given, "--out", tmp_path / "whole"))
    out = tmp_path / "crashed"
    with monkeypatch.context() as patch:
        before_step(patch, 8, crash)
        with pytest.raises(Crash):
            mixer_report(*given, "--out", out)
    assert len((out / "log.jsonl").read_text().splitlines()) == 7
    with monkeypatch.context() as patch:
        before_step(patch, 6, crash)
        with pytest.raises(Crash):
            mixer_report(*given, "--out", out, "--resume")
    succeeded(mixer_report(*given, "--out", out, "--resume"))
    assert trajectory(out) == trajectory(tmp_path / "whole")
    assert len((out / "timing.jsonl").read_text().splitlines()) == STEPS


@pytest.mark.slow
def test_a_state_that_is_not_restored_shows(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison of trajectories can fail: an optimizer that starts anew leaves them."""
    out = tmp_path / "out"
    succeeded(mixer_report(*arguments, "--out", out, "--stop-after", 7))
    real = Trainer.restore

    def forgetful(self: Trainer, tensors: StateDict, whose: str) -> None:
        real(self, {key: array * (0 if "moment1" in key else 1) for key, array in tensors.items()}, whose)

    monkeypatch.setattr(Trainer, "restore", forgetful)
    succeeded(mixer_report(*arguments, "--out", out, "--resume"))
    assert trajectory(out) != trajectory(uninterrupted)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_exits(
    uninterrupted: Path,
    mixer_report: Run,
    arguments: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
) -> None:
    out, handler = tmp_path / "out", signal.getsignal(number)
    with monkeypatch.context() as patch:
        before_step(patch, 3, lambda: os.kill(os.getpid(), number))
        result = mixer_report(*arguments, "--out", out)
    assert result.exit_code == code, result.output
    assert "after step 3 of 12; --resume goes on" in result.stderr
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-0000003.safetensors"]
    assert not (out / "final.pdparams").exists()
    assert signal.getsignal(number) == handler
    succeeded(mixer_report(*arguments, "--out", out, "--resume"))
    assert trajectory(out) == trajectory(uninterrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", ["reports.data.cifar10.read_files", "reports.train.trainer.Trainer._optimizer"])
def test_a_signal_before_training_leaves_nothing(
    mixer_report: Run,
    arguments: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    number: int,
    code: int,
) -> None:
    """While the data is being read, or the model built."""
    out, handler = tmp_path / "out", signal.getsignal(number)
    monkeypatch.setattr(moment, lambda *_: os.kill(os.getpid(), number))
    result = mixer_report(*arguments, "--out", out)
    assert result.exit_code == code, result.output
    name = signal.Signals(number).name
    assert f"Error: Ended by {name}. {out} was not written to; start again." in result.stderr
    assert not out.exists()
    assert signal.getsignal(number) == handler


def test_a_signal_that_an_import_takes_for_its_own_failure_ends_all_the_same() -> None:
    def importing() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except BaseException as error:
            raise ImportError("initialization failed") from error

    with pytest.raises(EndedBySignal, match=r"^Ended by SIGTERM\. Nothing is there\.$") as caught:  # noqa: SIM117
        with ended_by_signals("Nothing is there."):
            importing()
    assert caught.value.exit_code == 143


def test_a_signal_after_the_last_step_leaves_the_evaluation(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last step it is a stop as in any other; while the model is evaluated it ends at once."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        before_step(patch, STEPS, lambda: os.kill(os.getpid(), signal.SIGTERM))
        result = mixer_report(*arguments, "--out", out)
    assert (result.exit_code, "after step 12 of 12" in result.stderr) == (143, True), result.output
    with monkeypatch.context() as patch:
        patch.setattr("reports.train.finish.evaluate", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        result = mixer_report(*arguments, "--out", out, "--resume")
    assert (result.exit_code, "12 of 12 steps are done; --resume goes on." in result.stderr) == (143, True)
    succeeded(mixer_report(*arguments, "--out", out, "--resume"))
    assert trajectory(out) == trajectory(uninterrupted)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path, workers: int
) -> None:
    succeeded(mixer_report(*arguments, "--out", tmp_path / "out", "--workers", workers))
    assert trajectory(tmp_path / "out") == trajectory(uninterrupted)
    assert workers_of(os.getpid()) == []


def test_a_killed_worker_leaves_a_run_that_goes_on(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        before_step(patch, 7, lambda: os.kill(workers_of(os.getpid())[0], signal.SIGKILL))
        result = mixer_report(*arguments, "--out", out, "--workers", 1)
    assert result.exit_code == 4, result.output
    assert "A process that makes images failed (ended by SIGKILL)" in result.stderr
    assert workers_of(os.getpid()) == []
    succeeded(mixer_report(*arguments, "--out", out, "--workers", 1, "--resume"))
    assert trajectory(out) == trajectory(uninterrupted)


def test_as_many_workers_as_cores_are_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.score.engines.cpus", lambda: 12)
    assert [usual_workers(device, 1) for device in ("cpu", "gpu", "gpu:1")] == [0, 8, 8]
    assert [usual_workers("gpu", processes) for processes in (2, 4, 12, 100)] == [5, 2, 0, 0]


def test_a_full_disk_leaves_a_run_that_goes_on(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    succeeded(mixer_report(*arguments, "--out", out, "--stop-after", 5))
    with file_size_limit(100_000):
        result = mixer_report(*arguments, "--out", out, "--resume")
    assert result.exit_code == 4, result.output
    assert "File too large" in result.stderr
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-0000005.safetensors"], "nothing by halves"
    lines = (out / "log.jsonl").read_bytes().splitlines(keepends=True)
    with file_size_limit(sum(map(len, lines[:7])) + 30):
        result = mixer_report(*arguments, "--out", out, "--resume")
    assert (result.exit_code, "log.jsonl" in result.stderr) == (4, True), result.output
    succeeded(mixer_report(*arguments, "--out", out, "--resume"))
    assert trajectory(out) == trajectory(uninterrupted)


def test_what_is_refused(mixer_report: Run, arguments: list[object], tmp_path: Path) -> None:
    def refusal(*options: object) -> tuple[int, str]:
        result = mixer_report(*arguments, *options)
        assert "Traceback" not in result.output
        return result.exit_code, result.stderr

    out = tmp_path / "out"
    code, said = refusal("--out", out, "--resume")
    assert (code, "there is no run to resume" in said) == (2, True)
    succeeded(mixer_report(*arguments, "--out", out, "--stop-after", 6))
    code, said = refusal("--out", out)
    assert (code, "it is not empty" in said) == (2, True)
    code, said = refusal("--out", out, "--resume", "--seed", 6)
    assert (code, "another recipe" in said) == (2, True)
    code, said = refusal("--out", tmp_path / "b", "--micro-batch", 17)
    assert (code, "the batch has 16" in said) == (2, True)
    assert refusal("--out", tmp_path / "b", "--recipe", "nothing")[0] == 2
    assert refusal("--out", tmp_path / "b", "--recipe", tmp_path / "nothing.toml")[0] == 4
    assert not (tmp_path / "b").exists()


SHA256 = "a SHA-256 in hexadecimal"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ((), [], "it holds no object with names"),
        (("schema",), "mixer-report/finetune/0", "schema is "),
        (("luck",), 7, "it has the unknown luck"),
        (("threads",), None, "it lacks threads"),
        (("threads",), "1", 'threads is "1", not a whole number from 1 to 65536'),
        (("threads",), True, "threads is true, not a whole number"),
        (("threads",), 0, "threads is 0, not a whole number"),
        (("threads",), 10**30, "not a whole number"),
        (("processes",), 1.0, "processes is 1.0, not a whole number"),
        (("device",), ["cpu"], "device is "),
        (("recipe",), 3, "recipe is 3, not an object"),
        (("recipe", "seed"), -1, "seed = -1 is not valid"),
        (("recipe", "interpolation"), ["bilinear"], "interpolation = ['bilinear'] is not valid"),
        (("recipe", "learning_rate"), 10**400, "is not valid"),
        (("recipe", "mean"), {"r": 1}, "mean = {'r': 1} is not valid"),
        (("recipe", "epochs"), None, "it has not exactly one of epochs, steps"),
        (("sources",), [], "sources is [], not an object"),
        (("sources", "seed"), 3, "it names no source for seed"),
        (("weights", "fingerprint"), "0", f'weights: fingerprint is "0", not {SHA256}'),
        (("weights", "config", "image_size"), "32", "config's image_size is 32, not a whole number"),
        (("weights", "config", "num_blocks"), None, "config has the fields"),
        (("data", "train"), 5, f"data: train is 5, not {SHA256}"),
        (("upstream", "notes"), "none", "upstream: notes is "),
        (("origins", "train", "canonical"), 0, "origins: train: canonical is 0, not true or false"),
        (("origins", "test", "split"), "train", 'split is "train", not "test"'),
        (("environment",), "here", "environment is "),
        (("command_line",), [1], "command_line is [1], not a list of texts"),
    ],
)
def test_a_run_s_description_is_checked_field_by_field(
    uninterrupted: Path, place: tuple[str, ...], value: object, said: str
) -> None:
    """None takes the field away. The file as it was written passes."""
    content = (uninterrupted / "run.json").read_bytes()
    whole = run_file.parse("run.json", content)
    data: Any = json.loads(content)
    *path, last = place or ("",)
    inner = data
    for name in path:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    with pytest.raises(BadInput, match=r"^run\.json: ") as caught:
        run_file.parse("run.json", json.dumps(data if place else value).encode())
    assert said in str(caught.value)
    assert whole == json.loads(content)


def test_a_run_whose_description_is_none_is_not_resumed(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out)
    for content, said in ((b"{", "it is no JSON"), (b"\xff", "it is no JSON"), (b"[" * 10**5, "it is no JSON")):
        (out / "run.json").write_bytes(content)
        result = mixer_report(*arguments, "--out", out, "--resume")
        assert (result.exit_code, said in result.stderr) == (3, True), result.output
        assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_a_log_that_was_changed_is_found(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path
) -> None:
    """Each line up to the checkpoint counts, what comes after it is cut off; a changed description is found too."""
    out = tmp_path / "out"
    succeeded(mixer_report(*arguments, "--out", out, "--stop-after", 6))
    log, run = out / "log.jsonl", out / "run.json"
    whole, lines = log.read_bytes(), log.read_bytes().splitlines(keepends=True)
    first = json.loads(lines[0])
    better = json.dumps({**first, "loss": first["loss"] / 2}).encode() + b"\n"
    for content, said in (
        (b"".join([better, *lines[1:]]), "its SHA-256, steps 1 to 6, is not the one"),
        (b"".join([b" " + lines[0], *lines[1:]]), "it was changed"),
        (b"".join([lines[1], lines[0], *lines[2:]]), "it was changed"),
        (b"".join([*lines[:5], b"\xff\n"]), "it was changed"),
        (b"".join(lines[:4]), "of the steps 1 to 6 the last 2 are missing"),
        (whole[:-1], "of the steps 1 to 6 the last 1 are missing"),
    ):
        log.write_bytes(content)
        result = mixer_report(*arguments, "--out", out, "--resume")
        assert (result.exit_code, f"{log}: " in result.stderr, said in result.stderr) == (5, True, True), result.output
    log.write_bytes(whole + whole + b"and half a li")
    described = run.read_text()
    run.write_text(described.replace('"threads": 1', '"threads": 2'))
    result = mixer_report(*arguments, "--out", out, "--resume")
    assert (result.exit_code, f"{run}: its SHA-256 is not the one" in result.stderr) == (5, True), result.output
    run.write_text(described)
    succeeded(mixer_report(*arguments, "--out", out, "--resume"))
    assert trajectory(out) == trajectory(uninterrupted)


def test_a_damaged_checkpoint_says_what_to_remove(
    uninterrupted: Path, mixer_report: Run, arguments: list[object], tmp_path: Path
) -> None:
    """Truncated anywhere or with one bit flipped, the newest is named, and so is what --resume goes on from then."""
    out = tmp_path / "out"
    succeeded(mixer_report(*arguments, "--out", out, "--stop-after", 6))
    older, newest = sorted((out / "checkpoints").iterdir())
    whole = newest.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for content in (bytes(flipped), whole[:-1], whole[: len(whole) // 2], whole[:5], b""):
        newest.write_bytes(content)
        result = mixer_report(*arguments, "--out", out, "--resume")
        assert result.exit_code == 5, result.output
        assert f"{newest}: it is truncated or altered" in result.stderr
        assert f"Remove it; then --resume goes on from {older.name}, the one before it." in result.stderr
    newest.unlink()
    kept = older.read_bytes()
    older.write_bytes(kept[:-1])
    assert (
        "Remove it; then --resume begins at step 1 again." in mixer_report(*arguments, "--out", out, "--resume").stderr
    )
    older.write_bytes(kept)
    succeeded(mixer_report(*arguments, "--out", out, "--resume"))
    assert trajectory(out) == trajectory(uninterrupted)


def test_a_step_does_not_go_through_the_log(
    mixer_report: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the curves, at the end, read all of it; else a run of n steps took n² sums."""
    walks: list[int] = []

    class Watched(list[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            walks.append(len(self))
            return super().__iter__()

    out = tmp_path / "out"
    succeeded(mixer_report(*arguments, "--out", out, "--stop-after", 1))
    real = finetune._restored
    monkeypatch.setattr(finetune, "_restored", lambda *given: Watched(real(*given)))
    succeeded(mixer_report(*arguments, "--out", out, "--resume"))
    assert walks == [STEPS] * len(walks)


def test_the_help_is_about_the_weights_to_start_from(mixer_report: Run) -> None:
    shown = {name: " ".join(mixer_report(name, "--help").output.split()) for name in ("finetune", "evaluate")}
    assert "The weights to start from" in shown["finetune"]
    assert "ine-tuned" not in shown["finetune"]
    assert "Fine-tuned weights" in shown["evaluate"]


def test_bad_data_and_weights(mixer_report: Run, arguments: list[object], tmp_path: Path, weights: StateDict) -> None:
    def refusal(*options: object) -> int:
        result = mixer_report(*arguments, *options, "--out", tmp_path / "out")
        assert "Traceback" not in result.output
        return result.exit_code

    assert refusal("--data", write_archive(tmp_path / "one.tar.gz", python_files())) == 4, "batches 2 to 5 are missing"
    rows, labels = images(12, 1)
    parts = {**python_files(), **{f"data_batch_{i}": pickled(batch(*images(12, i), "training")) for i in range(1, 6)}}
    swapped = {**parts, "data_batch_3": parts["test_batch"]}
    assert refusal("--data", write_archive(tmp_path / "test.tar.gz", swapped)) == 3, "test images to train on"
    wrong = {**parts, "data_batch_1": pickled(batch(rows, [10, *labels[1:]], "training batch 1 of 5"))}
    assert refusal("--data", write_archive(tmp_path / "label.tar.gz", wrong)) == 3
    assert not (tmp_path / "out").exists()
    huge = {**weights, "head.weight": np.full((10, 24), 3e38, np.float32)}
    assert refusal("--weights", save_safetensors(tmp_path / "huge.safetensors", huge)) == 1, "the loss is not finite"


@pytest.mark.parametrize("head", [pytest.param("seeded", marks=pytest.mark.slow), "zeros"])
def test_other_classes_get_a_fresh_head(
    mixer_report: Run, arguments: list[object], tmp_path: Path, config: MixerConfig, source: StateDict, head: str
) -> None:
    """7 classes and 20 px, as an upstream has 1,000 and 224; at learning rate 0 step 1 leaves the weights alone."""
    seven = save_safetensors(tmp_path / "seven.safetensors", source)
    recipe = write_recipe(tmp_path / "r.toml", head=head, augmentation="inception_and_flip")
    out = tmp_path / "out"
    given = ["--weights", seven, "--recipe", recipe, "--out", out, "--stop-after", 1]
    succeeded(mixer_report(*arguments, *given))
    body = {name: array for name, array in source.items() if name not in HEAD}
    adapted = adapt(body, replace(config, num_classes=0), Adaptation(num_classes=10, head_seed=5))
    expected: dict[str, Array] = dict(convert_state_dict(adapted.state_dict, adapted.config).state_dict)
    if head == "zeros":
        expected |= {name: np.zeros_like(expected[name]) for name in HEAD}
        assert json.loads((out / "log.jsonl").read_text())["loss"] == pytest.approx(np.log(10), rel=1e-6)
    kept = files.read(out / "checkpoints" / "step-0000001.safetensors")
    for name, array in expected.items():
        np.testing.assert_array_equal(kept[f"model|{name}"], array)
    succeeded(mixer_report(*arguments, *given[:-2], "--resume"))
    assert json.loads((out / "evaluation.json").read_text())["accuracy"]["total"] == 12


def test_google_s_optimizer_is_the_textbook_s(frameworks: None, one_block: MixerConfig, weights: StateDict) -> None:
    """Clipping to norm 1, then momentum: two steps on one image, against NumPy on Paddle's own gradients."""
    recipe = replace(recipe_by_name("google"), batch_size=1, micro_batch=1, clip_norm=0.1)
    start = convert_state_dict(weights, one_block).state_dict
    pixels, labels = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32), np.array([3])
    trainer = Trainer(one_block, start, recipe, device="cpu", threads=1, group=Group())
    gradients: list[dict[str, Array]] = []
    real = trainer.optimizer.step

    def step() -> None:
        gradients.append({name: p.grad.numpy().astype(np.float64) for name, p in trainer.model.named_parameters()})
        real()

    trainer.optimizer.step = step
    velocity = {name: np.zeros(array.shape) for name, array in start.items()}
    expected = {name: array.astype(np.float64) for name, array in start.items()}
    for _ in range(2):
        trainer.step(pixels, labels, 0.5, 1)
        norm = np.sqrt(sum((g**2).sum() for g in gradients[-1].values()))
        assert norm > 0.1, "it has to be clipped"
        for name, gradient in gradients[-1].items():
            velocity[name] = 0.9 * velocity[name] + gradient * 0.1 / norm
            expected[name] -= 0.5 * velocity[name]
    for name, array in trainer.weights().items():
        np.testing.assert_allclose(array, expected[name], atol=1e-6)


@pytest.mark.slow
def test_three_kills_leave_the_trajectory(arguments: list[object], tmp_path: Path) -> None:
    """SIGKILL at moments that nobody chose; 150 steps, a checkpoint every 7."""
    recipe = write_recipe(tmp_path / "r.toml", epochs=40)
    given = [*map(str, arguments), "--recipe", str(recipe), "--checkpoint-every", "7"]
    command = [sys.executable, "-m", "reports.commands.cli", *given, "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    out, chance = tmp_path / "killed", np.random.default_rng(0)
    for kill in range(3):
        until = 35 * kill + int(chance.integers(10, 35))  # far from the end, for whoever looks late
        run = subprocess.Popen([*command, str(out), *(["--resume"] if kill else [])], stderr=subprocess.DEVNULL)
        while run.poll() is None and not (
            (out / "log.jsonl").exists() and (out / "log.jsonl").read_bytes().count(b"\n") >= until
        ):
            time.sleep(0.002)
        assert run.poll() is None, "it was to be killed in mid-training"
        run.kill()
        assert run.wait() == -signal.SIGKILL
    subprocess.run([*command, str(out), "--resume"], check=True, capture_output=True)
    assert trajectory(out) == trajectory(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_do_what_one_does(arguments: list[object], uninterrupted: Path, tmp_path: Path) -> None:
    program = tmp_path / "mixer-report"
    program.write_text(f"#!{sys.executable}\nfrom reports.commands.cli import main\nmain()\n")
    program.chmod(0o755)
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
    launch += ["--log_dir", str(tmp_path / "log"), str(program)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}

    def run(*options: object) -> subprocess.CompletedProcess[str]:
        command = [*launch, *map(str, options)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    together = run(*arguments, "--out", tmp_path / "two")
    assert together.returncode == 0, together.stdout + together.stderr
    one, two = (
        [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        for out in (uninterrupted, tmp_path / "two")
    )
    np.testing.assert_allclose([e["loss"] for e in two], [e["loss"] for e in one], atol=1e-5, rtol=0)
    assert [e["images"] for e in two] == [e["images"] for e in one]
    run(
        *["evaluate", "--weights", uninterrupted / "final.pdparams", "--data", arguments[4], "--batch-size", 5],
        *["--predictions", tmp_path / "two.npz"],
    )
    alone, shared = read_predictions(uninterrupted / "predictions.npz"), read_predictions(tmp_path / "two.npz")
    assert shared.predictions.tolist() == alone.predictions.tolist()
    assert shared.labels.tolist() == alone.labels.tolist()
