"""The two gates of training, run on request: the gradients of one batch, and the steps of the optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from align.core.case import Case, Settings
from align.core.result import Gate, GateName, Section
from align.learning import paddle_steps
from align.learning.backward import backward
from align.learning.training import BuildOptimizer, learners, training

Progress = Callable[[str], None]


def not_run(*, wants_backward: bool, train_steps: int) -> Iterator[Section]:
    """Yield the requested gates as not run: where the forward has diverged, no gradient can agree."""
    names: tuple[tuple[GateName, bool], ...] = (("backward", wants_backward), ("training", train_steps > 0))
    for name, wanted in names:
        if wanted:
            yield Section(gate=Gate(name=name, passed=None, sentence="not run: the forward has diverged"))


def gradients_section(case: Case, *, seed: int, progress: Progress) -> Section:
    """Return the backward gate on the case's inputs, with labels drawn from the same seed."""
    progress("backward: building the models")
    return backward(case, case.reference.build(), case.candidate.build(), seed=seed, progress=progress)


def steps_section(
    case: Case, settings: Settings, build_optimizer: BuildOptimizer | None, progress: Progress
) -> Section:
    """Return the training gate: `settings.train_steps` steps, each on its own batch of the case's size."""
    progress("training: building the models")
    sides = learners(case, build_optimizer or paddle_steps.optimizer)
    return training(case, sides, steps=settings.train_steps, seed=settings.input_seed, progress=progress)
