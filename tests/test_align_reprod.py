"""The reproduction pack: theirs in form, ours in judgement, and every stage can fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from altered import with_candidate
from conftest import Run, save_safetensors

from align.core.case import Case
from align.mixer.case import Subject, case_of
from align.reprod.log import FILES, Bounds, Stage, diffs_of, failure, guide_bounds, log_text
from align.reprod.stages import Pack, Stages, reproduce, write_pack
from convert.arrays import Array, StateDict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

TIME = "2021/11/18 09:29:31"
KEYS = {
    "forward": {"logits"},
    "metric": {"acc_top1", "acc_top5"},
    "loss": {"loss"},
    "backward": {"loss_0", "lr_0", "loss_1", "lr_1", "loss_2", "lr_2"},
    "train": {"top1", "loss"},
}


def stage(reference: StateDict, candidate: StateDict, bounds: Bounds | None = None) -> Stage:
    bounds = bounds or guide_bounds(1e-6)
    return Stage(name="forward", reference=reference, candidate=candidate, bounds=bounds, note="a note")


def read(path: Path) -> dict[str, Array]:
    """Read as reprod_log does: the pickled dict of a file that the test itself wrote."""
    content: dict[str, Array] = np.load(path, allow_pickle=True).tolist()
    return content


@pytest.fixture(scope="module")
def case(config: MixerConfig, source: StateDict, frameworks: None) -> Case:
    return case_of(Subject(source=source, config=config, name="small"))


@pytest.fixture(scope="module")
def pack(case: Case) -> Pack:
    return reproduce(case)


def test_a_right_port_passes_every_stage(pack: Pack) -> None:
    assert [stage.name for stage in pack.stages] == list(FILES)
    assert pack.failures == {}


def test_the_stages_record_what_the_guide_names(pack: Pack, config: MixerConfig, source: StateDict) -> None:
    for one in pack.stages:
        assert {key for key in one.reference if not key.startswith("grad_0.")} == KEYS[one.name]
    recorded = {one.name: one.reference for one in pack.stages}
    assert recorded["forward"]["logits"].shape == (2, config.num_classes)
    assert (recorded["metric"]["acc_top1"], recorded["metric"]["acc_top5"]) == (2 / 8, 6 / 8)
    parameters = {f"grad_0.{key}" for key in convert_state_dict(source, config).state_dict}
    assert parameters == recorded["backward"].keys() - KEYS["backward"]
    assert recorded["backward"]["loss_2"] < recorded["backward"]["loss_0"], "three steps have to descend"


def test_the_records_load_as_numpy_saves_a_dict(pack: Pack, tmp_path: Path) -> None:
    write_pack(pack, tmp_path / "new" / "pack", TIME)
    for one in pack.stages:
        for name, record in zip(FILES[one.name], (one.reference, one.candidate), strict=False):
            loaded = read(tmp_path / "new" / "pack" / name)
            assert list(loaded) == list(record)
            for key, array in record.items():
                assert isinstance(loaded[key], np.ndarray)
                assert (loaded[key].dtype, loaded[key].shape) == (array.dtype, array.shape)
                assert loaded[key].tobytes() == array.tobytes()
    assert np.load(tmp_path / "new" / "pack" / "fake_data.npy").tobytes() == pack.images.tobytes()
    assert np.load(tmp_path / "new" / "pack" / "fake_label.npy").tolist() == pack.labels.tolist()


def test_the_same_input_gives_the_same_bytes(case: Case, pack: Pack, tmp_path: Path) -> None:
    first, again = write_pack(pack, tmp_path / "a", TIME), write_pack(reproduce(case), tmp_path / "b", TIME)
    assert len(first) == 17
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_the_log_has_reprod_logs_lines() -> None:
    """Written out by hand after check_print_diff with diff_method `all`; 0.5, 0.25 and their mean are exact."""
    text = log_text(stage({"x": np.array([1.0, 2.0])}, {"x": np.array([1.5, 2.25])}, Bounds(mean=0.4, max=0.5)), TIME)
    start = f"[{TIME}] root INFO: "
    assert text == (
        f"{start}a note\n{start}x: \n{start}\tmin diff: check passed: True, value: 0.25\n"
        f"{start}\tmax diff: check passed: True, value: 0.5\n{start}\tmean diff: check passed: True, value: 0.375\n"
        f"{start}diff check passed\n"
    )


ONES = np.ones((2, 3), np.float32)
UNFIT = [
    pytest.param({"x": ONES}, {"x": ONES * np.nan}, "Paddle recorded a value that is not finite", id="NaN"),
    pytest.param({"x": ONES * np.nan}, {"x": ONES * np.nan}, "torch and Paddle recorded", id="NaN on both sides"),
    pytest.param({"x": ONES * np.inf}, {"x": ONES}, "torch recorded a value", id="infinity"),
    pytest.param({"x": ONES}, {"x": ONES.T}, r"float32 \(2, 3\), Paddle float32 \(3, 2\)", id="transposed"),
    pytest.param({"x": ONES}, {"x": ONES[:1]}, r"Paddle float32 \(1, 3\)", id="would broadcast"),
    pytest.param({"x": ONES}, {"x": ONES.astype(np.float64)}, "Paddle float64", id="dtype"),
    pytest.param({"x": ONES}, {}, "only torch recorded it", id="missing"),
    pytest.param({}, {"x": ONES}, "only Paddle recorded it", id="unexpected"),
    pytest.param({"x": ONES[:0]}, {"x": ONES[:0]}, "empty", id="empty array"),
    pytest.param({}, {}, "nothing was recorded", id="empty stage"),
]


@pytest.mark.parametrize(("reference", "candidate", "sentence"), UNFIT)
def test_what_cannot_be_compared_fails(reference: StateDict, candidate: StateDict, sentence: str) -> None:
    one = stage(reference, candidate)
    assert re.search(sentence, failure(one) or "")
    assert log_text(one, TIME).endswith("diff check failed\n")
    assert "check passed: True" not in log_text(one, TIME)


def test_one_far_element_fails_although_the_mean_passes() -> None:
    far = np.zeros(1000)
    far[7] = 2e-5
    (diff,) = diffs_of(stage({"x": np.zeros(1000)}, {"x": far}))
    assert diff.mean <= diff.bounds.mean
    assert not diff.passed
    near = np.full(1000, 9e-6)
    assert failure(stage({"x": np.zeros(1000)}, {"x": near})), "and the guide's mean still counts"


def head_bias_moved(state_dict: dict[str, Array]) -> None:
    state_dict["head.bias"] = state_dict["head.bias"] + np.float32(2e-5) * np.arange(7, dtype=np.float32)


def classes_rotated(state_dict: dict[str, Array]) -> None:
    state_dict["head.weight"] = np.roll(state_dict["head.weight"], 1, axis=1)
    state_dict["head.bias"] = np.roll(state_dict["head.bias"], 1)


@pytest.mark.parametrize(
    ("spoil", "failing"),
    [(head_bias_moved, {"forward", "loss"}), (classes_rotated, {"forward", "metric", "loss", "backward", "train"})],
)
def test_a_wrong_candidate_fails_its_stages(
    config: MixerConfig, source: StateDict, spoil: Callable[[dict[str, Array]], None], failing: set[str]
) -> None:
    candidate = dict(convert_state_dict(source, config).state_dict)
    spoil(candidate)
    case = case_of(Subject(source=source, config=config, name="small", candidate=candidate))
    assert failing <= reproduce(case).failures.keys()


@pytest.mark.parametrize(
    ("function", "failing"),
    [("accuracy", {"metric", "train"}), ("loss", {"loss", "train"})],
)
def test_another_set_of_labels_fails_that_stage(
    case: Case, monkeypatch: pytest.MonkeyPatch, function: str, failing: set[str]
) -> None:
    from align.reprod import paddle_side

    right = getattr(paddle_side, function)
    monkeypatch.setattr(
        paddle_side, function, lambda scores, labels, *rest: right(scores, (labels + 1) % scores.shape[1], *rest)
    )
    failures = reproduce(case).failures.keys()
    assert failures & failing
    assert failures <= failing


def test_another_learning_rate_fails_the_training_stages(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from align.reprod import paddle_side

    right = paddle_side.train
    monkeypatch.setattr(paddle_side, "train", lambda model, batches, rate: right(model, batches, rate * 1.5))
    assert reproduce(case, Stages(train_steps=8)).failures.keys() == {"backward", "train"}


@pytest.mark.parametrize(
    ("name", "factor"),
    [("blocks.2.mlp_tokens.fc1.weight", None), ("stem.proj.bias", 0.99), ("blocks.3.norm2.weight", 0.99)],
)
def test_a_wrong_gradient_fails_the_backward_stage(case: Case, name: str, factor: float | None) -> None:
    def spoil(model: Any) -> None:
        parameter = dict(model.named_parameters())[name]
        if factor is None:
            parameter.stop_gradient = True
        else:
            parameter.register_hook(lambda gradient: gradient * factor)

    failures = reproduce(with_candidate(case, spoil)).failures
    assert f"grad_0.{name}" in failures["backward"]
    assert "forward" not in failures


def test_the_command_writes_a_pack_and_refuses_to_replace_it(
    mixer_align: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    out, report = tmp_path / "pack", tmp_path / "pack.json"
    run = mixer_align("reprod", out, "--checkpoint", checkpoint, "--train-steps", 1, "--json", report)
    assert run.exit_code == 0, run.output
    assert run.output.splitlines()[-1].startswith("reproduced: timm.safetensors: 5 stages passed; 17 files in")
    assert {path.name for path in out.iterdir()} == {n for f in FILES.values() for n in f} | {
        "fake_data.npy",
        "fake_label.npy",
    }
    assert (out / "forward_diff.log").read_text().startswith("[1970/01/02 00:00:00] root INFO: ")
    data = json.loads(report.read_text())
    assert (data["schema"], data["verdict"], len(data["sha256"])) == ("mixer-align/reprod/1", "reproduced", 17)
    refused = mixer_align("reprod", out, "--checkpoint", checkpoint)
    assert refused.exit_code == 2
    assert "Pass --force" in refused.output


def test_the_command_names_the_stage_and_key_that_failed(
    mixer_align: Run, checkpoint: Path, case: Case, tmp_path: Path
) -> None:
    candidate = dict(case.expected)
    candidate["head.bias"] = candidate["head.bias"] * np.float32(np.nan)
    spoilt = save_safetensors(tmp_path / "spoilt.safetensors", candidate)
    options = ("--checkpoint", checkpoint, "--candidate", spoilt, "--train-steps", 1)
    run = mixer_align("reprod", tmp_path / "pack", *options, "--json", "-")
    assert run.exit_code == 1, run.output
    assert "not reproduced: timm.safetensors: forward: logits: Paddle recorded a value that is not finite" in run.output
    assert (tmp_path / "pack" / "forward_diff.log").read_text().endswith("diff check failed\n")


def test_a_candidate_of_another_structure_is_bad_input(mixer_align: Run, checkpoint: Path, tmp_path: Path) -> None:
    wrong = save_safetensors(tmp_path / "wrong.safetensors", {"head.bias": np.zeros(8, np.float32)})
    run = mixer_align("reprod", tmp_path / "pack", "--checkpoint", checkpoint, "--candidate", wrong)
    assert run.exit_code == 3, run.output
    assert "is missing from the candidate" in run.output
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize("options", [("--diff-threshold", "nan"), ("--reference", "flax")])
def test_wrong_usage_writes_nothing(
    mixer_align: Run, checkpoint: Path, tmp_path: Path, options: tuple[str, str]
) -> None:
    run = mixer_align("reprod", tmp_path / "pack", "--checkpoint", checkpoint, *options)
    assert run.exit_code == 2, run.output
    assert not (tmp_path / "pack").exists()
