"""Stand-ins for torch in the interpretation of the pickle of a .pth; storages are views of the file.

Source: torch 2.14.1, torch/_utils.py (`_rebuild_*`), torch/serialization.py (`_save`, `persistent_id`), and
torch/_weights_only_unpickler.py (`_get_allowed_globals`), whose names are known here. Those that no dense tensor needs
become tokens, so that a training checkpoint with them can be read; a token is refused only where a weight should be.
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from convert.arrays import Array
from convert.files.pickles.inert_pickle import InertMachine
from convert.files.pickles.inert_stand_ins import OF_TORCH
from convert.files.pickles.numpy_stand_ins import check_sizes, encode, ordered_dict
from convert.files.pickles.pickle_source import PickleBytes
from convert.files.pickles.pickle_values import Call, Foreign, Interpreted, Refused, StandIns, Token

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Storage:
    """The bytes that tensors are views of, their dtype (None: not read here, or each tensor says it), and the views."""

    data: memoryview
    kind: str
    numel: int
    dtype: np.dtype[Any] | None
    views: list[Array] = field(default_factory=list)


class _Storages:
    """The storages of one file by key; like torch, it keeps the first that it finds under a key."""

    def __init__(self, content: Callable[[str], memoryview]) -> None:
        self._content, self._known = content, dict[str, _Storage]()

    def load(self, identity: object) -> _Storage:
        """Return the storage that a persistent id names."""
        match identity:
            case ("storage", Token(name=kind), str(key), str(), int(numel)) if type(numel) is int:
                found = self._known.get(key) or self._read(kind, key, numel)
            case _:
                raise Refused("it has a persistent id that is not a storage")
        if (found.kind, found.numel) != (kind, numel):
            raise Refused(f"it calls storage {key} {found.numel:,} of {found.kind} first, then {numel:,} of {kind}")
        return found

    def _read(self, kind: str, key: str, numel: int) -> _Storage:
        found = _Storage(data=self._content(key), kind=kind, numel=numel, dtype=DTYPES.get(STORAGES.get(kind, "")))
        size = found.dtype.itemsize if found.dtype else 1
        if (found.dtype or kind == "UntypedStorage") and numel * size != len(found.data):
            raise ValueError(f"storage {key} has {len(found.data)} bytes, expected {numel * size}")
        return self._known.setdefault(key, found)

    def parts(self, value: object) -> Iterable[object]:
        """Return the storage that an array lies in, if any; call it only once all arrays have been made."""
        return (self._owners[id(value)],) if id(value) in self._owners else ()

    @functools.cached_property
    def _owners(self) -> dict[int, _Storage]:
        return {id(view): storage for storage in self._known.values() for view in storage.views}


def interpret_torch(data: memoryview, storage: Callable[[str], memoryview], *, room: int) -> Interpreted:
    """Return what the pickle of a .pth describes, its tensors as arrays.

    Args:
        data: The pickle.
        storage: Returns the bytes of a storage by its key; raises KeyError where there is none.
        room: Bytes that the tensors may have in all; each counts in full, even if several share a storage.

    Raises:
        Refused, Damaged: As `InertMachine.interpreted` does.
    """
    storages = _Storages(storage)
    return InertMachine(PickleBytes(data), TORCH, room=room, persistent=storages.load).interpreted(storages.parts)


def _rebuild_tensor(storage: object, offset: object, size: object, stride: object, *rest: object) -> Array | Token:
    """Stand in for torch._utils._rebuild_tensor_v2: return a view; rest is requires_grad, hooks and metadata."""
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor without storage")
    return _rebuilt(storage, storage.dtype, (offset, size, stride), rest)


def _rebuild_tensor_v3(storage: object, offset: object, size: object, stride: object, *rest: object) -> Array | Token:
    """Stand in for torch._utils._rebuild_tensor_v3, whose rest also names the dtype, after the hooks."""
    requires_grad, hooks, dtype, *metadata = rest
    if not isinstance(storage, _Storage) or not isinstance(dtype, Token):
        raise TypeError("a tensor without storage or dtype")
    return _rebuilt(storage, DTYPES.get(dtype.name), (offset, size, stride), (requires_grad, hooks, *metadata))


def _rebuilt(
    storage: _Storage, dtype: np.dtype[Any] | None, place: tuple[object, ...], rest: tuple[object, ...]
) -> Array | Token:
    requires_grad, hooks, metadata = (*rest, None) if len(rest) == 2 else rest
    _check_gradient(dtype, requires_grad, hooks)
    if metadata is not None and not isinstance(metadata, dict):
        raise TypeError("a tensor whose metadata is no dict")
    if dtype is None or metadata:
        return Token("a tensor of a kind that is not read here")
    view = _strided(storage, dtype, place)
    storage.views.append(view)
    return view


def _check_gradient(dtype: np.dtype[Any] | None, requires_grad: object, hooks: object) -> None:
    """Check what torch writes after a tensor: requires_grad, true only for real and complex dtypes, and empty hooks.

    Raises:
        TypeError: It is something else.
    """
    if type(requires_grad) is not bool or type(hooks) is not collections.OrderedDict or hooks:
        raise TypeError("a tensor without requires_grad, or with hooks")
    if requires_grad and dtype is not None and dtype.kind in "biu":
        raise TypeError("a tensor of whole numbers with a gradient")


def _strided(storage: _Storage, dtype: np.dtype[Any], place: tuple[Any, ...]) -> Array:
    """Return a view of a storage with an offset, size and strides, after checking that it lies within the storage."""
    offset, size, stride = place
    if not (isinstance(size, tuple) and isinstance(stride, tuple)):
        raise TypeError("a tensor without size or stride")
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


def _parameter(data: object, requires_grad: object, hooks: object) -> object:
    """Stand in for torch._utils._rebuild_parameter."""
    if not isinstance(data, (np.ndarray, Token)):
        raise TypeError("a parameter that is no tensor")
    _check_gradient(getattr(data, "dtype", None), requires_grad, hooks)
    return data


def _parameter_with_state(data: object, requires_grad: object, hooks: object, state: object) -> object:
    """Stand in for torch._utils._rebuild_parameter_with_state."""
    _check_attributes(state)
    return _parameter(data, requires_grad, hooks)


def _from_type(function: object, kind: object, arguments: object, state: object) -> object:
    """Stand in for torch._tensor._rebuild_from_type_v2: a tensor that carries attributes, which are not read."""
    for unknown in (function, kind):
        if isinstance(unknown, Foreign):
            return Foreign(unknown.name)
    if not isinstance(function, Call) or function not in REBUILDS or not isinstance(arguments, tuple):
        raise TypeError("a tensor rebuilt by something that does not rebuild tensors")
    if kind is not TENSOR and kind is not PARAMETER:
        raise TypeError("a tensor rebuilt as something that is none")
    _check_attributes(state)
    return function.function(*arguments)


def _check_attributes(state: object) -> None:
    """Check that the attributes of a tensor, in one dict or two, neither set its elements nor replace its methods.

    Raises:
        Refused: They do, so another program would see another tensor.
        TypeError: They are not in dicts.
    """
    for attributes in state if isinstance(state, tuple) else (state,):
        if attributes is not None and not isinstance(attributes, dict):
            raise TypeError("a tensor whose attributes are no dict")
        for name, value in (attributes or {}).items():
            called = isinstance(value, (Call, Foreign)) or value is TENSOR or value is PARAMETER
            if type(name) is not str or name in ELEMENTS or name.startswith("__") or called:
                raise Refused("it sets an attribute of a tensor that may change what the tensor is")


def _size(items: object) -> tuple[Any, ...]:
    if not isinstance(items, tuple):
        raise TypeError("a size that is no tuple")
    check_sizes(items)
    return items


def _inert(name: str) -> Call:
    return Call(lambda *_: Token(name))


TENSOR, PARAMETER = Token("torch.Tensor"), Token("torch.nn.Parameter")
ELEMENTS = {"data", "real", "imag", "names"}
"""Attributes of a tensor that, when set, change its elements or axes."""
DENSE = {
    "_rebuild_tensor_v2": Call(_rebuild_tensor),
    "_rebuild_tensor_v3": Call(_rebuild_tensor_v3),
    "_rebuild_parameter": Call(_parameter),
    "_rebuild_parameter_with_state": Call(_parameter_with_state),
}
NOT_DENSE = {
    name: _inert("a tensor that is not dense")
    for name in (
        *("_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_nested_tensor"),
        *("_rebuild_meta_tensor_no_storage",),
    )
}
REBUILDS = {*DENSE.values(), *NOT_DENSE.values()}
TORCH: StandIns = {
    ("collections", "OrderedDict"): Call(ordered_dict),
    ("_codecs", "encode"): Call(encode),
    ("torch", "Size"): Call(_size),
    ("torch", "Tensor"): TENSOR,
    ("torch.nn.parameter", "Parameter"): PARAMETER,
    ("torch.storage", "UntypedStorage"): Token("UntypedStorage"),
    ("torch._tensor", "_rebuild_from_type_v2"): Call(_from_type),
    **{("torch", name): Token(name) for name in (*STORAGES, *OTHER_STORAGES, *DTYPES, *OTHER_DTYPES, *QUANTIZATIONS)},
    **{("torch._utils", name): call for name, call in (DENSE | NOT_DENSE).items()},
    **OF_TORCH,
}
