"""What stands in for torch when the pickle of a .pth is interpreted: storages are views of the file.

Source: torch 2.14.1, torch/_utils.py (`_rebuild_*`), torch/serialization.py (`_save`, `persistent_id`), and
torch/_weights_only_unpickler.py (`_get_allowed_globals`), whose names are known here; those that no dense tensor needs
become tokens, so that a training checkpoint with them is read and they are refused only where a weight should be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from convert.arrays import Array
from convert.files.numpy_stand_ins import check_sizes, encode, ordered_dict
from convert.files.pickle_machine import Call, Machine, Refused, StandIns, Token
from convert.files.pickle_source import Reader

DTYPES: dict[str, np.dtype[Any]] = {
    **{name: np.dtype(name) for name in ("float16", "float32", "float64", "complex64", "complex128", "bool")},
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
STORAGES = {
    "HalfStorage": "float16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
OTHER_DTYPES = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "complex32")
OTHER_STORAGES = ("QInt8Storage", "QUInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage")
QUANTIZATIONS = ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_affine_float_qparams")
REBUILDS = ("_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_nested_tensor", "_rebuild_meta_tensor_no_storage")
INERT = {("collections", "Counter"), ("torch", "device"), ("torch.serialization", "_get_layout")} | {
    (builtins, name) for builtins in ("builtins", "__builtin__") for name in ("set", "bytearray", "complex")
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Storage:
    """The bytes that tensors are views of, and the dtype (None: a dtype that is not read, or the tensor says it)."""

    data: memoryview
    dtype: np.dtype[Any] | None


def interpret_torch(data: memoryview, storage: Callable[[str], memoryview], *, room: int) -> object:
    """Return what the pickle of a .pth describes, its tensors as arrays.

    Args:
        data: The pickle.
        storage: Returns the bytes of a storage by its key; raises KeyError where there is none.
        room: How many bytes the tensors may have in all, each counted in full though they may share a storage.

    Raises:
        Refused, Damaged: As `Machine.run` does.
    """

    def load(identity: object) -> _Storage:
        match identity:
            case ("storage", Token(name=kind), str(key), str(), int(numel)):
                found = _Storage(data=storage(key), dtype=DTYPES.get(STORAGES.get(kind, "")))
            case _:
                raise Refused("it has a persistent id that is not a storage")
        size = found.dtype.itemsize if found.dtype else 1
        if (found.dtype or kind == "UntypedStorage") and numel * size != len(found.data):
            raise ValueError(f"storage {key} has {len(found.data)} bytes, expected {numel * size}")
        return found

    return Machine(Reader(data), TORCH, room=room, persistent=load).run()


def _rebuild_tensor(storage: object, offset: object, size: object, stride: object, *rest: object) -> Array | Token:
    """Stand in for torch._utils._rebuild_tensor_v2: a view, whose rest is requires_grad, hooks and metadata."""
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor without storage")
    metadata = rest[2] if len(rest) > 2 else None
    if storage.dtype is None or metadata:
        return Token("a tensor of a kind that is not read here")
    return _strided(storage, storage.dtype, offset, size, stride)


def _rebuild_tensor_v3(*arguments: object) -> Array | Token:
    """Stand in for torch._utils._rebuild_tensor_v3, which says the dtype itself."""
    storage, offset, size, stride, requires_grad, hooks, dtype, *metadata = arguments
    if not isinstance(storage, _Storage) or not isinstance(dtype, Token):
        raise TypeError("a tensor without storage or dtype")
    typed = _Storage(data=storage.data, dtype=DTYPES.get(dtype.name))
    return _rebuild_tensor(typed, offset, size, stride, requires_grad, hooks, *metadata)


def _strided(storage: _Storage, dtype: np.dtype[Any], offset: object, size: object, stride: object) -> Array:
    """Return a view of a storage, once it is sure to lie in it."""
    if not (isinstance(offset, int) and isinstance(size, tuple) and isinstance(stride, tuple)):
        raise TypeError("a tensor without offset, size or stride")
    for sizes in ((offset,), size, stride):
        check_sizes(sizes)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if math.prod(size) == 0:
        return np.zeros(size, dtype)
    flat = np.frombuffer(storage.data, dtype)
    if last >= flat.size:
        raise ValueError(f"a tensor's last element {last} in a storage of {flat.size}")
    steps = tuple(step * dtype.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)


def _parameter(data: object, *_: object) -> object:
    """Stand in for torch._utils._rebuild_parameter and _rebuild_parameter_with_state."""
    return data


def _from_type(function: object, _type: object, arguments: object, *_: object) -> object:
    """Stand in for torch._tensor._rebuild_from_type_v2: a tensor that carries attributes, which are not read."""
    if not isinstance(function, Call) or not isinstance(arguments, tuple):
        raise TypeError("a tensor rebuilt by something that is not a function")
    return function.function(*arguments)


def _size(items: object) -> tuple[Any, ...]:
    if not isinstance(items, tuple):
        raise TypeError("a size that is no tuple")
    return items


def _inert(name: str) -> Call:
    return Call(lambda *_: Token(name))


TORCH: StandIns = {
    ("collections", "OrderedDict"): Call(ordered_dict),
    ("_codecs", "encode"): Call(encode),
    ("torch", "Size"): Call(_size),
    ("torch", "Tensor"): Token("torch.Tensor"),
    ("torch.nn.parameter", "Parameter"): Token("torch.nn.Parameter"),
    ("torch.storage", "UntypedStorage"): Token("UntypedStorage"),
    ("torch._utils", "_rebuild_tensor_v2"): Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Call(_rebuild_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): Call(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Call(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): Call(_from_type),
    **{("torch", name): Token(name) for name in (*STORAGES, *OTHER_STORAGES, *DTYPES, *OTHER_DTYPES, *QUANTIZATIONS)},
    **{("torch._utils", name): _inert("a tensor that is not dense") for name in REBUILDS},
    **{(module, name): _inert(f"a {name}") for module, name in INERT},
}
