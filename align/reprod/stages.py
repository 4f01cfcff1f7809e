"""The five stages of PaddlePaddle's paper-reproduction guide, run in torch and in Paddle, and the folder they fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from align.core.case import Case
from align.core.inputs import seeded_labels
from align.core.weights import expected_values, structure_findings
from align.reprod import paddle_side, torch_side
from align.reprod.data import METRIC_RANKS, Patterns, labels_by_rank, metric_images, projections
from align.reprod.log import FILES, TRAINED, Stage, failure, guide_bounds, log_text
from convert.arrays import Array, StateDict
from convert.disk.atomic import refuse_overwrite, write_atomically
from convert.errors import BadInput, IOProblem, OutputRefused
from convert.files.pickles.array_pickle import write_object_npy

Fill = tuple[str, Callable[[BinaryIO], None]]
"""A file's name and the function that writes its content."""

IMAGES, LABELS = "fake_data.npy", "fake_label.npy"
LEARNING_RATE = 1e-3
"""Learning rate of the backward stage.

Source: PaddlePaddle/models, tutorials/mobilenetv3_prod/Step1-5/05_test_backward.py."""

TRAIN_LEARNING_RATE = 1e-2
"""Learning rate of the train stage: our choice, so that a few steps move the loss by far more than the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages' settings: seed of labels and data, SGD steps of two stages, bound on mean differences."""

    input_seed: int = 0
    backward_steps: int = 3
    train_steps: int = 4
    threshold: float = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """All that goes into the folder: the batch of the forward, loss and backward stages, and what was recorded."""

    name: str
    images: Array
    labels: Array
    stages: tuple[Stage, ...]

    @property
    def failures(self) -> dict[str, str]:
        """A sentence for each stage that failed, by the stage's name."""
        found = {stage.name: failure(stage) for stage in self.stages}
        return {name: sentence for name, sentence in found.items() if sentence}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Models:
    reference: Any
    candidate: Any


def reproduce(case: Case, settings: Stages | None = None, *, progress: Callable[[str], None] = lambda _: None) -> Pack:
    """Run the five stages in torch and in Paddle, both in float32; return what they recorded.

    Args:
        case: The models and the batch; the reference is torch's.
        settings: Seed, steps and bound.
        progress: Called with the name of what is about to run.

    Raises:
        BadInput: The candidate's keys, shapes or dtypes are not the model's, so that nothing can run.
    """
    settings = settings or Stages()
    labels = seeded_labels(case.classes, len(case.inputs), settings.input_seed)
    findings = structure_findings(expected_values(case.expected), case.candidate.state_dict, case.place)
    if findings:
        raise BadInput(
            f"{case.name}: {findings[0].sentence}. No stage can run; convert the candidate again with mixer-convert."
        )
    progress("forward, metric and loss")
    models = _models(case)
    forward = _forward(models, case.inputs, settings)
    stages = [forward, _metric(models, case, settings), _loss(forward, labels, settings)]
    progress("backward")
    stages.append(_backward(models, case, labels, settings))
    progress("training")
    stages.append(_train(_models(case), case, settings))
    return Pack(name=case.name, images=case.inputs, labels=labels, stages=tuple(stages))


def refuse_to_replace(folder: Path, *, force: bool) -> None:
    """Check that the pack may be written to the folder, which need not exist.

    Raises:
        OutputRefused: It holds a file of the pack and force is off, or something that is no regular file.
        IOProblem: The path exists and is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise IOProblem(f"{folder}: it is not a folder. Choose another OUT_DIR.")
    for name in (IMAGES, LABELS, *(name for names in FILES.values() for name in names)):
        path = folder / name
        if path.exists() and not force:
            raise OutputRefused(path, "it exists", "Pass --force to replace it, or choose another OUT_DIR.")
        if folder.is_dir():
            refuse_overwrite(path, force=True)


def write_pack(pack: Pack, folder: Path, time: str) -> list[Path]:
    """Write the records and the logs, each file whole or not at all, and return their paths.

    Existing logs are removed first and new ones written last, so that no log ever lies beside records that it was not
    made from.

    Args:
        pack: What was recorded.
        folder: The folder to write to; it is created if missing.
        time: The timestamp that the logs' lines start with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for _, _, log in FILES.values():
        (folder / log).unlink(missing_ok=True)
    fills = [*_inputs(pack), *_records(pack), *_logs(pack, time)]
    for name, fill in fills:
        write_atomically(folder / name, fill)
    return [folder / name for name, _ in fills]


def _inputs(pack: Pack) -> list[Fill]:
    def fill(array: Array, stream: BinaryIO) -> None:
        np.save(stream, array, allow_pickle=False)

    return [(IMAGES, partial(fill, pack.images)), (LABELS, partial(fill, pack.labels))]


