"""Fine-tuning on CIFAR-10 by a recipe: train, keep checkpoints, and at the end evaluate on the test images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from align.probes.environment import environment
from convert import files
from convert.arrays import Array, StateDict, fingerprint, tensor_sha256s, total_bytes
from convert.disk.hashing import file_sha256
from convert.errors import IntegrityProblem, UsageProblem
from convert.evidence.manifest import describe_output
from convert.files.sets import TOP
from convert.output import write_with_manifest
from reports.data.ahead import made_ahead
from reports.data.batches import AHEAD
from reports.data.cifar10 import Cifar10
from reports.data.preprocess import Preprocessing
from reports.score.engines import choose_engine, cpus
from reports.score.evaluate import Evaluation, EvaluationSettings, Progress, evaluate
from reports.score.parallel import Group
from reports.score.predictions import write_predictions
from reports.score.published import PublishedFigure, published_figures
from reports.score.weights import Weights
from reports.train.augment import rows_of_step, training_batch
from reports.train.curves import write_curves
from reports.train.head import with_head
from reports.train.recipes import Recipe
from reports.train.run_folder import CURVES, EVALUATION, FINAL, LOG, PREDICTIONS, TIMING, Lines, RunFolder
from reports.train.signals import Stop, stop_on_signals
from reports.train.trainer import Diverged, Trainer

SCHEMA, MANIFEST_SCHEMA = "mixer-report/finetune/1", "mixer-report/finetuned/1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What to fine-tune, on what, how, and where to.

    threads are the CPU's for matrix products (None: all, shared among the processes); a resumed run keeps its own.
    stop_after: end after that step, as a signal would.
    """

    weights: Weights
    train: Cifar10
    test: Cifar10
    recipe: Recipe
    out: Path
    resume: bool = False
    device: str = "cpu"
    threads: int | None = None
    checkpoint_every: int = 100
    stop_after: int | None = None
    command_line: list[str] = field(default_factory=list)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to the images."""
        return self.recipe.preprocessing(self.weights.config.image_size)

    @property
    def images(self) -> int:
        """How many of the training images are used."""
        return self.recipe.images_used(len(self.train.labels))

    @property
    def length(self) -> tuple[int, int]:
        """How many steps there are, and how many images they see."""
        return self.recipe.length(self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: evaluation None means early, by a signal or (signal None) after the step it was told."""

    step: int
    steps: int
    evaluation: Evaluation | None
    signal: int | None


def finetune(job: Job, *, group: Group | None = None, progress: Progress = lambda *_: None) -> Outcome:
    """Return how the run ended; its files are in job.out.

    Raises:
        UsageProblem: The folder is not empty, or not this run's; or a step has fewer images than there are processes.
        IOProblem: The disk refused; `resume` goes on from the last checkpoint.
        IntegrityProblem: A checkpoint or the log is not what was written.
        Diverged: The loss is not finite.
    """
    group = group or Group()
    _refuse_idle(job, group)
    job = replace(job, weights=with_head(job.weights, job.recipe))
    folder, about = RunFolder(job.out), _about(job, group)
    if job.resume:
        about = folder.resume(about)
        job = replace(job, command_line=about["command_line"])  # for the manifest, the same however often it stopped
    elif group.first:
        folder.start(about)
    group.sum_of(np.zeros(1))  # the others wait for the folder
    config, state_dict = job.weights.config, job.weights.state_dict
    options = {"device": job.device, "threads": about["threads"], "group": group}
    trainer = Trainer(config, state_dict, job.recipe, **options)
    entries = _restored(trainer, folder, group) if job.resume else []
    with stop_on_signals() as stop:
        early = _train(job, trainer, folder, entries, stop, progress)
    if group.first:
        write_curves(job.out / CURVES, entries, f"{job.weights.name}, recipe {job.recipe.name}")
    steps, _ = job.length
    evaluation = None if early else _finish(job, trainer.weights(), folder, group)
    return Outcome(step=len(entries), steps=steps, evaluation=evaluation, signal=stop.signal)


