"""A Paddle model in training: one step at a time, gradients summed over micro-batches and processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from align.mixer.models import build_paddle
from align.probes import paddle_probe
from convert.arrays import Array, StateDict
from convert.checks.loading import NotLoaded, load_into
from convert.errors import BadInput, MixerConvertError
from convert.mixer.variants import MixerConfig
from reports.score.devices import move_to
from reports.score.parallel import Group
from reports.train.recipes import Recipe

if TYPE_CHECKING:
    from paddle import Tensor
    from paddle.optimizer import Optimizer

WEIGHT, STATE = "model|", "optimizer|"
"""Prefixes of a checkpoint's tensors; in `optimizer|<parameter>|<what>` the model's names of the parameters replace
Paddle's own, which differ from process to process."""


class Diverged(MixerConvertError):
    """The loss is not finite (exit 1): training has failed."""

    exit_code = 1

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"step {step}: the loss is {loss}, training diverged. Take a lower learning rate.")


class Trainer:
    """A model and its optimizer, which stay the same in every process of a group.

    Args:
        config: Sizes and GELU; as many classes as there are labels.
        state_dict: The weights to start from, in Paddle's layout, float32.
        recipe: Optimizer, clipping, label smoothing, micro-batches.
        device: `cpu`, `gpu` or `gpu:N`; on a GPU that supports it matrix products run in bfloat16.
        threads: Threads for the CPU's matrix products.
        group: The processes that share each batch.

    Raises:
        UsageProblem: There is no such device.
    """

    def __init__(
        self, config: MixerConfig, state_dict: StateDict, recipe: Recipe, *, device: str, threads: int, group: Group
    ) -> None:
        self.model = build_paddle(config, state_dict)
        import paddle

        paddle.base.core.set_num_threads(threads)
        move_to(device, self.model)
        self.model.train()
        self.recipe, self.group = recipe, group
        self.amp = device != "cpu" and bool(paddle.amp.is_bfloat16_supported())
        self.names = {parameter.name: name for name, parameter in self.model.named_parameters()}
        self.optimizer = self._optimizer()

    def _optimizer(self) -> Optimizer:
        import paddle

        recipe, parameters = self.recipe, self.model.parameters()
        weights = {parameter.name for parameter in parameters if parameter.ndim > 1}
        clip = paddle.nn.ClipGradByGlobalNorm(recipe.clip_norm) if recipe.clip_norm else None
        shared: dict[str, Any] = {"parameters": parameters, "grad_clip": clip}
        optimizers: dict[str, Callable[[], Optimizer]] = {
            "adam": lambda: paddle.optimizer.Adam(recipe.learning_rate, **shared),
            "adamw": lambda: paddle.optimizer.AdamW(
                recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                apply_decay_param_fun=weights.__contains__,
                **shared,
            ),
            "sgd": lambda: paddle.optimizer.Momentum(recipe.learning_rate, recipe.momentum, **shared),
        }
        return optimizers[recipe.optimizer]()

    def step(self, images: Array, labels: Array, rate: float, count: int) -> tuple[float, int]:
        """Take one optimizer step, if the loss is finite; return the batch's mean loss, float64, and the number right.

        Args:
            images: This process's share of the batch, (n, in_chans, image_size, image_size) float32.
            labels: (n,) int64.
            rate: The learning rate.
            count: How many images the whole batch has.
        """
        import paddle

        total, right = 0.0, 0
        for start in range(0, len(labels), self.recipe.micro_batch):
            part = slice(start, start + self.recipe.micro_batch)
            with paddle.amp.auto_cast(enable=self.amp, dtype="bfloat16"):
                logits = self.model(paddle.to_tensor(images[part]))
            losses = self._losses(logits, labels[part])
            (losses.sum() / count).backward()
            total += float(losses.numpy().astype(np.float64).sum())
            right += int((logits.numpy().argmax(axis=1) == labels[part]).sum())
        if self.group.processes > 1:
            for parameter in self.model.parameters():
                paddle.distributed.all_reduce(parameter.grad)  # type: ignore[arg-type]  # set by backward
        total, right = self.group.sum_of(np.array([total, right]))
        if np.isfinite(total):
            self.optimizer.set_lr(rate)
            self.optimizer.step()
        self.optimizer.clear_grad()
        return float(total) / count, int(right)

    def _losses(self, logits: Tensor, labels: Array) -> Tensor:
        import paddle

        return paddle.nn.functional.cross_entropy(
            logits.astype("float32"),
            paddle.to_tensor(labels),
            reduction="none",
            label_smoothing=self.recipe.label_smoothing,
        )

    def weights(self) -> StateDict:
        """Return the model's weights, float32."""
        return paddle_probe.parameters(self.model)

    def tensors(self) -> StateDict:
        """Return all that the next step depends on, except the step's number."""
        kept = {WEIGHT + name: array for name, array in self.weights().items()}
        for key, value in self.optimizer.state_dict().items():
            if hasattr(value, "numpy"):
                parameter = max((name for name in self.names if key.startswith(f"{name}_")), key=len)
                kept[f"{STATE}{self.names[parameter]}|{key[len(parameter) + 1 :]}"] = np.asarray(value.numpy())
        return kept

    def restore(self, tensors: StateDict, whose: str) -> None:
        """Restore the state that `tensors` returned in another process; whose names it in errors.

        Raises:
            BadInput: The tensors are another model's.
        """
        import paddle

        weights = {
            key.removeprefix(WEIGHT): paddle.to_tensor(tensors[key]) for key in tensors if key.startswith(WEIGHT)
        }
        try:
            load_into(self.model, weights)
        except NotLoaded as error:
            raise BadInput(f"{whose}: it is another model's ({error.why}). Take another --out.") from error
        paddle_names = {name: parameter for parameter, name in self.names.items()}
        state = {}
        for key in tensors:
            if key.startswith(STATE):
                parameter, what = key.removeprefix(STATE).split("|")
                state[f"{paddle_names[parameter]}_{what}"] = paddle.to_tensor(tensors[key])
        self.optimizer.set_state_dict(state)
