"""Fine-tuning on CIFAR-10 by a recipe: train, keep checkpoints, and at the end evaluate on the test images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convert.arrays import Array
from convert.errors import IntegrityProblem, UsageProblem
from reports.data.workers import made_batches
from reports.score.evaluate import Evaluation
from reports.score.evaluate import Progress as ImagesProgress
from reports.score.parallel import Group
from reports.train import run_file
from reports.train.augment import rows_of_step
from reports.train.checkpoints import Checkpoint, Due
from reports.train.curves import write_curves
from reports.train.finish import finish
from reports.train.head import with_head
from reports.train.job import Job
from reports.train.run_folder import CURVES, LOG, RUN, TIMING, Lines, RunFolder
from reports.train.signals import Stop, ended_by_signals, stop_on_signals
from reports.train.trainer import Diverged, Trainer

Progress = Callable[[dict[str, Any], int], None]
"""Called with the log's line of each step and the number of images seen by then."""


@contextmanager
def _unseen(*_: int) -> Iterator[Callable[..., None]]:
    yield lambda *_: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shows:
    """What shows a run's progress: its training (steps and images in all), then its evaluation (images in all)."""

    training: Callable[[int, int], AbstractContextManager[Progress]] = _unseen
    evaluation: Callable[[int], AbstractContextManager[ImagesProgress]] = _unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: evaluation is None if it ended early, by a signal or (signal None) after the step asked for."""

    step: int
    steps: int
    evaluation: Evaluation | None
    signal: int | None


def finetune(job: Job, *, group: Group | None = None, shows: Shows | None = None) -> Outcome:
    """Train and evaluate, leaving the run's files in job.out; return how the run ended.

    Raises:
        UsageProblem: The folder is not empty, or not this run's; or a step has fewer images than there are processes.
        IOProblem: The disk refused; `resume` goes on from the last checkpoint.
        IntegrityProblem: A checkpoint or the log is not what was written.
        EndedBySignal: A signal came after the last step.
        Diverged: The loss is not finite.
    """
    group, shows = group or Group(), shows or Shows()
    _refuse_idle(job, group)
    job = replace(job, weights=with_head(job.weights, job.recipe))
    folder, about = RunFolder(job.out), run_file.about(job, group)
    if job.resume:
        about = folder.resume(about)
        job = replace(job, command_line=about["command_line"])  # so the manifest is the same however often it stopped
    elif group.first:
        folder.refuse_used()
    config, state_dict = job.weights.config, job.weights.state_dict
    options = {"device": job.device, "threads": about["threads"], "group": group}
    trainer = Trainer(config, state_dict, job.recipe, **options)
    entries = _restored(trainer, folder, group) if job.resume else []
    with stop_on_signals() as stop:
        if group.first and not job.resume:
            folder.start(about)
        group.sum_of(np.zeros(1))  # the other processes wait for the folder
        with shows.training(*job.length) as progress:
            early = _train(job, trainer, entries, stop, progress)
    steps, _ = job.length
    with ended_by_signals(f"{job.out}: {len(entries)} of {steps} steps are done; --resume goes on."):
        if group.first:
            write_curves(job.out / CURVES, entries, f"{job.weights.name}, recipe {job.recipe.name}")
        evaluation = None if early else finish(job, trainer.weights(), folder, group, shows.evaluation)
    return Outcome(step=len(entries), steps=steps, evaluation=evaluation, signal=stop.signal)


def _refuse_idle(job: Job, group: Group) -> None:
    steps, seen = job.length
    least = min(job.recipe.batch_size, seen - (steps - 1) * job.recipe.batch_size)
    if least < group.processes:
        raise UsageProblem(f"A step has {least} images, and there are {group.processes} processes. Start fewer.")


def _restored(trainer: Trainer, folder: RunFolder, group: Group) -> list[dict[str, Any]]:
    """Restore the trainer from the newest checkpoint, if there is one; return the log up to it."""
    found = folder.checkpoints.newest()
    checkpoint = found and found[0]
    step = checkpoint.step if checkpoint else 0
    if group.sum_of(np.array([step]))[0] != step * group.processes:
        raise IntegrityProblem(f"{folder.path}: the processes see different checkpoints. Share the folder among them.")
    entries = folder.log(checkpoint, cut=group.first)
    if found is not None:
        trainer.restore(found[0].tensors, str(found[1]))
    group.sum_of(np.zeros(1))  # no process writes before all have read
    return entries


def _train(job: Job, trainer: Trainer, entries: list[dict[str, Any]], stop: Stop, progress: Progress) -> bool:
    """Train, appending each step to entries, the log so far; return whether training ended early."""
    steps, _ = job.length
    group, first, stopping = trainer.group, len(entries), False
    last = min(steps, job.stop_after or steps)
    folder, due = RunFolder(job.out), Due(steps=job.checkpoint_every, minutes=job.checkpoint_minutes)
    with (
        ExitStack() as files_open,
        closing(_batches(job, group, range(first, last))) as made,
    ):
        logs = [files_open.enter_context(Lines(job.out / name)) for name in (LOG, TIMING) if group.first]
        started = time.perf_counter()
        for step, rows, images in made:
            entries.append(_step(job, trainer, step, rows, images))
            seconds, started = time.perf_counter() - started, time.perf_counter()
            timing = {"step": step + 1, "seconds": seconds, "images_per_second": len(rows) / seconds}
            for log, line in zip(logs, (entries[-1], timing), strict=False):  # only the first process has logs
                log.add(line)
            progress(entries[-1], step * job.recipe.batch_size + len(rows))
            stopping = bool(group.sum_of(np.array([stop.signal is not None]))[0])
            if stopping or step + 1 == last or due.after(step + 1):
                _keep(folder, trainer, step + 1, logs)
                due.written()
            if stopping:
                break
    return stopping or len(entries) < steps


def _batches(job: Job, group: Group, steps: range) -> Generator[tuple[int, Array, Array], None, None]:
    """Yield (step, the rows of its whole batch, this process's images of them as the model gets them)."""

    def rows(step: int) -> Array:
        return rows_of_step(step, job.recipe.batch_size, job.images, job.length[1], job.recipe.seed)

    seen, size = job.length[1], job.recipe.batch_size
    parts = [(step, group.share(min(size, seen - step * size))) for step in steps]
    with closing(made_batches(job.making(), job.train.images, parts, workers=job.workers)) as made:
        for (step, _), images in made:
            yield step, rows(step), images


def _step(job: Job, trainer: Trainer, step: int, rows: Array, images: Array) -> dict[str, Any]:
    """Take a step; return its line of the log, in which nothing depends on the clock."""
    rate = job.recipe.learning_rate_at(step, job.length[0])
    labels = job.train.labels[rows[trainer.group.share(len(rows))]]
    loss, right = trainer.step(images, labels, rate, len(rows))
    if not math.isfinite(loss):
        raise Diverged(step + 1, loss)
    epoch = step * job.recipe.batch_size // job.images + 1
    return {"step": step + 1, "epoch": epoch, "lr": rate, "loss": loss, "correct": right, "images": len(rows)}


def _keep(folder: RunFolder, trainer: Trainer, step: int, logs: list[Lines]) -> None:
    """Write a checkpoint, after the log is safely on disk so that it never ends before the checkpoint does."""
    if trainer.group.first:
        for log in logs:
            log.sync()
        sha256s = {LOG: logs[0].sha256, RUN: folder.sha256_of(RUN)}
        folder.checkpoints.write(Checkpoint(step=step, tensors=trainer.tensors(), sha256s=sha256s))
