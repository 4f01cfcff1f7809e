"""The rehearsal: that it runs the real commands to a bundle, goes on after a kill, and what it says of the real run."""

from __future__ import annotations

import fcntl
import json
import math
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cifar_files import whole_archive
from click.testing import CliRunner
from conftest import save_safetensors

from convert.arrays import StateDict
from convert.errors import IntegrityProblem, IOProblem, OutputRefused, UsageProblem
from convert.files import strict_json
from convert.mixer.variants import MixerConfig
from reports.data.archive import read_files
from reports.data.cifar10 import CLASSES, FILE_MD5, META, read_cifar10
from reports.rehearsal import made_up, record, throughput
from reports.rehearsal.estimate import activations, disk_bytes, estimate, lines, memory_bytes, parameters, real_config
from reports.rehearsal.record import Record, locked
from reports.rehearsal.run import StepFailed, rehearse
from reports.rehearsal.steps import RehearsalInputs, Step, steps_of
from reports.score.parallel import Group
from reports.train.recipes import choose_recipe, parse, recipe_by_name
from reports.train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "reports.commands.cli", "rehearse", "--images-per-second", "100", "--out"]
TIMED = {"report.json", "statement.intoto.json", "SHA256SUMS"}
"""What of a bundle says how fast the engine was, or is the hash of what does."""
BY_HAND = MixerConfig(
    image_size=8, patch_size=4, num_blocks=2, hidden_dim=3, tokens_mlp_dim=5, channels_mlp_dim=7, num_classes=10
)


ON_THE_PAGE = "mixer-report rehearse --out my_rehearsal"
"""The command of docs/audit.md."""


@dataclass(frozen=True)
class Rehearsed:
    folder: Path
    result: dict[str, Any]
    said: str


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Rehearsed:
    """A rehearsal that nothing interrupts, as the page says; half a minute."""
    folder = tmp_path_factory.mktemp("rehearsal")
    out, target = folder / "my_rehearsal", folder / "result.json"
    command = [Path(sys.executable).parent / "mixer-report", *ON_THE_PAGE.split()[1:], "--json", target]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert run.returncode == 0, run.stdout + run.stderr
    return Rehearsed(folder=out, result=strict_json.parse(target.read_bytes()), said=run.stdout)


