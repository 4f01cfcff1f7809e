"""Load all weights into a Paddle model, or raise an error; Paddle by itself only returns what it left out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from convert.errors import UsageProblem

REFUSED = "Skip loading"
"""Beginning of the warning about a wrong shape. Source: paddlepaddle 3.1.1 and 3.3.1, paddle/nn/layer/layers.py."""


class NotLoaded(UsageProblem):
    """Paddle left parameters of a model unloaded (exit 2), as 3.0.0 does under LazyGuard."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"Paddle did not load the model's weights ({why}). Run: pip install --upgrade paddlepaddle.")


def load_into(model: Any, tensors: Mapping[str, Any]) -> None:
    """Load a Paddle model's parameters and buffers.

    Args:
        model: A `paddle.nn.Layer`.
        tensors: Each parameter and buffer by its key, and nothing else.

    Raises:
        NotLoaded: One is missing, unexpected or of another shape.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        missing, unexpected = model.set_state_dict(tensors)
    refused = [str(one.message) for one in told if str(one.message).startswith(REFUSED)]
    named = (("missing", missing), ("unexpected", unexpected))
    parts = [f"{len(keys)} {what}, such as {keys[0]}" for what, keys in named if keys]
    if refused or parts:
        raise NotLoaded("; ".join([*parts, *refused]))
