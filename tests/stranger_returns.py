"""Models that return more than one tensor, as other people nest them; a twin may be wrong behind the first."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import Any

import paddle
import torch

Two = namedtuple("Two", ["a", "b"])


@dataclasses.dataclass
class Both:
    a: Any
    b: Any


class Opaque:
    def __init__(self, value: Any):
        self.value = value


def put_out(how: str, y: Any, times: int) -> Any:
    """Return what a model made, in the form of this name; times: 3 where it is right."""
    z = y * times
    return {
        "list in a dict": lambda: {"a": y, "b": [y * 2, z]},
        "list in a list": lambda: [[y, z], y * 3],
        "dict in a tuple": lambda: (y, {"z": z}, None),
        "dataclass": lambda: Both(y, Both(y * 2, z)),
        "named tuple in a tuple": lambda: (y, Two(y * 2, z)),
        "the last": lambda: (y, z),
        "places": lambda: (y, y.argmax(1) + times),
        "truth values": lambda: {"y": y, "inside": [y * (times - 2) > 0]},
        "a number": lambda: (y, times),
        "a text": lambda: (y, f"{times} classes"),
        "one fewer": lambda: (y, y * 2) if times == 3 else (y,),
        "one more": lambda: (y,) if times == 3 else (y, y * 2),
        "places fewer": lambda: (y, y.argmax(1)) if times == 3 else (y,),
        "another shape": lambda: (y, y * 2) if times == 3 else (y, (y * 2).reshape([-1])),
        "an object": lambda: (y, Opaque(z)),
    }[how]()


class Reference(torch.nn.Module):
    def __init__(self, how: str):
        super().__init__()
        self.fc, self.how = torch.nn.Linear(6, 5), how

    def forward(self, x: torch.Tensor) -> Any:
        return put_out(self.how, self.fc(x), 3)


class Candidate(paddle.nn.Layer):
    def __init__(self, how: str, times: int = 3):
        super().__init__()
        self.fc, self.how, self.times = paddle.nn.Linear(6, 5), how, times

    def forward(self, x: paddle.Tensor) -> Any:
        return put_out(self.how, self.fc(x), self.times)