def _refuse_idle(job: Job, group: Group) -> None:
    steps, seen = job.length
    least = min(job.recipe.batch_size, seen - (steps - 1) * job.recipe.batch_size)
    if least < group.processes:
        raise UsageProblem(f"A step has {least} images, and there are {group.processes} processes. Start fewer.")


def _about(job: Job, group: Group) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "recipe": job.recipe.as_data(),
        "weights": {"fingerprint": job.weights.fingerprint, "config": asdict(job.weights.config)},
        "data": {"train": job.train.origin.images_sha256, "test": job.test.origin.images_sha256},
        "processes": group.processes,
        "device": job.device,
        "threads": job.threads or max(cpus() // group.processes, 1),
        "sources": job.recipe.sources,
        "upstream": {**job.weights.as_data(), "config": None},
        "origins": {"train": asdict(job.train.origin), "test": asdict(job.test.origin)},
        "environment": environment(),
        "command_line": job.command_line,
    }


def _restored(trainer: Trainer, folder: RunFolder, group: Group) -> list[dict[str, Any]]:
    """Return the log up to the newest checkpoint, whose state the trainer has then."""
    found = folder.read_checkpoint()
    step = found[0] if found else 0
    if found:
        trainer.restore(found[1], found[2])
    if group.sum_of(np.array([step]))[0] != step * group.processes:
        raise IntegrityProblem(f"{folder.path}: the processes see different checkpoints. Share the folder among them.")
    entries = folder.log(step, cut=group.first)
    group.sum_of(np.zeros(1))  # nobody writes before everybody has read
    return entries


def _train(
    job: Job, trainer: Trainer, folder: RunFolder, entries: list[dict[str, Any]], stop: Stop, progress: Progress
) -> bool:
    """Return whether training ended early; entries, the log so far, has grown."""
    steps, _ = job.length
    group, first = trainer.group, len(entries)
    last = min(steps, job.stop_after or steps)
    with (
        ExitStack() as files_open,
        closing(made_ahead(partial(_batch, job, group), range(first, last), ahead=AHEAD)) as made,
    ):
        logs = [files_open.enter_context(Lines(job.out / name)) for name in (LOG, TIMING) if group.first]
        started = time.perf_counter()
        for step, (rows, images) in made:
            entries.append(_step(job, trainer, step, rows, images))
            seconds, started = time.perf_counter() - started, time.perf_counter()
            timing = {"step": step + 1, "seconds": seconds, "images_per_second": len(rows) / seconds}
            for log, line in zip(logs, (entries[-1], timing), strict=False):  # only the first process has logs
                log.add(line)
            progress(step * job.recipe.batch_size + len(rows), sum(line["correct"] for line in entries))
            stopping = bool(group.sum_of(np.array([stop.signal is not None]))[0])
            if stopping or step + 1 == last or (step + 1) % job.checkpoint_every == 0:
                _keep(folder, trainer, step + 1, logs)
            if stopping:
                break
    return len(entries) < steps


def _batch(job: Job, group: Group, step: int) -> tuple[Array, Array]:
    """Return the rows of a step's whole batch, and this process's images of them as the model gets them."""
    recipe = job.recipe
    rows = rows_of_step(step, recipe.batch_size, job.images, job.length[1], recipe.seed)
    part = group.share(len(rows))
    images = job.train.images[rows]
    return rows, training_batch(images, job.preprocessing, recipe.augmentation, recipe.seed, step, part)


def _step(job: Job, trainer: Trainer, step: int, rows: Array, images: Array) -> dict[str, Any]:
    """Return the log's line of a step: nothing in it depends on the clock."""
    rate = job.recipe.learning_rate_at(step, job.length[0])
    labels = job.train.labels[rows[trainer.group.share(len(rows))]]
    loss, right = trainer.step(images, labels, rate, len(rows))
    if not math.isfinite(loss):
        raise Diverged(step + 1, loss)
    epoch = step * job.recipe.batch_size // job.images + 1
    return {"step": step + 1, "epoch": epoch, "lr": rate, "loss": loss, "correct": right, "images": len(rows)}