def words_of(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.slow
def test_a_rehearsal_from_first_to_last(rehearsed: Rehearsed) -> None:
    from reports.commands.cli import main

    assert CliRunner().invoke(main, ["verify", str(rehearsed.folder / "bundle")]).exit_code == 0
    assert rehearsed.result["verdict"] == "not comparable"
    assert rehearsed.result["made_up"] == ["made_up_weights.safetensors", "made_up_cifar10.tar.gz"]
    assert rehearsed.result["accuracy"]["percent"] > 50, "the images can be learned; chance would be 10 %"
    for said in (
        "nothing is fetched",
        "made up: made_up_weights",
        "made up: made_up_cifar10",
        "It is no evidence about",
    ):
        assert said in rehearsed.said
    for step in steps_of(RehearsalInputs()):
        assert f"$ {step.line}\n" in rehearsed.said
    assert re.search(r"\d images/s of one device \(measured here, on cpu", rehearsed.said)


@pytest.mark.slow
def test_what_was_printed_is_what_ran(rehearsed: Rehearsed) -> None:
    """The files themselves say by which command lines they were made."""
    lines_of = {step.name: list(step.command) for step in steps_of(RehearsalInputs())}
    for name, file in (
        ("convert", "upstream.safetensors.manifest.json"),
        ("finetune", "run/run.json"),
        ("finetune", "run/final.pdparams.manifest.json"),
        ("audit", "bundle/environment.json"),
    ):
        assert json.loads((rehearsed.folder / file).read_text())["command_line"] == lines_of[name]
    steps = rehearsed.result["steps"]
    assert [step["command"] for step in steps] == list(lines_of.values())


@pytest.mark.slow
def test_a_finished_rehearsal_repeats_nothing(rehearsed: Rehearsed) -> None:
    before = {path: path.stat().st_mtime_ns for path in rehearsed.folder.glob("[bpru]*/*")}
    run = subprocess.run(
        [*COMMAND, rehearsed.folder, "--resume"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (run.returncode, run.stdout.count("not repeated")) == (0, 4), run.stdout + run.stderr
    assert {path: path.stat().st_mtime_ns for path in rehearsed.folder.glob("[bpru]*/*")} == before != {}


@pytest.mark.slow
def test_weights_and_images_that_are_given(tmp_path: Path, source: StateDict) -> None:
    """Of 20 px, in a folder whose name has a space; nothing is made up, and other weights cannot take their place."""
    folder = tmp_path / "given by me"
    folder.mkdir()
    given = ["--checkpoint", save_safetensors(folder / "my own.safetensors", source)]
    given += ["--data", whole_archive(folder / "my own.tar.gz", 20)]
    run = subprocess.run([*COMMAND, folder / "out", *given], capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "made up" not in run.stdout
    assert "100 images/s of one device (given)" in run.stdout
    said = [shlex.split(line[2:]) for line in run.stdout.splitlines() if line.startswith("$ ")]
    assert said[0] == ["cd", str(folder / "out")]
    inputs = RehearsalInputs(checkpoint=str(folder / "my own.safetensors"), data=str(folder / "my own.tar.gz"))
    assert said[1:] == [list(step.command) for step in steps_of(inputs)]
    report = json.loads((folder / "out" / "bundle" / "report.json").read_text())
    assert (report["accuracy"]["total"], report["source"]["config"]["image_size"]) == (20, 20)
    save_safetensors(folder / "my own.safetensors", {name: 2 * array for name, array in source.items()})
    command = [*COMMAND, folder / "out", *given, "--resume"]
    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (again.returncode, "of other weights, data or device" in again.stderr) == (2, True)


def test_the_steps_are_those_of_the_real_run() -> None:
    """The page has each line; where the rehearsal's differs is in names, in figures, and in what scales it down."""
    page = words_of((ROOT / "docs" / "audit.md").read_text(encoding="utf-8"))
    for step in steps_of(RehearsalInputs()):
        assert f" {words_of(step.for_real)} " in page
        real, small = shlex.split(step.for_real), step.command
        assert [word for word in small if not word.startswith("-")][:2] != []
        assert small[: 1 + (small[0] == "mixer-report")] == tuple(real[: 1 + (real[0] == "mixer-report")])
        scaled = {"--checkpoint", "--figure", "--limit", "--checkpoint-every", "--device"}
        assert _options(small) - _options(real) <= scaled
        assert _options(real) - _options(small) <= {"--variant"}


def _options(words: tuple[str, ...] | list[str]) -> set[str]:
    return {word for word in words if word.startswith("--")}


def _grown_to(path: str, count: int) -> Callable[[Path], bool]:
    return lambda out: (out / path).exists() and (out / path).read_bytes().count(b"\n") >= count


def _there(path: str) -> Callable[[Path], bool]:
    return lambda out: (out / path).exists()


MOMENTS = (
    ("its record alone", _there("rehearsal.json"), signal.SIGKILL),
    ("the recipe", _there("google_scaled_down.toml"), signal.SIGKILL),
    ("the upstream, its manifest or record not", _there("upstream.safetensors"), signal.SIGKILL),
    ("a run that has not begun", _there("run"), signal.SIGKILL),
    ("steps after the newest checkpoint", _grown_to("run/log.jsonl", 25), signal.SIGKILL),
    ("a checkpoint that SIGTERM leaves", _grown_to("run/log.jsonl", 40), signal.SIGTERM),
    ("the final weights, not yet evaluated", _there("run/final.pdparams"), signal.SIGKILL),
    ("a run that Ctrl-C ends after its evaluation", _there("run/evaluation.json"), signal.SIGINT),
    ("predictions without a record", _there("predictions.npz"), signal.SIGKILL),
    ("a bundle without a record", _there("bundle"), signal.SIGKILL),
)


def _stopped(out: Path, resume: bool, reached: Callable[[Path], bool], number: int) -> int:
    """Start or resume a rehearsal, stop it as soon as something is reached, and return its exit code."""
    run = subprocess.Popen(
        [*COMMAND, out, *(["--resume"] if resume else [])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    while run.poll() is None and not reached(out):
        time.sleep(0.002)
    assert run.poll() is None, "it was to be stopped on its way"
    run.send_signal(number)
    return run.wait()


@pytest.mark.slow
def test_killed_at_any_stage_it_goes_on_to_the_same_bundle(rehearsed: Rehearsed, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    for index, (what, reached, number) in enumerate(MOMENTS):
        code = _stopped(out, index > 0, reached, number)
        assert code == (-number if number == signal.SIGKILL else 128 + number), what
        with locked(out):  # the step that ran has gone with it
            pass
    run = subprocess.run([*COMMAND, out, "--resume"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("not repeated") >= 3, "convert, finetune and evaluate; the audit had hardly a record yet"
    whole, killed = rehearsed.folder / "bundle", out / "bundle"
    names = {path.name for path in whole.iterdir()}
    assert {path.name for path in killed.iterdir()} == names
    for name in sorted(names - TIMED):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert _without_timing(killed) == _without_timing(whole)
    for name in ("upstream.safetensors", "run/final.pdparams", "run/log.jsonl", "predictions.npz"):
        assert (out / name).read_bytes() == (rehearsed.folder / name).read_bytes(), name


def _without_timing(bundle: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((bundle / "report.json").read_text())
    assert report["engine"].pop("images_per_second") > 0
    return report


@pytest.mark.slow
def test_a_step_does_not_outlive_the_rehearsal(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _stopped(out, False, _grown_to("run/log.jsonl", 3), signal.SIGKILL)
    time.sleep(0.3)
    size = (out / "run" / "log.jsonl").stat().st_size
    time.sleep(0.5)
    assert (out / "run" / "log.jsonl").stat().st_size == size


STEP = Step(name="made", command=("mixer-report", "published"), leaves=("file", "folder"), for_real="")


@pytest.fixture
def finished(tmp_path: Path) -> Record:
    """A record in which STEP is finished."""
    found = Record(tmp_path / "out")
    found.start({"device": "cpu"})
    (found.folder / "file").write_text("content")
    (found.folder / "folder").mkdir()
    (found.folder / "folder" / "inner").write_text("inner")
    found.add(STEP)
    return found


def resumed(finished: Record) -> Record:
    again = Record(finished.folder)
    again.resume({"device": "cpu"})
    return again


def test_a_finished_step_is_known_by_all_it_left(finished: Record) -> None:
    assert resumed(finished).holds(STEP)
    assert not resumed(finished).holds(replace(STEP, command=("mixer-report", "published", "--debug")))
    assert not resumed(finished).holds(replace(STEP, name="another"))
    inner = finished.folder / "folder" / "inner"
    inner.write_text("other")
    assert not resumed(finished).holds(STEP)
    inner.write_text("inner")
    assert resumed(finished).holds(STEP)
    (finished.folder / "folder" / "added").write_text("")
    assert not resumed(finished).holds(STEP)
    (finished.folder / "folder" / "added").unlink()
    (finished.folder / "file").unlink()
    assert not resumed(finished).holds(STEP)


def test_a_step_that_is_done_again_starts_from_nothing_unless_it_can_go_on(finished: Record) -> None:
    finished.forget(replace(STEP, resumable="folder/inner"))
    assert not resumed(finished).holds(STEP)
    assert (finished.folder / "folder" / "inner").exists()
    finished.forget(replace(STEP, resumable="folder/absent"))
    assert [path.name for path in finished.folder.iterdir()] == ["rehearsal.json"]


def test_a_step_that_left_too_little_is_not_finished(finished: Record) -> None:
    with pytest.raises(IntegrityProblem, match="ended without absent"):
        finished.add(replace(STEP, leaves=("file", "absent")))


def test_which_folders_are_refused(finished: Record, tmp_path: Path) -> None:
    with pytest.raises(OutputRefused, match="it is not empty"):
        Record(finished.folder).start({"device": "cpu"})
    with pytest.raises(UsageProblem, match="other weights, data or device"):
        Record(finished.folder).resume({"device": "gpu"})
    with pytest.raises(UsageProblem, match="no rehearsal to resume"):
        Record(tmp_path / "absent").resume({"device": "cpu"})
    with pytest.raises(IOProblem, match="cannot be made"):
        Record(tmp_path / "absent" / "out").start({"device": "cpu"})
    (finished.folder / "rehearsal.json").write_text("{")
    with pytest.raises(IntegrityProblem, match="it is damaged"):
        Record(finished.folder).resume({"device": "cpu"})


def test_a_kill_before_the_record_leaves_a_folder_to_start_in(tmp_path: Path) -> None:
    (tmp_path / ".mixer-tmp-0123456789abcdef.json").write_text("half")
    found = Record(tmp_path)
    found.resume({"device": "cpu"})
    assert [path.name for path in tmp_path.iterdir()] == ["rehearsal.json"]


def test_two_rehearsals_in_a_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "PATIENCE", 0.1)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UsageProblem, match="another rehearsal is at work"), locked(tmp_path):
        pass
    os.close(handle)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("step", "code", "said"),
    [
        (replace(STEP, leaves=(), exit_code=1), 1, "ended with exit code 0, not 1"),
        (replace(STEP, leaves=(), command=("mixer-report", "verify", "absent")), 4, "ended with exit code 4, not 0"),
    ],
)
def test_a_step_that_ends_otherwise_ends_the_rehearsal(tmp_path: Path, step: Step, code: int, said: str) -> None:
    found = Record(tmp_path)
    found.start({})
    with locked(tmp_path) as lock, pytest.raises(StepFailed, match=said) as caught:
        rehearse(found, (step,), lock, say=lambda _: None)
    assert caught.value.exit_code == code
    assert not found.holds(step)


def test_another_verdict_ends_the_rehearsal(tmp_path: Path) -> None:
    """What a rehearsal cannot show, and what it has to."""
    found = Record(tmp_path)
    found.start({})
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for report, said in (
        ({"verdict": "below", "alignments": {"source": {"verdict": "aligned"}}}, "the verdict is below"),
        ({"verdict": "not comparable", "alignments": {"source": {"verdict": "diverged"}}}, "source is diverged"),
    ):
        (bundle / "report.json").write_text(json.dumps(report))
        with locked(tmp_path) as lock, pytest.raises(StepFailed, match=said):
            rehearse(found, (replace(STEP, leaves=()),), lock, say=lambda _: None)


def test_the_made_up_archive_is_one(tmp_path: Path) -> None:
    """Python's own unpickler reads it; the keys are the canonical archive's."""
    path = tmp_path / "made_up.tar.gz"
    path.write_bytes(made_up.archive(12))
    assert path.read_bytes() == made_up.archive(12)
    content = read_files(path, [*FILE_MD5, META]).content
    assert content.keys() == {*FILE_MD5, META}
    batch = pickle.loads(content["data_batch_3"], encoding="latin-1")
    assert batch.keys() == {"batch_label", "labels", "data", "filenames"}
    assert batch["batch_label"] == "training batch 3 of 5"
    train, test = read_cifar10(path, "train"), read_cifar10(path, "test")
    assert (len(train.labels), len(test.labels)) == (60, 12)
    assert train.images[24:36].transpose(0, 3, 1, 2).reshape(12, -1).tolist() == batch["data"].tolist()
    assert not train.origin.canonical
    assert len(np.unique(np.concatenate([train.images, test.images]), axis=0)) == 72, "no image is there twice"


def test_the_recipe_is_google_s_scaled_down(tmp_path: Path) -> None:
    path = tmp_path / "scaled.toml"
    path.write_text(made_up.as_toml(made_up.scaled_down()))
    small, google = choose_recipe(str(path)).as_data(), recipe_by_name("google").as_data()
    assert {name for name in small if small[name] != google[name]} == {"name", "remark", *made_up.SCALED}
    assert small["batch_size"] // small["micro_batch"] > 1, "gradients are accumulated, as for real"
    assert parse(made_up.as_toml(recipe_by_name("small"))) == (recipe_by_name("small"),)


class TestEstimates:
    """BY_HAND has 4 tokens of 3; per block norms 6 + 6, token mixing 25 + 24, channel mixing 28 + 24: 113."""

    def test_parameters(self) -> None:
        assert parameters(BY_HAND) == (3 * 3 * 4 * 4 + 3) + 2 * 113 + 6 + 40
        assert parameters(real_config()) == 59_880_472 - 990 * 769, "timm's for 1,000 classes, less 990 of them"

    def test_activations(self) -> None:
        """Per block 4 · 12 between the layers, 2 · 15 in token mixing, 2 · 28 in channel mixing; then 192, 12 and 3."""
        assert activations(BY_HAND) == 2 * (48 + 30 + 56) + 192 + 12 + 3

    @pytest.mark.parametrize(("recipe", "states"), [("google", 3), ("paddle_reproduction", 4), ("small", 4)])
    def test_memory(self, recipe: str, states: int) -> None:
        """Weights, gradients and momentum, or Adam's two moments."""
        assert memory_bytes(recipe_by_name(recipe), BY_HAND, 2) == 4 * (419 * states + 2 * 475)

    def test_disk(self) -> None:
        """The upstream has 21,843 classes; final weights; three checkpoints of weights and momentum; 10,000 steps."""
        tensors = 4 * ((419 - 40 + 21_843 * 4) + 419 + 3 * 2 * 419)
        assert disk_bytes(recipe_by_name("google"), BY_HAND) == 170_498_071 + tensors + 10_000 * 230

    @pytest.mark.parametrize(
        ("devices", "micro_batch", "accumulation", "seconds"),
        [(1, 64, 8, 51_233.33), (3, 64, 3, 17_077.78), (8, 64, 1, 6_404.17), (9, 57, 1, 5_692.59)],
    )
    def test_time(self, devices: int, micro_batch: int, accumulation: int, seconds: float) -> None:
        """10,000 steps of 512, and a third of 10,000 test images, at 100 a second."""
        found = estimate(recipe_by_name("google"), real_config(), 100, devices)
        assert (found.steps, found.batch_size) == (10_000, 512)
        assert (found.micro_batch, found.accumulation) == (micro_batch, accumulation)
        assert found.seconds == pytest.approx(seconds, abs=0.01)
        assert found.memory_bytes == 4 * (3 * 59_119_162 + micro_batch * 29_055_744)

    def test_the_table(self) -> None:
        heads, row = lines([estimate(recipe_by_name("google"), real_config(), 100, 1)])
        assert re.split(r"\s\s+", row) == ["google", "1", "10,000 of 512", "8 of 64", "14.2 h", "8.1 GB", "2.1 GB"]
        assert re.split(r"\s\s+", heads)[0] == "recipe"
        assert heads.endswith("disk")

    def test_the_page_has_the_table(self) -> None:
        page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
        shown = lines([estimate(recipe_by_name("google"), real_config(), 500, devices) for devices in (1, 2, 4, 8)])
        assert "\n".join(shown) + "\n" in page

    def test_what_paddle_keeps_is_what_was_derived(self, frameworks: None) -> None:
        """Two images take so much more than one, between forward and backward."""
        import paddle

        config = replace(made_up.CONFIG, num_classes=10)
        recipe = replace(recipe_by_name("google"), batch_size=9, micro_batch=9)
        weights = made_up.init_state_dict(config, 0)
        trainer = Trainer(config, _in_paddle(weights, config), recipe, device="cpu", threads=1, group=Group())

        def kept(count: int) -> int:
            before = paddle.base.core.host_memory_stat_current_value("Allocated", 0)
            images = np.zeros((count, 3, config.image_size, config.image_size), np.float32)
            held = trainer.model(paddle.to_tensor(images)).sum()
            after: int = paddle.base.core.host_memory_stat_current_value("Allocated", 0)
            del held
            return after - before

        assert (kept(9) - kept(1)) / 8 == pytest.approx(4 * activations(config), rel=0.01)


def _in_paddle(weights: Any, config: MixerConfig) -> Any:
    from convert.mixer.mapping import convert_state_dict

    return convert_state_dict(weights, config).state_dict


def test_the_throughput_is_that_of_training_steps(frameworks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps, of which the first, the slowest, does not count."""
    slept = iter([0.5, 0.1, 0.1])
    taken: list[int] = []

    def step(self: Trainer, images: Any, labels: Any, rate: float, count: int) -> tuple[float, int]:
        taken.append(len(images))
        time.sleep(next(slept))
        return 0.0, 0

    monkeypatch.setattr(Trainer, "step", step)
    config = replace(made_up.CONFIG, num_classes=len(CLASSES))
    speed, count = throughput.images_per_second(recipe_by_name("google"), config, "cpu")
    assert taken == [count] * 3
    assert math.isclose(speed, 2 * count / 0.2, rel_tol=0.3)
    assert speed <= 2 * count / 0.2
