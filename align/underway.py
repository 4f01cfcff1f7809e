"""Which stages a run has, and which share of its time each takes, so that the time left can be told.

The shares are those of b16_in1k on two cores of an AMD EPYC, with the default settings; others are near enough to say
whether it is a minute or an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from align.alignment import Specimen
    from align.core.case import Case, Settings

Stages = Mapping[str, tuple[float, int]]
"""By the name of a stage, in their order, its share of the time and how many parts of it are told."""

BACKWARD, BACKWARD_PARTS = 300.0, 6
"""The gradients take several times what the forward takes, all stages of which are 100."""
STEP = 60.0
"""As does one step of an optimizer, of both sides in both precisions."""
RUNS = 8
"""Optimizers and schedules."""
RECORD: Stages = {"building the reference": (20, 1), "float32": (30, 1), "float64": (50, 1)}
CHECK: Stages = {"building the Paddle model": (20, 1), "float32": (40, 1), "float64": (40, 1)}
REPROD: Stages = {"forward, metric and loss": (10, 1), "backward": (20, 1), "training": (70, 1)}


def of_alignment(case: Case, settings: Settings) -> Stages:
    """Return the stages of `align.run.align`."""
    points = len(case.points)
    found: dict[str, tuple[float, int]] = {
        "building the models": (14, 1),
        "float32": (53, points),
        "float64": (15, points),
        "each layer alone": (12 if settings.stress else 0, 1),
        "what changes with use": (1, 1),
        "other weights": (5, 1),
    }
    if settings.backward:
        found["backward"] = (BACKWARD, BACKWARD_PARTS)
    if settings.train_steps:
        found["training"] = (RUNS * STEP * settings.train_steps, RUNS + 1)
    return found


def of_selftest(specimens: Mapping[str, Specimen], seeds: int, kinds: int) -> Stages:
    """Return those of `align.selftest.run.selftest`: a run for each fault and each right port, and some."""
    counts = {name: len(one.faults()) + 1 + seeds * kinds for name, one in specimens.items()}
    return {name: (float(count), count) for name, count in counts.items()}


def of_predictions(images: int | None, batch_size: int) -> Stages:
    """Return those of `align.predictions.predict.certify`; without the number of images there is no telling."""
    return {} if images is None else {"building both models": (10, 1), "images": (90, -(-images // batch_size))}
