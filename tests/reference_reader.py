"""Read files as the libraries that own the formats do: python tests/reference_reader.py FORMAT, one path a line.

Answers each with a line of JSON: the mappings of tensors that the file may mean, each a name → dtype, shape and SHA-256
of the elements; or why it was refused. For .pdparams it is Python's own unpickler with NumPy, which may find only the
names that NumPy and Paddle write; no framework is needed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

MEMORY = 16 * 2**30
"""Of address space, which torch alone takes several GiB of."""
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BUILTINS = ("tuple", "bytes", "set", "frozenset", "complex")
NAMES = {("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode"), ("collections", "OrderedDict")}
NAMES |= {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")}
NAMES |= {(module, name) for module in ("builtins", "__builtin__") for name in BUILTINS}
FOREIGN = "a name that neither NumPy nor Paddle writes"


class Restricted(pickle.Unpickler):
    """Python's unpickler, which is in C, with a find_class that finds little."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in NAMES:
            raise pickle.UnpicklingError(FOREIGN)
        return super().find_class(module_name, global_name)


def pdparams(path: str) -> object:
    with Path(path).open("rb") as stream:
        return Restricted(stream, encoding="latin1").load()


def pth(path: str) -> object:
    import torch

    return torch.load(path, weights_only=True, map_location="cpu")


def npz(path: str) -> object:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive.items())


def safetensors(path: str) -> object:
    from safetensors.numpy import load_file

    return load_file(path)


READERS: dict[str, Callable[[str], object]] = {"pdparams": pdparams, "pth": pth, "npz": npz, "safetensors": safetensors}


def summary(mapping: Mapping[Any, Any], form: str) -> dict[str, list[object]]:
    """Return what is compared of a mapping: its tensors, whatever else it holds."""
    found: dict[str, list[object]] = {}
    for name, value in mapping.items():
        array = _array(value)
        if type(name) is not str or array is None:
            continue
        native = array.astype(array.dtype.newbyteorder("=")) if array.dtype != BFLOAT16 else array
        bf16 = native.dtype == BFLOAT16 or native.dtype == (np.uint16 if form == "pdparams" else "V2")
        digest = hashlib.sha256(np.ascontiguousarray(native).tobytes()).hexdigest()
        found[name] = ["bfloat16" if bf16 else native.dtype.str, list(array.shape), digest]
    return found


def _array(value: object) -> np.ndarray[Any, Any] | None:
    """Return an array as it is, Paddle's pair of a name and an array, or torch's tensor."""
    if isinstance(value, np.ndarray):
        return value
    if type(value) is tuple and len(value) == 2 and type(value[0]) is str and isinstance(value[1], np.ndarray):
        return value[1]
    if "torch" in sys.modules and isinstance(value, sys.modules["torch"].Tensor) and not value.is_sparse:
        import torch

        plain = value.detach().resolve_conj().resolve_neg()
        bf16 = plain.dtype == torch.bfloat16
        return plain.view(torch.int16).numpy().view(BFLOAT16) if bf16 else plain.numpy()
    return None


def _mappings(content: object) -> list[Mapping[Any, Any]]:
    """Return every mapping, however deep, once."""
    waiting, seen, found = [content], set[int](), []
    while waiting:
        value = waiting.pop()
        if id(value) in seen or not isinstance(value, (Mapping, list, tuple)):
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            found.append(value)
        waiting += value.values() if isinstance(value, Mapping) else value
    return found


def answer(form: str, path: str) -> dict[str, Any]:
    try:
        content = READERS[form](path)
        found = [summary(mapping, form) for mapping in _mappings(content)]
    except Exception as error:  # noqa: BLE001  # whatever the libraries raise
        said = str(error).rpartition("WeightsUnpickler error:")[2]
        return {"refused": f"{type(error).__name__}: {said[:500]}"}
    return {"mappings": [mapping for mapping in found if mapping]}


def main() -> None:
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        print(json.dumps(answer(sys.argv[1], line.rstrip("\n"))), flush=True)


if __name__ == "__main__":
    main()
