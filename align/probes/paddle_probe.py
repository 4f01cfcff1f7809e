"""The Paddle probe: any layer, observed through its own hooks and, on request, given other values at them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from align.core.inputs import apart
from align.core.point import Tapped
from align.probes import lending
from align.probes.attributes import attributes_of
from align.probes.held import PADDLE, layers_of, tensors_of, twin_of
from align.probes.knobs import compute_quickly, importing_frameworks
from align.probes.taps import Taps, after_call, as_arrays, called, deep_copy, failures_told, leaves
from align.probes.turn import threads
from convert.arrays import Array, StateDict, contiguous
from convert.errors import BadInput

if TYPE_CHECKING:
    from types import ModuleType

    from paddle import Tensor
    from paddle.nn import Layer

    from align.core.bounds import Precision
    from align.core.probe import Forward

name = "Paddle"


def imported() -> ModuleType:
    """Return Paddle, imported and set up: on the CPU, with a thread per core unless set otherwise."""
    compute_quickly()
    with importing_frameworks():
        import paddle
    paddle.device.set_device("cpu")
    paddle.base.core.set_num_threads(threads())  # eager matrix products run on one thread otherwise
    return paddle


@contextlib.contextmanager
def device_kept() -> Iterator[None]:
    """Run the body and restore Paddle's device on exit: a caller's own models go on where they were."""
    compute_quickly()
    with importing_frameworks():
        import paddle
    before = paddle.device.get_device()
    try:
        yield
    finally:
        paddle.device.set_device(before)


def check_framework() -> None:
    """Check nothing: only Paddle goes by that name."""


def check(model: object, name: str = "the candidate") -> None:
    """Check that a model is a Paddle layer that can be compared: in dynamic mode, with float32 values.

    Args:
        model: Any object.
        name: What an error calls it.

    Raises:
        BadInput: It is not.
    """
    import paddle

    if not isinstance(model, paddle.nn.Layer):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise BadInput(f"{name}: it is no paddle.nn.Layer, but {kind}. Pass a model of Paddle's.")
    if not paddle.in_dynamic_mode():
        raise BadInput(f"{name}: Paddle is in its static mode. Call paddle.disable_static() first.")
    for key, parameter in model.named_parameters():
        if not parameter._is_initialized():
            raise BadInput(f"{name}: {key} has no value yet, as under LazyGuard. Initialise it, or load weights.")
        if parameter.is_floating_point() and parameter.dtype != paddle.float32:
            dtype = str(parameter.dtype).removeprefix("paddle.")
            raise BadInput(f"{name}: {key} is {dtype}; it is compared in float32. Call its to(dtype='float32') first.")


def copied(model: Layer, weights: StateDict | None = None) -> Layer:
    """Return a copy of the model, unchanged except for the given weights, if any.

    Raises:
        BadInput: It cannot be copied.
    """
    imported()
    duplicate: Layer = deep_copy(model)
    load(duplicate, weights or {})
    return duplicate


@contextlib.contextmanager
def lent(model: Layer, weights: StateDict | None = None) -> Iterator[Layer]:
    """Yield a user's model with copies as its values, or with these weights; restore it on exit."""
    paddle = imported()
    with lending.lent(model, PADDLE, lambda value: isinstance(value, paddle.Tensor), _rebound):
        load(model, weights or {})
        yield model


def parameters(model: Layer) -> StateDict:
    """Return a copy of what the model holds, by name: parameters, and buffers that are saved with them."""
    return {key: tensor.numpy() for key, tensor in tensors_of(model, PADDLE, saved_only=True)}


def buffers(model: Layer) -> frozenset[str]:
    """Return the names of the model's buffers."""
    return frozenset(key for key, _ in model.named_buffers())


def layers(model: Layer) -> Iterator[tuple[str, Layer]]:
    """Yield every layer with its path, "" for the model itself."""
    return layers_of(model, PADDLE)


def tensors(model: Layer) -> Iterator[tuple[str, Array]]:
    """Yield every parameter and buffer with its name, unsaved ones included, in the model's own memory."""
    return ((key, _view(tensor)) for key, tensor in tensors_of(model, PADDLE, saved_only=False))


def attributes(model: Layer) -> dict[str, str]:
    """Return what the layers keep besides parameters and buffers, as text that changes with the values."""
    known = frozenset(id(tensor) for _, tensor in tensors_of(model, PADDLE, saved_only=False))
    return attributes_of(layers(model), _array, known)


def modules(model: Layer) -> frozenset[str]:
    """Return the path of every module; "" is the model itself."""
    return frozenset(path for path, _ in model.named_sublayers(include_self=True))


def load(model: Layer, state_dict: StateDict) -> None:
    """Load these values into the model, each cast to the dtype it has there; other names and shapes are ignored."""
    import paddle

    own = dict(tensors_of(model, PADDLE, saved_only=True))
    for key, array in state_dict.items():
        if key in own and list(own[key].shape) == list(array.shape):
            own[key].set_value(paddle.to_tensor(contiguous(array)).astype(own[key].dtype))


