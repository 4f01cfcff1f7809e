"""Which stages a run has, and which share of its time each takes, so that the time left can be estimated.

The shares are those of b16_in1k on two cores of an AMD EPYC, with the default settings; those of other runs are near
enough to tell a minute from an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from align.alignment import Specimen
    from align.core.case import Case, Settings

Stages = Mapping[str, tuple[float, int]]
"""By name and in order, each stage's share of the time and the number of parts whose start it reports."""

BACKWARD, BACKWARD_PARTS = 300.0, 6
"""Share and parts of the gradients, which take several times as long as the forward, whose stages add up to 100."""
STEP = 60.0
"""Share of one optimizer step, of both sides in both precisions."""
RUNS = 8
"""Number of training runs: every optimizer with every schedule."""
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
    """Return the stages of `align.selftest.run.selftest`: a part per fault, per right port, and for the limits."""
    counts = {name: len(one.faults()) + 1 + seeds * kinds for name, one in specimens.items()}
    return {name: (float(count), count) for name, count in counts.items()}


def of_predictions(images: int | None, batch_size: int) -> Stages:
    """Return the stages of `align.predictions.predict.certify`; none if the number of images is unknown."""
    return {} if images is None else {"building both models": (10, 1), "images": (90, -(-images // batch_size))}
