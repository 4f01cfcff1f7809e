"""The torch probe: any module, observed through its own hooks."""

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
from align.probes.held import TORCH, layers_of, tensors_of, twin_of
from align.probes.knobs import importing_frameworks
from align.probes.taps import Taps, after_call, as_arrays, called, deep_copy, failures_told, leaves
from align.probes.turn import is_forked, threads
from convert.arrays import Array, StateDict
from convert.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from align.core.bounds import Precision
    from align.core.probe import Forward

name = "torch"
ROUNDED = ("LayerNorm", "_BatchNorm", "_InstanceNorm")
"""The classes whose Paddle counterparts round epsilon to float32 even in float64; its GroupNorm does not (3.3.1)."""


def parameters(model: Module) -> StateDict:
    """Return a copy of what the model holds, by name: parameters, and buffers that are saved with them."""
    return {key: np.array(tensor.detach().numpy()) for key, tensor in tensors_of(model, TORCH, saved_only=True)}


def buffers(model: Module) -> frozenset[str]:
    """Return the names of the model's buffers."""
    return frozenset(key for key, _ in model.named_buffers())


def layers(model: Module) -> Iterator[tuple[str, Module]]:
    """Yield every layer with its path, "" for the model itself."""
    return layers_of(model, TORCH)


def tensors(model: Module) -> Iterator[tuple[str, Array]]:
    """Yield every parameter and buffer with its name, unsaved ones included, in the model's own memory."""
    return ((key, tensor.detach().numpy()) for key, tensor in tensors_of(model, TORCH, saved_only=False))


def attributes(model: Module) -> dict[str, str]:
    """Return what the layers keep besides parameters and buffers, as text that changes with the values."""
    known = frozenset(id(tensor) for _, tensor in tensors_of(model, TORCH, saved_only=False))
    return attributes_of(layers(model), _array, known)


def modules(model: Module) -> frozenset[str]:
    """Return the path of every module; "" is the model itself."""
    return frozenset(path for path, _ in model.named_modules())


def copied(model: Module, weights: StateDict | None = None) -> Module:
    """Return a copy of the model, unchanged except for the given weights, if any.

    Raises:
        BadInput: It cannot be copied.
    """
    duplicate: Module = deep_copy(model)
    load(duplicate, weights or {})
    return duplicate


@contextlib.contextmanager
def lent(model: Module, weights: StateDict | None = None) -> Iterator[Module]:
    """Yield a user's model in evaluation mode, with copies as its values or with these weights.

    It is restored on exit.
    """
    import torch

    with lending.lent(model, TORCH, lambda value: isinstance(value, torch.Tensor), _rebound):
        for _, module in layers(model):
            module.training = False
        load(model, weights or {})
        yield model


def check_values(model: Module) -> None:
    """Check that a user's model is not wrapped, and holds float32 values on the CPU.

    Raises:
        BadInput: It is wrapped, or does not hold such values.
    """
    kind, children = type(model).__name__, [name for name, _ in model.named_children()]
    if children in (["module"], ["_orig_mod"]):
        raise BadInput(f"{kind}: it wraps the model. Pass that: its .{children[0]}.")
    for key, parameter in model.named_parameters():
        dtype = str(parameter.dtype).removeprefix("torch.")
        if parameter.device.type != "cpu":
            raise BadInput(f"{kind}: {key} is on {parameter.device}; it is compared on the CPU. Move it there first.")
        if parameter.is_floating_point() and dtype != "float32":
            raise BadInput(f"{kind}: {key} is {dtype}; it is compared in float32. Call its float() first.")


def load(model: Module, state_dict: StateDict) -> None:
    """Load these values into the model, each cast to the dtype it has there; other names and shapes are ignored."""
    import torch

    with torch.no_grad():
        for key, tensor in tensors_of(model, TORCH, saved_only=True):
            array = state_dict.get(key)
            if array is not None and tuple(tensor.shape) == array.shape:
                tensor.copy_(torch.from_numpy(array if array.flags.writeable else array.copy()))


def cast(model: Module, precision: Precision) -> None:
    """Cast the model in place, and round each norm's epsilon to float32.

    In float32 torch itself rounds it; without this, float64 would be another function than the model in use.
    """
    import torch

    model.to(dtype=getattr(torch, precision))
    for norm in _rounded(model):
        norm.eps = float(np.float32(norm.eps))


