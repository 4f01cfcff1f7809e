"""Weights for a comparison without a checkpoint: nothing trivial, and every activation of order one.

Freshly initialised weights are no use: biases are zero, heads may be, LayerScale is 1e-6, so a port that loses them
goes unnoticed. Nor are normal numbers alone: logits of 1,000 differ by 1e-3 in float32 although the port is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from align.core.drawn import Distribution, DrawnTensor
from align.pairing.types import ModuleType, reference_type
from align.probes import torch_probe
from align.probes.taps import failures_told, leaves
from align.probes.turn import taken
from convert.arrays import Array, StateDict
from convert.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

BIAS = Distribution(law="normal", numbers=(0.1,))
SCALES = Distribution(law="uniform", numbers=(0.5, 1.5))
"""Range for norm weights and running variances; its minimum has to be positive."""
SLOPES = Distribution(law="uniform", numbers=(0.1, 0.5))
EMBEDDING = Distribution(law="normal", numbers=(1,))
RAW = Distribution(law="either sign", numbers=(0.25, 0.75))
"""Magnitudes of parameters of modules of no known kind; near zero, LayerScale would hide its block."""


def draw(model: Module, inputs: Array, seed: int) -> StateDict:
    """Return weights for a model: drawn with seeds from their names, then balanced in one forward in evaluation mode.

    In that forward, a module whose output is linear in its parameters has them divided by the power of two that brings
    the standard deviation of its first output nearest to 1. What is not drawn (counters, indices, masks, buffers of
    modules of no known kind) keeps the model's values. The model itself is unchanged in the end.

    Args:
        model: A torch model, in float32 on the CPU.
        inputs: One batch for it; each field of a structured array is passed by its name.
        seed: Any non-negative integer.

    Raises:
        ForwardFailed: The model raises.
        BadInput: The model's output is not finite with such weights.

    Example:
        >>> weights = draw(timm.create_model("resnet18"), np.ones((2, 3, 64, 64), np.float32), seed=0)
    """
    return draw_and_tell(model, inputs, seed)[0]


def draw_and_tell(model: Module, inputs: Array, seed: int) -> tuple[StateDict, dict[str, DrawnTensor]]:
    """Return weights as `draw` does, and how to draw the drawn ones again without the model."""
    import torch

    with taken(), torch_probe.lent(model), torch.no_grad():
        planned = _planned(model, seed)
        torch_probe.load(model, {key: one.draw() for key, one in planned.items()})
        exponents = _balance(model, inputs)
        return torch_probe.parameters(model), _as_held(model, planned, exponents)


def _planned(model: Module, seed: int) -> dict[str, DrawnTensor]:
    """Return how to draw each tensor of a model that is drawn, by its key."""
    buffers = torch_probe.buffers(model)
    found = {}
    for path, module in torch_probe.layers(model):
        kind = reference_type(module)
        for name, tensor in {**module._parameters, **module._buffers}.items():
            key = f"{path}.{name}" if path else name
            how = _distribution(kind, name) or (None if key in buffers else RAW)
            if tensor is not None and how is not None and tensor.is_floating_point():
                padding = getattr(module, "padding_idx", None) if tensor.ndim == 2 else None
                found[key] = DrawnTensor(
                    name=key, seed=seed, shape=tuple(tensor.shape), distribution=how, padding=padding
                )
    return found


def _as_held(model: Module, planned: Mapping[str, DrawnTensor], exponents: Mapping[int, int]) -> dict[str, DrawnTensor]:
    """Return how to draw what the model now holds; a tensor with several names holds what the last one drew."""
    tensors = {
        f"{path}.{name}" if path else name: tensor
        for path, module in torch_probe.layers(model)
        for name, tensor in {**module._parameters, **module._buffers}.items()
    }
    last = {id(tensors[key]): one for key, one in planned.items()}
    return {key: last[one].times(exponents.get(one, 0)) for key in planned for one in [id(tensors[key])]}


def _distribution(kind: ModuleType | None, name: str) -> Distribution | None:
    """Return how to draw a tensor of a module; None if the module is of no known kind, or the tensor is a counter."""
    if kind is None or kind.held(name) is None:
        return None
    if name == "running_var" or ("Norm" in kind.name and name == "weight"):
        return SCALES
    if name == "running_mean" or "bias" in name:
        return BIAS
    if kind.name == "PReLU":
        return SLOPES
    if kind.name == "Embedding":
        return EMBEDDING
    return Distribution(law="fan-in", numbers=(0 if kind.name.startswith("ConvTranspose") else 1,))


def _balance(model: Module, inputs: Array) -> dict[int, int]:
    """Scale the parameters of modules so that activations are of order one; return the exponents by tensor id.

    Each exponent is that of the power of two that the tensor is multiplied by.

    Raises:
        BadInput: The model's output is not finite.
    """
    import torch

    named, seen, exponents = _given(inputs), set[int](), dict[int, int]()
    handles = []
    for _, module in torch_probe.layers(model):
        kind = reference_type(module)
        if kind is not None and kind.scales:
            after = partial(_halve_or_double, seen, exponents)
            handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        with failures_told():
            output = model(**named) if named else model(torch.from_numpy(inputs.copy()))
    finally:
        for handle in handles:
            handle.remove()
    tensors = [leaf for leaf in leaves(output) if hasattr(leaf, "isfinite")]
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        name = type(model).__name__
        raise BadInput(f"{name}: with drawn weights what it returns is not finite. Pass a checkpoint of it instead.")
    return exponents


def _given(inputs: Array) -> dict[str, Tensor]:
    """Return a tensor for each field of a structured array, by its name."""
    import torch

    return {name: torch.from_numpy(np.array(inputs[name])) for name in inputs.dtype.names or ()}


def _halve_or_double(
    seen: set[int],
    exponents: dict[int, int],
    module: Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Tensor,
) -> Any:
    """Divide a module's parameters by a power of two on its first call; return the output that it then has.

    Powers of two leave every digit as it is, so the machine's rounding does not affect the weights.
    """
    held = [p for p in module._parameters.values() if p is not None]
    known = [id(one) for one in (module, *held)]
    first = seen.isdisjoint(known)
    seen.update(known)
    std = float(np.std(output.numpy(), dtype=np.float64))
    if not first or not held or not 0 < std < math.inf:
        return output
    exponent = round(math.log2(std))
    if exponent == 0:
        return output
    for parameter in held:
        parameter.mul_(2.0**-exponent)
        exponents[id(parameter)] = -exponent
    is_linear = type(module).forward.__module__.startswith("torch.")  # a subclass may apply an activation after it
    return output * 2.0**-exponent if is_linear else module.forward(*args, **kwargs)
