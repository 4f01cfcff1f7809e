"""The Flax probe: a module and its parameters, observed by intercepting the calls of its submodules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from align.core.point import Tapped
from align.probes.taps import Taps, as_arrays, failures_told
from convert.arrays import Array, StateDict

if TYPE_CHECKING:
    from align.core.bounds import Precision
    from align.core.lockstep import Tap
    from align.core.probe import Forward

name = "Flax"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlaxModel:
    """A Flax module and its parameters, nested by module as Flax wants them: NumPy arrays, all of one dtype."""

    module: Any
    params: dict[str, Any]


def check_framework() -> None:
    """Check nothing: only Flax goes by that name."""


def check(_model: object) -> None:
    """Check nothing: Flax models are made by this package alone."""


def parameters(model: FlaxModel) -> StateDict:
    """Return what the model really holds, by flat names, parts joined by `/`."""
    from flax.traverse_util import flatten_dict

    return dict(flatten_dict(model.params, sep="/"))


def buffers(_model: FlaxModel) -> frozenset[str]:
    """Return the names of the model's buffers: none."""
    return frozenset()


def layers(_model: FlaxModel) -> Iterator[tuple[str, Any]]:
    """Yield no layer: Flax modules hold nothing, and are made anew for each call."""
    return iter(())


def tensors(model: FlaxModel) -> Iterator[tuple[str, Array]]:
    """Yield every parameter with its name."""
    return iter(parameters(model).items())


def attributes(_model: FlaxModel) -> dict[str, str]:
    """Return what the layers keep besides parameters: nothing."""
    return {}


def modules(model: FlaxModel) -> frozenset[str]:
    """Return the path of every module that holds parameters, and of those around it; "" is the model itself."""
    return paths_of(parameters(model))


def paths_of(names: Iterable[str]) -> frozenset[str]:
    """Return the paths of the modules that parameters of these flat names lie in."""
    paths = [name.split("/")[:-1] for name in names]
    return frozenset(".".join(path[:length]) for path in paths for length in range(len(path) + 1))


def load(_model: FlaxModel, _state_dict: StateDict) -> None:
    """Load nothing: values that are not under the model's own names are ignored."""


def cast(model: FlaxModel, precision: Precision) -> None:
    """Cast the model's parameters in place."""
    import jax

    model.params.update(jax.tree.map(lambda array: array.astype(precision), model.params))


def written_out(_: FlaxModel) -> AbstractContextManager[bool]:
    """Change nothing and yield False: Flax layers are not called alone."""
    return contextlib.nullcontext(enter_result=False)


@contextlib.contextmanager
def tapped(model: FlaxModel, points: Mapping[str, Tapped]) -> Iterator[Forward]:
    """Yield a forward that shows these points while the context lasts."""
    import jax.numpy as jnp
    from flax import linen

    taps = Taps(points, _array, jnp.asarray)

    def intercept(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        path = ".".join(context.module.path)
        given, named = taps.inputs(path, args, kwargs)
        return taps.output(path, call(*given, **named))

    def run(inputs: Array, tap: Tap) -> Any:
        with taps.shown_to(tap), linen.intercept_methods(intercept):
            return forward(model, inputs)

    yield run


def forward(model: FlaxModel, inputs: Array) -> Any:
    """Return the model's output, with NumPy arrays.

    The parameters' dtype is the precision of the run; the inputs are cast to it here, because JAX would silently round
    float64 to float32. It runs operation by operation, not compiled as a whole: each point is computed as shown.

    Args:
        model: A model that takes images with channels last.
        inputs: (batch, in_chans, image_size, image_size), as the other frameworks take them.

    Raises:
        ForwardFailed: The model raises.
    """
    import jax

    dtype = jax.tree.leaves(model.params)[0].dtype
    channels_last = inputs.transpose(0, 2, 3, 1).astype(dtype)
    cpu = jax.default_device(jax.devices("cpu")[0])
    with cpu, jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"), failures_told():
        output = model.module.apply({"params": model.params}, channels_last)
        return as_arrays(output, _array)


def returned(model: FlaxModel, inputs: Array, *, gradients: bool) -> tuple[Any, Array]:
    """Return the model's output, and its input, which cannot be overwritten in JAX.

    Raises:
        ForwardFailed: The model raises.
    """
    del gradients  # JAX differentiates a function on request, and records nothing
    return forward(model, inputs), inputs


def unused(_model: FlaxModel, _inputs: Array, _names: frozenset[str]) -> list[str]:
    """Return no parameters: which of them do not affect the model's output is not known for Flax."""
    return []


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """Change nothing and yield 1: JAX fixes the number of threads when the process starts."""
    yield 1


def _array(value: Any) -> Array | None:
    """Return a copy of a JAX array; None for anything else."""
    import jax

    return np.array(value) if isinstance(value, jax.Array) else None