def _records(pack: Pack) -> Iterator[Fill]:
    def fill(record: StateDict, stream: BinaryIO) -> None:
        write_object_npy(stream, record)

    for stage in pack.stages:
        reference, candidate, _ = FILES[stage.name]
        yield reference, partial(fill, stage.reference)
        yield candidate, partial(fill, stage.candidate)


def _logs(pack: Pack, time: str) -> Iterator[Fill]:
    def fill(text: str, stream: BinaryIO) -> None:
        stream.write(text.encode())

    for stage in pack.stages:
        yield FILES[stage.name][2], partial(fill, log_text(stage, time))


def _models(case: Case) -> _Models:
    return _Models(reference=case.reference.build(), candidate=case.candidate.build())


def _forward(models: _Models, images: Array, settings: Stages) -> Stage:
    return Stage(
        name="forward",
        reference={"logits": torch_side.logits(models.reference, images)},
        candidate={"logits": paddle_side.logits(models.candidate, images)},
        bounds=guide_bounds(settings.threshold),
        note=f"forward on {len(images)} seeded images (input seed {settings.input_seed})",
    )


def _metric(models: _Models, case: Case, settings: Stages) -> Stage:
    images = metric_images(case.inputs.shape[1:], settings.input_seed)
    reference, candidate = (
        torch_side.logits(models.reference, images),
        paddle_side.logits(models.candidate, images),
    )
    labels = labels_by_rank(reference)
    k = min(5, case.classes)
    return Stage(
        name="metric",
        reference={f"acc_top{n}": torch_side.accuracy(reference, labels, n) for n in (1, k)},
        candidate={f"acc_top{n}": paddle_side.accuracy(candidate, labels, n) for n in (1, k)},
        bounds=guide_bounds(settings.threshold),
        note=f"accuracy on {len(images)} seeded images, labelled by torch's own ranking: no real data",
    )


def _loss(forward: Stage, labels: Array, settings: Stages) -> Stage:
    return Stage(
        name="loss",
        reference={"loss": torch_side.loss(forward.reference["logits"], labels)},
        candidate={"loss": paddle_side.loss(forward.candidate["logits"], labels)},
        bounds=guide_bounds(settings.threshold),
        note=f"cross-entropy (float64, of float32 logits) on the forward's images with {len(labels)} seeded labels",
    )


def _backward(models: _Models, case: Case, labels: Array, settings: Stages) -> Stage:
    batches = [(case.inputs, labels)] * settings.backward_steps
    reference, gradients = torch_side.train(models.reference, batches, LEARNING_RATE)
    candidate, candidate_gradients = paddle_side.train(models.candidate, batches, LEARNING_RATE)
    reference_gradients = case.rules.apply(gradients)
    return Stage(
        name="backward",
        reference=_with_gradients(reference, reference_gradients, settings),
        candidate=_with_gradients(candidate, candidate_gradients, settings),
        bounds=guide_bounds(settings.threshold),
        note=(
            f"{len(batches)} SGD steps on the forward's images, learning rate {LEARNING_RATE}; grad_0: each gradient "
            "of the first step, projected on a seeded direction"
        ),
    )


def _with_gradients(record: StateDict, gradients: StateDict, settings: Stages) -> StateDict:
    """Return the record with the gradients after the first loss, so that the first key at fault is the cause."""
    projected = {f"grad_0.{key}": value for key, value in projections(gradients, settings.input_seed).items()}
    first = {key: value for key, value in record.items() if key.endswith("_0")}
    return {**first, **projected, **record}


def _train(models: _Models, case: Case, settings: Stages) -> Stage:
    data = Patterns(case.inputs.shape, case.classes, settings.input_seed)
    batches = list(data.batches(settings.train_steps))
    torch_side.train(models.reference, batches, TRAIN_LEARNING_RATE)
    paddle_side.train(models.candidate, batches, TRAIN_LEARNING_RATE)
    images, labels = data.evaluation()
    reference, candidate = (
        torch_side.logits(models.reference, images),
        paddle_side.logits(models.candidate, images),
    )
    return Stage(
        name="train",
        reference=_trained(torch_side, reference, labels),
        candidate=_trained(paddle_side, candidate, labels),
        bounds=TRAINED,
        note=(
            f"{settings.train_steps} SGD steps of {len(case.inputs)} images, learning rate {TRAIN_LEARNING_RATE}, then "
            f"{len(METRIC_RANKS)} new images: seeded patterns with noise, no real data; the benchmark is torch's "
            "figure after the same steps, not a published one"
        ),
    )


def _trained(side: ModuleType, scores: Array, labels: Array) -> StateDict:
    return {"top1": side.accuracy(scores, labels, 1), "loss": side.loss(scores, labels)}
