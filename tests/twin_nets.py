"""A small network in PyTorch and its twin in Paddle, and the ways in which a twin can be another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from align.core.inputs import Input

WIDTH, CLASSES, SIZE = 6, 6, 12
IMAGE = (Input(shape=(3, SIZE, SIZE)),)
IDS = (
    Input(name="ids", shape=(5,), dtype="int64", between=(0, 11)),
    Input(name="scale", shape=(WIDTH,), between=(0.5, 2.0)),
)


def in_torch() -> Any:
    """Return a convolution, a residual block that is called twice, pooling, and two square Linear layers."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.act = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.act(x + self.bn(self.conv(x)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.pool = nn.Conv2d(3, WIDTH, 3, padding=1), nn.MaxPool2d(2)
            self.block, self.again = Block(), Block()
            self.drop, self.fc1, self.act, self.fc2 = (
                nn.Dropout(0.3),
                nn.Linear(WIDTH, WIDTH),
                nn.GELU(),
                nn.Linear(WIDTH, CLASSES),
            )
            self.norm = nn.LayerNorm(WIDTH)

        def forward(self, x: Any) -> Any:
            x = self.again(self.block(self.pool(self.stem(x))))
            return self.fc2(self.act(self.fc1(self.drop(self.norm(x.mean((2, 3)))))))

    return Net()


def in_paddle(**different: Any) -> Any:
    """Return the same; different says what is not: epsilon, padding, stride, dropout, names, skip, unused, head."""
    from paddle import nn

    padding, mode = different.get("padding", 1), different.get("padding_mode", "zeros")

    class Block(nn.Layer):
        def __init__(self, epsilon: float = 1e-5) -> None:
            super().__init__()
            self.conv = nn.Conv2D(WIDTH, WIDTH, 3, padding=padding, padding_mode=mode)
            self.bn, self.act = nn.BatchNorm2D(WIDTH, epsilon=epsilon), nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.act((0 if different.get("skip") else x) + self.bn(self.conv(x)))

    class Net(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2D(3, WIDTH, 3, padding=1)
            self.pool = nn.MaxPool2D(2, stride=different.get("stride", 2))
            self.block, self.again = Block(different.get("epsilon", 1e-5)), Block()
            self.drop = nn.Dropout(different.get("p", 0.3), mode=different.get("mode", "upscale_in_train"))
            self.fc1, self.act = nn.Linear(WIDTH, WIDTH), nn.GELU(approximate=different.get("approximate", False))
            setattr(self, different.get("head", "fc2"), nn.Linear(WIDTH, CLASSES))
            self.norm = nn.LayerNorm(WIDTH)
            if different.get("unused"):
                self.extra = nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            x = self.block(self.pool(self.stem(x)))
            x = x if different.get("missing") else self.again(x)
            x = self.act(self.fc1(self.drop(self.norm(x.mean((2, 3))))))
            return getattr(self, different.get("head", "fc2"))(x)

    layer = Net()
    layer.eval()
    return layer


def of_tokens_in_torch() -> Any:
    """Return a model of two inputs that are passed by name, one of them whole numbers."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.fc = torch.nn.Embedding(11, WIDTH), torch.nn.Linear(WIDTH, WIDTH)

        def forward(self, ids: Any, scale: Any) -> dict[str, Any]:
            return {"pooled": self.fc(self.embed(ids).mean(1) * scale)}

    return Net()


def of_tokens_in_paddle(wrong: bool = False) -> Any:
    """Return the same; wrong: the second input has no part in it."""
    import paddle

    class Net(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.fc = paddle.nn.Embedding(11, WIDTH), paddle.nn.Linear(WIDTH, WIDTH)

        def forward(self, ids: Any, scale: Any) -> dict[str, Any]:
            return {"pooled": self.fc(self.embed(ids).mean(1) * (1 if wrong else scale))}

    layer = Net()
    layer.eval()
    return layer


def _swapped(layer: Any) -> None:
    one, other = layer.block.conv.weight, layer.again.conv.weight
    kept = one.numpy()
    one.set_value(other.numpy())
    other.set_value(kept)


def _transposed(layer: Any) -> None:
    layer.fc1.weight.set_value(np.ascontiguousarray(layer.fc1.weight.numpy().T))


def _bit(layer: Any) -> None:
    weight = layer.again.conv.weight.numpy()
    weight.view(np.uint32).flat[7] ^= 1
    layer.again.conv.weight.set_value(weight)


def _variance(layer: Any) -> None:
    layer.block.bn._variance.set_value(layer.block.bn._variance.numpy() * np.float32(1.01))


def _sign(layer: Any) -> None:
    layer.fc2.bias.set_value(-layer.fc2.bias.numpy())


WRONG_WEIGHTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "two weights swapped": (_swapped, "block.conv"),
    "a square Linear not transposed": (_transposed, "fc1"),
    "the lowest bit of one weight": (_bit, "again.conv"),
    "a running variance": (_variance, "block.bn"),
    "a bias's sign": (_sign, "fc2"),
}
"""What is done to a right twin's weights, and where it shows first."""
