"""Small models in torch and their twins in Paddle, as other people name, order and fuse what is in them."""

from __future__ import annotations

import paddle
import torch

WIDTH = 6


class Plain(torch.nn.Module):
    """The reference of all pairs whose twins differ in names, fusion or settings only."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, WIDTH, 3)
        self.norm = torch.nn.BatchNorm2d(WIDTH)
        self.act = torch.nn.ReLU(inplace=True)
        self.drop = torch.nn.Dropout(0.4)
        self.fc1 = torch.nn.Linear(WIDTH, WIDTH)
        self.fc2 = torch.nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.act(self.norm(self.conv(x))))
        return self.fc2(self.act(self.fc1(x.mean((2, 3)))))


class SameNames(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, WIDTH, 3)
        self.norm = paddle.nn.BatchNorm2D(WIDTH)
        self.act = paddle.nn.ReLU()
        self.drop = paddle.nn.Dropout(0.4)
        self.fc1 = paddle.nn.Linear(WIDTH, WIDTH)
        self.fc2 = paddle.nn.Linear(WIDTH, 5)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.drop(self.act(self.norm(self.conv(x))))
        return self.fc2(self.act(self.fc1(x.mean((2, 3)))))


class OtherNames(paddle.nn.Layer):
    """Each activation is a layer of its own, and the dropout is a setting away."""

    def __init__(self, mode: str = "upscale_in_train"):
        super().__init__()
        self.stem = paddle.nn.Sequential(paddle.nn.Conv2D(3, WIDTH, 3), paddle.nn.BatchNorm2D(WIDTH), paddle.nn.ReLU())
        self.dropped = paddle.nn.Dropout(0.4, mode=mode)
        self.head = paddle.nn.Sequential(paddle.nn.Linear(WIDTH, WIDTH), paddle.nn.ReLU(), paddle.nn.Linear(WIDTH, 5))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.dropped(self.stem(x)).mean((2, 3)))


class Fused(paddle.nn.Layer):
    """Its norm holds the activation, as those of Paddle's own DenseNet do."""

    def __init__(self, epsilon: float = 1e-5, padding: int = 0):
        super().__init__()
        self.c = paddle.nn.Conv2D(3, WIDTH, 3, padding=padding)
        self.bn = paddle.nn.BatchNorm(WIDTH, act="relu", epsilon=epsilon)
        self.a = paddle.nn.Linear(WIDTH, WIDTH)
        self.b = paddle.nn.Linear(WIDTH, 5)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.b(paddle.nn.functional.relu(self.a(self.bn(self.c(x)).mean((2, 3)))))


class Longer(OtherNames):
    """It has one layer more, of its own."""

    def __init__(self):
        super().__init__()
        self.extra = paddle.nn.Linear(5, 7)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.extra(super().forward(x))[:, :5]


class NoNorm(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.c = paddle.nn.Conv2D(3, WIDTH, 3)
        self.a = paddle.nn.Linear(WIDTH, WIDTH)
        self.b = paddle.nn.Linear(WIDTH, 5)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.b(self.a(self.c(x).mean((2, 3))))


class FusedReference(torch.nn.Module):
    """Each activation is a layer of its own, as in torch's DenseNet."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, WIDTH, 3)
        self.norm = torch.nn.BatchNorm2d(WIDTH)
        self.act = torch.nn.ReLU(inplace=True)
        self.fc1 = torch.nn.Linear(WIDTH, WIDTH)
        self.fc2 = torch.nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.conv(x)))
        return self.fc2(torch.relu(self.fc1(x.mean((2, 3)))))


class FunctionalReference(FusedReference):
    """No layer shows what comes behind its norm's activation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc2(torch.relu(self.fc1(x.mean((2, 3)))))


class Branches(torch.nn.Module):
    """Two layers of one shape, which are not exchanged without a trace."""

    def __init__(self):
        super().__init__()
        self.left = torch.nn.Linear(WIDTH, WIDTH)
        self.right = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.left(x)) - self.right(x)


class CalledOtherwise(paddle.nn.Layer):
    """They are defined in the reference's order, and called in another."""

    def __init__(self):
        super().__init__()
        self.one = paddle.nn.Linear(WIDTH, WIDTH)
        self.two = paddle.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        other = self.two(x)
        return paddle.nn.functional.relu(self.one(x)) - other


class DefinedOtherwise(paddle.nn.Layer):
    """They are called in the reference's order, and defined in another."""

    def __init__(self):
        super().__init__()
        self.one = paddle.nn.Linear(WIDTH, WIDTH)
        self.two = paddle.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.nn.functional.relu(self.two(x)) - self.one(x)


class Square(torch.nn.Module):
    """A parameter of its own, whose square shape does not tell how it lies."""

    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Parameter(torch.ones(WIDTH, WIDTH))
        self.fc = torch.nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x @ self.mix)


class SquareTwin(paddle.nn.Layer):
    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.mix = self.create_parameter([WIDTH, WIDTH])
        self.fc = paddle.nn.Linear(WIDTH, 5)
        self.factor = factor

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc(x @ self.mix) * self.factor


class Tokens(torch.nn.Module):
    """Two inputs, passed by name."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, WIDTH)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.embed(ids) * scale


class TokensTwin(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.words = paddle.nn.Embedding(11, WIDTH)

    def forward(self, ids: paddle.Tensor, scale: paddle.Tensor) -> paddle.Tensor:
        return self.words(ids) * scale


class Idle(torch.nn.Module):
    """Two layers alike that no forward calls."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(WIDTH, 5)
        self.aux1 = torch.nn.Linear(WIDTH, WIDTH)
        self.aux2 = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class IdleTwin(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.out = paddle.nn.Linear(WIDTH, 5)
        self.idle1 = paddle.nn.Linear(WIDTH, WIDTH)
        self.idle2 = paddle.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.out(x)


class Indexed(torch.nn.Module):
    """A table and the places in it, as window attention has them."""

    def __init__(self, saved: bool = False):
        super().__init__()
        self.table = torch.nn.Parameter(torch.ones(7, 2))
        self.register_buffer("places", torch.arange(WIDTH) % 5, persistent=saved)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, None] * self.table[self.places]


class IndexedTwin(paddle.nn.Layer):
    def __init__(self, saved: bool = True, modulus: int = 5):
        super().__init__()
        self.bias_table = self.create_parameter((7, 2))
        self.register_buffer("index", paddle.arange(WIDTH) % modulus, persistable=saved)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x.unsqueeze(2) * paddle.gather(self.bias_table, self.index)


class Normed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(WIDTH, WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.head = torch.nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.fc(x)))


class OwnNorm(paddle.nn.Layer):
    """A norm of somebody's own, as ConvNeXts have it."""

    def __init__(self, epsilon: float):
        super().__init__()
        self.weight, self.bias = self.create_parameter([WIDTH]), self.create_parameter([WIDTH])
        self.epsilon = epsilon

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return (
            self.weight * centred / paddle.sqrt((centred * centred).mean(-1, keepdim=True) + self.epsilon) + self.bias
        )


class NormedTwin(paddle.nn.Layer):
    def __init__(self, epsilon: float = 1e-5):
        super().__init__()
        self.first = paddle.nn.Linear(WIDTH, WIDTH)
        self.scaled = OwnNorm(epsilon)
        self.last = paddle.nn.Linear(WIDTH, 5)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.last(self.scaled(self.first(x)))
