"""The candidate's part of the reproduction stages, in Paddle: inference, criterion, metric and training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from align.reprod.data import Batch
from convert.arrays import Array, StateDict

if TYPE_CHECKING:
    from paddle import Tensor
    from paddle.nn import Layer


def logits(model: Layer, images: Array) -> Array:
    """Return the logits (batch, num_classes), float32."""
    import paddle

    with paddle.no_grad():
        return np.array(model(paddle.to_tensor(images)).numpy())


def accuracy(scores: Array, labels: Array, k: int) -> Array:
    """Return the top-k accuracy as a fraction, shape (1,)."""
    import paddle

    hits = paddle.metric.accuracy(paddle.to_tensor(scores), paddle.to_tensor(labels[:, None]), k=k)
    return np.array([float(hits)])


def loss(scores: Array, labels: Array) -> Array:
    """Return the mean cross-entropy, 0-d float64."""
    import paddle

    return np.array(_criterion(paddle.to_tensor(scores), labels).numpy())


def train(model: Layer, batches: Iterable[Batch], learning_rate: float) -> tuple[StateDict, StateDict]:
    """Take one SGD step per batch; return each step's loss and learning rate, and the first step's gradients.

    The model stays in evaluation mode. A parameter without a gradient is left out.
    """
    import paddle

    record: dict[str, Array] = {}
    gradients: dict[str, Array] = {}
    optimizer = paddle.optimizer.SGD(learning_rate=learning_rate, parameters=model.parameters())
    for step, (images, labels) in enumerate(batches):
        value = _criterion(model(paddle.to_tensor(images)), labels)
        record[f"loss_{step}"] = np.array(value.numpy())
        record[f"lr_{step}"] = np.array(optimizer.get_lr())
        optimizer.clear_grad()
        value.backward()
        if step == 0:
            gradients = {key: p.grad.numpy() for key, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
    return record, gradients


def _criterion(scores: Tensor, labels: Array) -> Tensor:
    """Return the mean cross-entropy of float32 logits in float64, as the reference does."""
    import paddle

    return paddle.nn.functional.cross_entropy(scores.astype("float64"), paddle.to_tensor(labels))