@contextlib.contextmanager
def written_out(model: Module) -> Iterator[bool]:
    """Run the body with norms' unrounded epsilon: the shortest decimal that rounds to the one they have.

    Yields whether there are any such norms.
    """
    norms = {norm: norm.eps for norm in _rounded(model)}
    for norm, rounded in norms.items():
        norm.eps = float(str(np.float32(rounded)))
    try:
        yield bool(norms)
    finally:
        for norm, rounded in norms.items():
            norm.eps = rounded


def _rounded(model: Module) -> list[Any]:
    return [module for module in model.modules() if {kind.__name__ for kind in type(module).__mro__} & {*ROUNDED}]


def tapped(model: Module, points: Mapping[str, Tapped]) -> AbstractContextManager[Forward]:
    """Return a context that yields a forward that shows these points while it lasts."""
    import torch

    taps = Taps(points, _array, lambda array: torch.from_numpy(array.copy()))
    apart = lambda inputs: forward(twin_of(model, TORCH), inputs)  # noqa: E731
    return taps.on(model.named_modules(), "register_forward_hook", apart)


def forward(model: Module, inputs: Array) -> Any:
    """Return the model's output, with NumPy arrays.

    Raises:
        ForwardFailed: The model raises.
    """
    return returned(model, inputs, gradients=False)[0]


def returned(model: Module, inputs: Array, *, gradients: bool) -> tuple[Any, Array]:
    """Return the model's output, with gradients recorded or not, and its input as it is after the call.

    Raises:
        ForwardFailed: The model raises.
    """
    import torch

    given = _given(inputs)
    with torch.enable_grad() if gradients else torch.inference_mode(), failures_told():
        output = called(model, given)
    return as_arrays(output, _array), after_call(given, lambda tensor: tensor.numpy())


def unused(model: Module, inputs: Array, names: frozenset[str]) -> list[str]:
    """Return those of these parameters that do not affect the model's output: their gradient is None or zero."""
    import torch

    named = {key: parameter for key, parameter in model.named_parameters() if key in names}
    with failures_told():
        total = sum(leaf.square().sum() for leaf in leaves(called(model, _given(inputs))))
        gradients = torch.autograd.grad(total, [*named.values()], allow_unused=True)
    return [key for key, grad in zip(named, gradients, strict=True) if grad is None or not grad.abs().max() > 0]


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """Run the body on a single thread; yield how many threads there are otherwise."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def check_framework() -> None:
    """Check that `import torch` gives PyTorch.

    `paddle.compat.enable_torch_proxy` makes `import torch` return Paddle, which would then be compared with itself.

    Raises:
        BadInput: It does not.
    """
    with importing_frameworks():
        import torch

    home = getattr(getattr(torch.nn, "Module", None), "__module__", "")
    if home != "torch.nn.modules.module":
        raise BadInput(
            f"torch: `import torch` gives {torch.__file__}, which is not PyTorch, so Paddle would be compared with "
            "itself. Call paddle.compat.disable_torch_proxy() first."
        )
    if is_forked():
        torch.set_num_threads(threads())  # for good: the next operation on more threads would never end


def check(model: object, name: str = "the reference") -> None:
    """Check that a model is a PyTorch module.

    Args:
        model: Any object.
        name: What an error calls it.

    Raises:
        BadInput: It is not.
    """
    check_framework()
    import torch

    if not isinstance(model, torch.nn.Module):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise BadInput(f"{name}: it is no torch.nn.Module, but {kind}. Pass a model of PyTorch's.")


def _rebound(tensor: Tensor) -> Callable[[], object]:
    """Give a tensor a copy of its values and no gradient; return a function that restores its own."""
    own, gradient = tensor.data, tensor.grad if tensor.is_leaf else None
    tensor.data = own.clone()
    if gradient is not None:
        tensor.grad = None

    def restore() -> None:
        tensor.data = own
        if gradient is not None:
            tensor.grad = gradient

    return restore


def _given(inputs: Array) -> dict[str, Tensor]:
    import torch

    return {name: torch.from_numpy(array) for name, array in apart(inputs).items()}


def _array(value: Any) -> Array | None:
    """Return a copy of a tensor; None for anything else."""
    import torch

    return np.array(value.detach().numpy()) if isinstance(value, torch.Tensor) else None
