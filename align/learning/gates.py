"""The two gates of training, on request: the gradients of one batch, and the steps of the optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from align.core.inputs import seeded_labels
from align.core.result import Gate, GateName, Section
from align.learning.backward import Batch, backward
from align.learning.training import BuildOptimizer, learners, training
from align.probes import paddle_probe, torch_probe
from convert.arrays import Array, StateDict
from convert.mixer.variants import MixerConfig

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What is to be trained: the config, float32 weights in timm's and in Paddle's layout, and how models are built."""

    config: MixerConfig
    source: StateDict
    converted: StateDict
    build_reference: Callable[[], Any]
    build_candidate: Callable[[], Any]
    build_optimizer: BuildOptimizer


def not_run(*, wants_backward: bool, train_steps: int) -> Iterator[Section]:
    """Yield the gates asked for as not run: where the forward has diverged, no gradient can agree."""
    names: tuple[tuple[GateName, bool], ...] = (("backward", wants_backward), ("training", train_steps > 0))
    for name, wanted in names:
        if wanted:
            yield Section(gate=Gate(name=name, passed=None, sentence="not run: the forward has diverged"), checks=())


def gradients_section(task: Task, images: Array, *, seed: int, progress: Progress) -> Section:
    """Return the backward gate on these images, with labels of the same seed."""
    batch = Batch(images=images, labels=seeded_labels(task.config, len(images), seed))
    progress("backward: building the models")
    return backward(
        task.config, task.source, task.build_reference(), task.build_candidate(), batch, seed=seed, progress=progress
    )


def steps_section(task: Task, *, steps: int, batch: int, seed: int, progress: Progress) -> Section:
    """Return the training gate: so many steps, each on a batch of so many images of its own."""

    def reference(precision: str) -> Any:
        model = task.build_reference()
        torch_probe.cast(model, precision)
        return model

    def candidate(precision: Any) -> Any:
        model = task.build_candidate()
        paddle_probe.cast(model, precision)
        return model

    progress("training: building the models")
    sides = learners(reference, candidate, task.source, task.converted, task.build_optimizer)
    return training(task.config, sides, steps=steps, batch=batch, seed=seed, progress=progress)
