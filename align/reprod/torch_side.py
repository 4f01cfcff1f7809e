"""The reference's part of the reproduction stages, in torch: inference, criterion, metric and training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from align.reprod.data import Batch
from convert.arrays import Array, StateDict

if TYPE_CHECKING:
    from torch import Tensor, nn


def logits(model: nn.Module, images: Array) -> Array:
    """Return the logits (batch, num_classes), float32."""
    import torch

    with torch.inference_mode():
        return np.array(model(torch.from_numpy(images)).numpy())


def accuracy(scores: Array, labels: Array, k: int) -> Array:
    """Return the top-k accuracy as a fraction, shape (1,)."""
    import torch

    found = torch.topk(torch.from_numpy(scores), k).indices == torch.from_numpy(labels)[:, None]
    return np.array([found.any(dim=1).double().mean().item()])


def loss(scores: Array, labels: Array) -> Array:
    """Return the mean cross-entropy, 0-d float64."""
    import torch

    return np.array(_criterion(torch.from_numpy(scores), labels).numpy())


def train(model: nn.Module, batches: Iterable[Batch], learning_rate: float) -> tuple[StateDict, StateDict]:
    """Take one SGD step per batch; return each step's loss and learning rate, and the first step's gradients.

    The model stays in evaluation mode. A parameter without a gradient is left out.
    """
    import torch

    record: dict[str, Array] = {}
    gradients: dict[str, Array] = {}
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for step, (images, labels) in enumerate(batches):
        value = _criterion(model(torch.from_numpy(images)), labels)
        record[f"loss_{step}"] = np.array(value.detach().numpy())
        record[f"lr_{step}"] = np.array(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            gradients = {key: np.array(p.grad.numpy()) for key, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
    return record, gradients


def _criterion(scores: Tensor, labels: Array) -> Tensor:
    """Return the mean cross-entropy of float32 logits in float64.

    In float32 a loss of 10, as 21,843 classes start from, has steps of 9.5e-7: the bound itself.
    """
    import torch

    return torch.nn.functional.cross_entropy(scores.double(), torch.from_numpy(labels))
