"""The optimizers and schedules that both sides train with: one literal table, with the constants that Paddle uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

OptimizerName = Literal["sgd", "momentum", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine"]
Stepper = Callable[[], float]
"""Takes one step of an optimizer and its schedule, and returns the learning rate that the step used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerRecipe:
    """One optimizer with its constants, as both sides get them; `rounded` says what was rounded, and from what."""

    name: OptimizerName
    lr: float
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    rounded: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A learning-rate schedule: constant, or a linear warm-up to the recipe's rate and a cosine down to 0."""

    name: ScheduleName
    warmup_steps: int = 0
    decay_steps: int = 0
    start_factor: float = 1.0


def as_paddle_rounds(value: float) -> float:
    """Return the float32 nearest to a constant, which Paddle computes with even in float64.

    Measured (paddlepaddle 3.3.1): Momentum's mu and weight decay, AdamW's weight decay. Not rounded: every optimizer's
    learning rate, Adam's and AdamW's betas and epsilon, and the weight decay of SGD and Adam.
    """
    return float(np.float32(value))


MU, WEIGHT_DECAY = 0.9, 0.05

RECIPES: tuple[OptimizerRecipe, ...] = (
    OptimizerRecipe(name="sgd", lr=1e-2),
    OptimizerRecipe(
        name="momentum",
        lr=1e-2,
        momentum=as_paddle_rounds(MU),
        rounded=f"momentum has {as_paddle_rounds(MU):.8f} for {MU}",
    ),
    OptimizerRecipe(name="adam", lr=1e-3),
    OptimizerRecipe(
        name="adamw",
        lr=1e-3,
        weight_decay=as_paddle_rounds(WEIGHT_DECAY),
        rounded=f"adamw's weight decay is {as_paddle_rounds(WEIGHT_DECAY):.10f} for {WEIGHT_DECAY}",
    ),
)
"""The optimizers compared; betas and epsilon are the common defaults of torch.optim.Adam and paddle.optimizer.Adam."""


def schedules(steps: int) -> tuple[Schedule, ...]:
    """Return the schedules for a run of this many steps; the cosine one warms up over the first quarter."""
    warmup = max(1, steps // 4)
    cosine = Schedule(name="cosine", warmup_steps=warmup, decay_steps=max(1, steps - warmup), start_factor=0.1)
    return Schedule(name="constant"), cosine
