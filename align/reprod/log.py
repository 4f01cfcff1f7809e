"""The records and logs of PaddlePaddle's paper-reproduction guide, and how they are judged. Pure.

Source: https://github.com/PaddlePaddle/models, docs/lwfx/ArticleReproduction_CV.md, sections 2.2.3 (file names) and 3.1
to 3.11 (what each stage holds); https://github.com/WenmuZhou/reprod_log, release 1.0.1, compare.py (`compute_diff`) and
utils.py (`init_logger`, `check_print_diff`) for the log's form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from convert.arrays import Array, StateDict

StageName = Literal["forward", "metric", "loss", "backward", "train"]
FILES: dict[StageName, tuple[str, str, str]] = {
    "forward": ("forward_torch.npy", "forward_paddle.npy", "forward_diff.log"),
    "metric": ("metric_torch.npy", "metric_paddle.npy", "metric_diff.log"),
    "loss": ("loss_torch.npy", "loss_paddle.npy", "loss_diff.log"),
    "backward": ("bp_align_torch.npy", "bp_align_paddle.npy", "bp_align_diff.log"),
    "train": ("train_align_benchmark.npy", "train_align_paddle.npy", "train_align_diff.log"),
}
"""The reference's record, the candidate's, and the log of each stage, as section 2.2.3 names them."""

ACCURACY_BOUND = 0.0015
"""Bound on the difference in accuracy between two trainings, 0.15 %, from section 3.11."""

MAX_OVER_MEAN = 10
"""Greatest single difference over the mean, as allowed: 1e-5, our bound on logits, to the guide's 1e-6 on the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds that a stage has to meet: the guide's on the mean difference, and ours on the greatest."""

    mean: float
    max: float


def guide_bounds(threshold: float) -> Bounds:
    """Return the bounds of the first four stages; reprod_log's own default threshold is 1e-6.

    The product is rounded to twelve digits, so that ten times 1e-6 reads 1e-05.
    """
    return Bounds(mean=threshold, max=float(f"{MAX_OVER_MEAN * threshold:.12g}"))


TRAINED = Bounds(mean=ACCURACY_BOUND, max=ACCURACY_BOUND)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """What both sides recorded in one stage, and a line on what it was recorded on."""

    name: StageName
    reference: StateDict
    candidate: StateDict
    bounds: Bounds
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDiff:
    """How the two records of one key differ; the figures are NaN where a problem leaves nothing to subtract."""

    key: str
    min: float
    max: float
    mean: float
    bounds: Bounds
    problem: str
    passed: bool

    @property
    def sentence(self) -> str:
        """The figures against their bounds, or the problem."""
        if self.problem:
            return f"{self.key}: {self.problem}"
        largest, mean = (f"{_against(self.max, self.bounds.max)}", f"{_against(self.mean, self.bounds.mean)}")
        return f"{self.key}: max diff {largest}, mean diff {mean}"


def diffs_of(stage: Stage) -> tuple[KeyDiff, ...]:
    """Return the difference of every key that either side recorded, the reference's order first."""
    keys = [*stage.reference, *(key for key in stage.candidate if key not in stage.reference)]
    return tuple(_diff(key, stage.reference.get(key), stage.candidate.get(key), stage.bounds) for key in keys)


def failure(stage: Stage) -> str | None:
    """Return the worst thing about a stage in a sentence, or None if it passed. A stage without a key does not pass."""
    diffs = diffs_of(stage)
    if not diffs:
        return "nothing was recorded"
    return next((diff.sentence for diff in diffs if not diff.passed), None)


def log_text(stage: Stage, time: str) -> str:
    """Return the stage's log as ReprodDiffHelper.report writes it with all three methods, after our note.

    Args:
        stage: The stage and its records.
        time: The timestamp that starts each line, as reprod_log writes it: `2021/11/18 09:29:31`.
    """
    lines = [stage.note, *(line for diff in diffs_of(stage) for line in _log_lines(diff))]
    lines.append("diff check failed" if failure(stage) else "diff check passed")
    return "".join(f"[{time}] root INFO: {line}\n" for line in lines)


def _log_lines(diff: KeyDiff) -> Iterator[str]:
    yield f"{diff.key}: "
    for method, value, bound in (
        ("min", diff.min, diff.bounds.max),
        ("max", diff.max, diff.bounds.max),
        ("mean", diff.mean, diff.bounds.mean),
    ):
        yield f"\t{method} diff: check passed: {value <= bound}, value: {value}"
    if diff.problem:
        yield f"\t{diff.problem}"


def _diff(key: str, reference: Array | None, candidate: Array | None, bounds: Bounds) -> KeyDiff:
    problem = _problem(reference, candidate)
    if problem or reference is None or candidate is None:
        return KeyDiff(key=key, min=math.nan, max=math.nan, mean=math.nan, bounds=bounds, problem=problem, passed=False)
    difference = np.abs(np.subtract(reference, candidate, dtype=np.float64))
    least, largest, mean = (float(figure) for figure in (difference.min(), difference.max(), difference.mean()))
    passed = largest <= bounds.max and mean <= bounds.mean
    return KeyDiff(key=key, min=least, max=largest, mean=mean, bounds=bounds, problem="", passed=passed)


def _problem(reference: Array | None, candidate: Array | None) -> str:
    """Return why two records cannot be subtracted; reprod_log transposes, broadcasts and lets NaN pass instead."""
    if reference is None or candidate is None:
        return f"only {'torch' if candidate is None else 'Paddle'} recorded it"
    if (reference.shape, reference.dtype) != (candidate.shape, candidate.dtype):
        return f"torch recorded {reference.dtype} {reference.shape}, Paddle {candidate.dtype} {candidate.shape}"
    if reference.size == 0:
        return "it is empty"
    wrong = [side for side, array in (("torch", reference), ("Paddle", candidate)) if not np.isfinite(array).all()]
    return f"{' and '.join(wrong)} recorded a value that is not finite" if wrong else ""


def _against(value: float, bound: float) -> str:
    return f"{value:.2e} {'≤' if value <= bound else 'exceeds'} {bound:.2g}"