def cast(model: Layer, precision: Precision) -> None:
    """Cast the model in place, except for buffers that are not floating-point, which `Layer.to` casts too."""
    whole = [
        (layer, key, buffer.clone())
        for layer in model.sublayers(include_self=True)
        for key, buffer in layer._buffers.items()
        if buffer is not None and not buffer.is_floating_point()
    ]
    model.to(dtype=precision)
    for layer, key, buffer in whole:
        layer._buffers[key] = buffer


def written_out(_: Layer) -> AbstractContextManager[bool]:
    """Change nothing and yield False: Paddle's own norms round in every precision."""
    return contextlib.nullcontext(enter_result=False)


@contextlib.contextmanager
def tapped(model: Layer, points: Mapping[str, Tapped]) -> Iterator[Forward]:
    """Yield a forward that shows these points while the context lasts.

    Nothing runs as a static program meanwhile: what `paddle.jit.to_static` made of a layer calls no hooks.
    """
    import paddle
    from paddle.jit.dy2static.program_translator import ProgramTranslator

    taps, translator = Taps(points, _array, paddle.to_tensor), ProgramTranslator()
    was_on = translator.enable_to_static
    translator.enable(False)
    try:
        named = model.named_sublayers(include_self=True)
        apart = lambda inputs: forward(twin_of(model, PADDLE), inputs)  # noqa: E731
        with taps.on(named, "register_forward_post_hook", apart) as run:
            yield run
    finally:
        translator.enable(was_on)


def forward(model: Layer, inputs: Array) -> Any:
    """Return the model's output, with NumPy arrays.

    Raises:
        ForwardFailed: The model raises.
    """
    return returned(model, inputs, gradients=False)[0]


def returned(model: Layer, inputs: Array, *, gradients: bool) -> tuple[Any, Array]:
    """Return the model's output, with gradients recorded or not, and its input as it is after the call.

    Raises:
        ForwardFailed: The model raises.
    """
    import paddle

    given = _given(inputs)
    with paddle.enable_grad() if gradients else paddle.no_grad(), failures_told():
        output = called(model, given)
    return as_arrays(output, _array), after_call(given, lambda tensor: tensor.numpy())


def unused(model: Layer, inputs: Array, names: frozenset[str]) -> list[str]:
    """Return those of these parameters that do not affect the model's output: their gradient is None or zero."""
    import paddle

    named = {key: parameter for key, parameter in model.named_parameters() if key in names}
    frozen = [parameter for parameter in named.values() if parameter.stop_gradient]
    for parameter in frozen:
        parameter.stop_gradient = False
    try:
        with paddle.enable_grad(), failures_told():
            output = called(model, _given(inputs))
            floats = [one for one in leaves(output) if isinstance(one, paddle.Tensor) and one.is_floating_point()]
            total = sum((tensor.square().sum() for tensor in floats), start=paddle.zeros([]))
            if not named or total.stop_gradient:
                return _without_effect(model, inputs, named)
            gradients = paddle.grad(total, [*named.values()], allow_unused=True)
    finally:
        for parameter in frozen:
            parameter.stop_gradient = True
    return [key for key, grad in zip(named, gradients, strict=True) if grad is None or not grad.abs().max() > 0]


def _without_effect(model: Layer, inputs: Array, named: Mapping[str, Tensor]) -> list[str]:
    """Return the parameters that change no bit of the output, for a model through which no gradient flows."""
    import paddle

    def returned() -> list[bytes]:
        return [one.tobytes() for one in leaves(forward(model, inputs)) if isinstance(one, np.ndarray)]

    before, idle = returned(), []
    with paddle.no_grad():
        for key, parameter in named.items():
            kept = parameter.clone()
            parameter.set_value(parameter * 1.5 + 0.25)
            if returned() == before:
                idle.append(key)
            parameter.set_value(kept)
    return idle


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """Run the body on a single thread; yield how many threads there are otherwise."""
    import paddle

    paddle.base.core.set_num_threads(1)
    try:
        yield threads()
    finally:
        paddle.base.core.set_num_threads(threads())


def _rebound(tensor: Tensor) -> Callable[[], object]:
    """Give a tensor and its gradient copies of their values; return a function that restores their own memory."""
    import paddle

    found = [one for one in (tensor, tensor.grad) if one is not None and one._is_initialized()]
    own = [paddle.empty([0], one.dtype) for one in found]
    for one, memory in zip(found, own, strict=True):
        memory.get_tensor()._share_data_with(one.get_tensor())
        duplicate = memory.clone()  # named, because get_tensor() does not keep it alive
        one.get_tensor()._share_data_with(duplicate.get_tensor())

    def restore() -> None:
        for one, memory in zip(found, own, strict=True):
            one.get_tensor()._share_data_with(memory.get_tensor())

    return restore


def _view(tensor: Tensor) -> Array:
    """Return a tensor's own memory; a copy if NumPy does not know its dtype."""
    try:
        return np.from_dlpack(tensor.detach())
    except (BufferError, RuntimeError, TypeError, ValueError):
        return tensor.numpy()


def _given(inputs: Array) -> dict[str, Tensor]:
    import paddle

    return {name: paddle.to_tensor(array) for name, array in apart(inputs).items()}


def _array(value: Any) -> Array | None:
    """Return a copy of a tensor; None for anything else."""
    import paddle

    array: Array | None = value.numpy() if isinstance(value, paddle.Tensor) else None
    return array