def _keep(folder: RunFolder, trainer: Trainer, step: int, logs: list[Lines]) -> None:
    """Write a checkpoint; the log is on the disk before it, so that it never says less than the checkpoint."""
    if trainer.group.first:
        for log in logs:
            log.sync()
        folder.write_checkpoint(step, trainer.tensors())


def _finish(job: Job, state_dict: StateDict, folder: RunFolder, group: Group) -> Evaluation:
    """Return the accuracy on the test images; weights, manifest and predictions are written."""
    sha256s = tensor_sha256s(state_dict)
    origin = f"fine-tuned from {job.weights.name}, whose upstream was known from {job.weights.known_from}"
    tuned = replace(
        job.weights,
        state_dict=state_dict,
        name=FINAL,
        sha256=None,
        fingerprint=fingerprint(sha256s),
        known_from=origin,
        weights_key=None,
        port=None,
    )
    if group.first:
        _write_weights(job, state_dict, sha256s)
    settings = EvaluationSettings(
        preprocessing=job.preprocessing,
        figure=_figure(job),
        engine=choose_engine("auto", job.device),
        device=job.device,
        batch_size=min(job.recipe.micro_batch, 64),
    )
    evaluation = evaluate(tuned, job.test, settings, group=group)
    if group.first:
        write_predictions(job.out / PREDICTIONS, evaluation.predictions)
        folder.write_json(EVALUATION, evaluation.as_data())
    return evaluation


def _figure(job: Job) -> PublishedFigure | None:
    """Return the published row of the upstream, if any, that has the recipe's preprocessing; else its first."""
    name = job.weights.upstream.name if job.weights.upstream else None
    rows = [figure for figure in published_figures() if figure.upstream == name]
    same = [row for row in rows if replace(row.preprocessing, reason="") == replace(job.preprocessing, reason="")]
    return next(iter([*same, *rows]), None)


def _write_weights(job: Job, state_dict: StateDict, sha256s: dict[str, str]) -> None:
    """Write the final weights, read them back, then their manifest, which `evaluate` knows their upstream from."""
    path, described = job.out / FINAL, dict[str, Any]()

    def check(written: Path) -> None:
        if tensor_sha256s(files.read(written)) != sha256s:
            raise IntegrityProblem(f"{path}: what was read back is not what was written. Check the disk.")
        described.update(
            describe_output(path, written, file_sha256(written), sha256s, total_bytes(state_dict.values()))
        )

    write_with_manifest(
        path,
        lambda stream: files.write(path, stream, state_dict),
        check,
        lambda: dict(_manifest(job, described, sha256s)),
        force=True,
    )


def _manifest(job: Job, described: dict[str, Any], sha256s: dict[str, str]) -> Iterator[tuple[str, Any]]:
    upstream = job.weights.upstream
    yield "schema", MANIFEST_SCHEMA
    yield "variant", upstream and {"name": upstream.name, "timm_id": upstream.timm_id, "note": upstream.note}
    yield "config", asdict(job.weights.config)
    yield "layouts", {"target": "paddle"}
    yield "weights_key", None if job.weights.weights_key == TOP else job.weights.weights_key
    yield "notes", list(job.weights.notes)
    yield "source", {"kind": "fine-tuned", **job.weights.as_data()}
    yield "recipe", {**job.recipe.as_data(), "sources": job.recipe.sources}
    yield "steps", job.length[0]
    yield "data", asdict(job.train.origin)
    yield "preprocessing", asdict(job.preprocessing)
    yield "output", described
    yield "tensors", [{"target": key, "target_sha256": sha256} for key, sha256 in sha256s.items()]
    yield "environment", environment()
    yield "command_line", job.command_line
