"""The candidate side in training: loss, gradients and optimizer steps of the Paddle model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from align.learning.recipes import OptimizerRecipe, Schedule, Stepper
from convert.arrays import Array, StateDict

if TYPE_CHECKING:
    from paddle.nn import Layer


def backward(model: Layer, images: Array, labels: Array) -> float:
    """Return the mean cross-entropy, leaving its gradients on the model.

    Args:
        model: The Paddle model, whose dtype is the precision of the run.
        images: (batch, in_chans, image_size, image_size), of the same dtype.
        labels: Class indices (batch,), int64.
    """
    import paddle

    forget(model)
    loss = paddle.nn.functional.cross_entropy(model(paddle.to_tensor(images)), paddle.to_tensor(labels))
    loss.backward()
    return float(loss)


def gradients(model: Layer) -> Callable[[str], Array | None]:
    """Return a function from a parameter's name to a copy of its gradient, or None if it has none."""
    named = dict(model.named_parameters())

    def read(name: str) -> Array | None:
        gradient = named[name].grad if name in named else None
        return None if gradient is None else gradient.numpy()

    return read


def values(model: Layer) -> Callable[[str], Array | None]:
    """Return a function from a parameter's name to a copy of its value, or None if the model has no such parameter."""
    named = dict(model.named_parameters())
    return lambda name: named[name].numpy() if name in named else None


def forget(model: Layer) -> None:
    """Drop the model's gradients; zeroed ones would hide a gradient that is never computed."""
    for parameter in model.parameters():
        parameter.clear_gradient(set_to_zero=False)


def reset(model: Layer, state_dict: StateDict) -> None:
    """Reset the model to these values, in its own dtype and without gradients."""
    for name, parameter in model.named_parameters():
        if name in state_dict:
            parameter.set_value(state_dict[name].astype(str(parameter.dtype).rpartition(".")[2]))
    forget(model)


def optimizer(model: Layer, recipe: OptimizerRecipe, schedule: Schedule) -> Stepper:
    """Return Paddle's own optimizer over every parameter, with Paddle's own schedule."""
    from paddle import optimizer as optimizers

    lr, parameters = _learning_rate(recipe, schedule), model.parameters()
    beta1, beta2 = recipe.betas
    build: dict[str, Callable[[], Any]] = {
        "sgd": lambda: optimizers.SGD(lr, parameters),
        "momentum": lambda: optimizers.Momentum(lr, recipe.momentum, parameters),
        "adam": lambda: optimizers.Adam(lr, beta1, beta2, recipe.epsilon, parameters),
        "adamw": lambda: optimizers.AdamW(
            lr, beta1, beta2, recipe.epsilon, parameters, weight_decay=recipe.weight_decay
        ),
    }
    return stepper(build[recipe.name]())


def stepper(chosen: Any) -> Stepper:
    """Return a function that takes one step of a Paddle optimizer and its schedule, and returns the learning rate."""

    def step() -> float:
        lr = float(chosen.get_lr())
        chosen.step()
        if hasattr(chosen._learning_rate, "step"):
            chosen._learning_rate.step()
        return lr

    return step


def _learning_rate(recipe: OptimizerRecipe, schedule: Schedule) -> Any:
    if schedule.name == "constant":
        return recipe.lr
    from paddle.optimizer.lr import CosineAnnealingDecay, LinearWarmup

    cosine = CosineAnnealingDecay(recipe.lr, schedule.decay_steps)
    return LinearWarmup(cosine, schedule.warmup_steps, schedule.start_factor * recipe.lr, recipe.lr)
