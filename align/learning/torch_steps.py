"""The reference side in training: loss, gradients and optimizer steps of the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from align.learning.recipes import OptimizerRecipe, Schedule, Stepper
from convert.arrays import Array, StateDict

if TYPE_CHECKING:
    import torch
    from torch import nn


def backward(model: nn.Module, images: Array, labels: Array) -> float:
    """Return the mean cross-entropy, leaving its gradients on the model.

    Args:
        model: The reference, whose dtype is the precision of the run.
        images: (batch, in_chans, image_size, image_size), of the same dtype.
        labels: Class indices (batch,), int64.
    """
    import torch

    forget(model)
    loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels))
    loss.backward()  # type: ignore[no-untyped-call]  # torch 2.14.1 leaves it without annotations
    return float(loss.detach())


def gradients(model: nn.Module) -> Callable[[str], Array | None]:
    """Return a function from a parameter's name to its gradient, sharing its memory, or None if it has none."""
    named = dict(model.named_parameters())

    def read(name: str) -> Array | None:
        gradient = named[name].grad if name in named else None
        return None if gradient is None else gradient.numpy()

    return read


def values(model: nn.Module) -> Callable[[str], Array | None]:
    """Return a function from a parameter's name to its value, sharing its memory, or None if there is no such one."""
    named = dict(model.named_parameters())
    return lambda name: named[name].detach().numpy() if name in named else None


def forget(model: nn.Module) -> None:
    """Drop the model's gradients."""
    model.zero_grad(set_to_none=True)


def reset(model: nn.Module, state_dict: StateDict) -> None:
    """Reset the model to these values, in its own dtype and without gradients."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(state_dict[name].copy()))
    forget(model)


def optimizer(model: nn.Module, recipe: OptimizerRecipe, schedule: Schedule) -> Stepper:
    """Return torch's own optimizer over every parameter, with torch's own schedule."""
    import torch

    parameters = list(model.parameters())
    build: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(parameters, recipe.lr),
        "momentum": lambda: torch.optim.SGD(parameters, recipe.lr, momentum=recipe.momentum),
        "adam": lambda: torch.optim.Adam(parameters, recipe.lr, recipe.betas, recipe.epsilon),
        "adamw": lambda: torch.optim.AdamW(
            parameters, recipe.lr, recipe.betas, recipe.epsilon, weight_decay=recipe.weight_decay
        ),
    }
    chosen = build[recipe.name]()
    scheduler = _scheduler(chosen, schedule)

    def step() -> float:
        lr = float(chosen.param_groups[0]["lr"])
        chosen.step()
        if scheduler is not None:
            scheduler.step()
        return lr

    return step


def _scheduler(chosen: torch.optim.Optimizer, schedule: Schedule) -> torch.optim.lr_scheduler.LRScheduler | None:
    if schedule.name == "constant":
        return None
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

    warm_up = LinearLR(chosen, start_factor=schedule.start_factor, total_iters=schedule.warmup_steps)
    cosine = CosineAnnealingLR(chosen, T_max=schedule.decay_steps)
    return SequentialLR(chosen, [warm_up, cosine], milestones=[schedule.warmup_steps])
