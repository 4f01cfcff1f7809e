"""The candidate side: the Paddle model, observed at the same points and, on request, given other values there."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from align.probes.knobs import compute_quickly, importing_frameworks
from convert.arrays import Array, StateDict
from convert.mixer.variants import MixerConfig

if TYPE_CHECKING:
    from paddle import Tensor

    from convert.mixer.paddle_mixer import MlpMixer

Tap = Callable[[str, Array], "Array | None"]
"""Is shown each point's value; the forward goes on with what it returns, or unchanged for None."""

THREADS = os.cpu_count() or 1


def build(config: MixerConfig, state_dict: StateDict) -> MlpMixer:
    """Return the Paddle model with these weights, in evaluation mode.

    Args:
        config: Sizes, epsilon and GELU.
        state_dict: Paddle's layout, every parameter present and of its shape, float32.
    """
    compute_quickly()
    with importing_frameworks():
        import paddle

        from convert.mixer import paddle_mixer
    paddle.device.set_device("cpu")
    paddle.base.core.set_num_threads(THREADS)  # eager matrix products run on one thread otherwise
    return paddle_mixer.build(config, state_dict)


def copy_of(model: MlpMixer) -> MlpMixer:
    """Return an independent copy in evaluation mode, with whatever was changed in the model."""
    duplicate = copy.deepcopy(model)
    duplicate.eval()
    return duplicate


def cast(model: MlpMixer, dtype: Literal["float32", "float64"]) -> None:
    """Cast the model's parameters in place."""
    model.to(dtype=dtype)


def parameters(model: MlpMixer) -> StateDict:
    """Return what the model really holds."""
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """Compute on a single thread for a while, and say how many there are otherwise."""
    import paddle

    paddle.base.core.set_num_threads(1)
    try:
        yield THREADS
    finally:
        paddle.base.core.set_num_threads(THREADS)


def forward(model: MlpMixer, images: Array, tap: Tap) -> None:
    """Run the model on images (batch, in_chans, image_size, image_size) and show each named point to the tap."""
    import paddle

    def show(name: str, value: Tensor) -> Tensor:
        replacement = tap(name, value.numpy())
        return value if replacement is None else paddle.to_tensor(replacement)

    with paddle.no_grad():
        model(paddle.to_tensor(images), show)
