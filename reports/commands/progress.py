"""The progress of an evaluation or a training, on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from convert.commands.progress import counted

if TYPE_CHECKING:
    from reports.score.evaluate import Progress
    from reports.train.finetune import Progress as TrainingProgress


@contextlib.contextmanager
def evaluating(total: int) -> Iterator[Progress]:
    """Show images done, accuracy so far, images/s and time left of an evaluation."""
    with counted(total, f"evaluating {total:,} images") as show:
        yield lambda done, right: show(done, f"{100 * right / done:.2f} % right")


@contextlib.contextmanager
def training(steps: int, total: int) -> Iterator[TrainingProgress]:
    """Show images done, step, loss, images/s and time left of a training."""
    with counted(total, f"training, {steps:,} steps, {total:,} images") as show:
        yield lambda line, done: show(done, f"step {line['step']:,} of {steps:,}, loss {line['loss']:.4f}")
