"""Small files of every kind that the libraries which own the formats can write, each with what it holds."""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6) / 8 - 1
DTYPES = (
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
    "complex64",
    "complex128",
)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
LAYOUTS: Arrays = {
    "plain": NUMBERS,
    "transposed": NUMBERS.T,
    "strided": NUMBERS[::2, ::3],
    "reversed": NUMBERS[::-1],
    "fortran": np.asfortranarray(NUMBERS),
    "broadcast": np.broadcast_to(NUMBERS[0], (2, 6)),
    "scalar": np.array(3, np.float32),
    "empty": np.zeros((0, 5), np.float32),
    "größe.0": NUMBERS[0],
}
TYPED: Arrays = {dtype: NUMBERS[0].astype(dtype) for dtype in DTYPES}
WITH_BFLOAT16: Arrays = {**TYPED, "bfloat16": NUMBERS.astype(BFLOAT16)}
NUMPY_ONLY: Arrays = {
    **{dtype: np.arange(3).astype(dtype) for dtype in ("uint16", "uint32", "uint64", "longdouble", ">f4", ">i8")},
    "text": np.array(["a", "größe"]),
    "bytes": np.array([b"a", b"bc"]),
    "days": np.array(["2021-05-04"], "datetime64[D]"),
}


def _paddle(content: Callable[[Any], Any], **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import paddle

        paddle.save(content(paddle), str(path), **options)

    return write


def _tensors(arrays: Arrays) -> Callable[[Any], dict[str, Any]]:
    """Return what makes a mapping of Paddle's tensors; bfloat16 goes by way of float32."""

    def make(paddle: Any) -> dict[str, Any]:
        plain = {key: array.astype(np.float32) if array.dtype == BFLOAT16 else array for key, array in arrays.items()}
        found = {
            key: paddle.to_tensor(np.ascontiguousarray(array).reshape(array.shape)) for key, array in plain.items()
        }
        return {key: found[key].astype("bfloat16") if arrays[key].dtype == BFLOAT16 else found[key] for key in found}

    return make


def _torch(content: Callable[[Any], Any], **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import torch

        torch.save(content(torch), path, **options)

    return write


def _torch_layouts(torch: Any) -> dict[str, Any]:
    numbers = torch.from_numpy(NUMBERS.copy())
    views = {"transposed": numbers.T, "strided": numbers[::2, ::3], "broadcast": numbers[0].expand(2, 6)}
    return {"plain": numbers, **views, "scalar": torch.tensor(3.0), "empty": torch.zeros(0, 5), "größe.0": numbers[0]}


def _torch_typed(torch: Any) -> dict[str, Any]:
    names = [*DTYPES, "bfloat16", "uint16", "uint32", "uint64"]
    return {name: torch.from_numpy(NUMBERS[0].copy()).abs().to(getattr(torch, name)) for name in names}


def _torch_module(torch: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    return collections.OrderedDict(
        {key: torch.randn(value.shape, generator=generator) for key, value in module.state_dict().items()}
    )


def _torch_parameters(torch: Any) -> dict[str, Any]:
    marked = torch.nn.Parameter(torch.ones(2))
    marked.note = "an attribute"
    tagged = torch.zeros(3)
    tagged.note = [1]
    return {"parameter": torch.nn.Parameter(torch.arange(4.0)), "marked": marked, "tagged": tagged}


def _torch_training(torch: Any) -> dict[str, Any]:
    module = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    more = {
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "epoch": 3,
        "lr": 0.1,
        "best": None,
    }
    more |= {"device": torch.device("cpu"), "size": torch.Size([1, 2]), "dtype": torch.float32, "names": {"a", "b"}}
    return {"state_dict": _torch_module(torch), **more}


def _torch_sequential(torch: Any) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(3, 2)).state_dict()


def _without_checksums(path: Path) -> None:
    import torch

    torch.serialization.set_crc32_options(False)
    try:
        torch.save(_torch_layouts(torch), path)
    finally:
        torch.serialization.set_crc32_options(True)


def _paddle_training(paddle: Any) -> dict[str, Any]:
    layer = paddle.nn.Linear(2, 3)
    optimizer = paddle.optimizer.AdamW(parameters=layer.parameters())
    layer(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    more = {"epoch": 3, "lr": 0.1, "loss": np.float32(2.5), "best": None, "names": ["a"]}
    return {"model": layer.state_dict(), "optimizer": optimizer.state_dict(), **more}


def _numpy_nest(paddle: Any) -> dict[str, Any]:
    return {"model": {"a": NUMBERS, "b": NUMBERS.T}}


def _savez(arrays: Arrays, save: Callable[..., None] = np.savez) -> Callable[[Path], None]:
    return lambda path: save(path, **arrays)


def _safetensors(arrays: Arrays, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from safetensors.numpy import save_file

        contiguous = {key: np.ascontiguousarray(array).reshape(array.shape) for key, array in arrays.items()}
        save_file(contiguous, path, **options)

    return write


WRITERS: dict[str, dict[str, Callable[[Path], None]]] = {
    ".pdparams": {
        **{f"layouts {n}": _paddle(_tensors(LAYOUTS), protocol=n) for n in (2, 3, 4)},
        **{f"dtypes {n}": _paddle(_tensors(WITH_BFLOAT16), protocol=n) for n in (2, 3, 4)},
        **{f"training {n}": _paddle(_paddle_training, protocol=n) for n in (2, 3, 4)},
        "arrays": _paddle(lambda paddle: dict(LAYOUTS)),
        "ordered": _paddle(lambda paddle: collections.OrderedDict(_tensors(LAYOUTS)(paddle))),
        "nested arrays": _paddle(_numpy_nest),
    },
    ".pth": {
        "layouts": _torch(_torch_layouts),
        "dtypes": _torch(_torch_typed),
        "module": _torch(_torch_module),
        "metadata": _torch(_torch_sequential),
        "parameters": _torch(_torch_parameters),
        "training": _torch(_torch_training),
        "protocol 3": _torch(_torch_layouts, pickle_protocol=3),
        "without checksums": _without_checksums,
    },
    ".npz": {
        "layouts": _savez(LAYOUTS),
        "layouts compressed": _savez(LAYOUTS, np.savez_compressed),
        "dtypes": _savez({**TYPED, **NUMPY_ONLY}),
        "dtypes compressed": _savez({**TYPED, **NUMPY_ONLY}, np.savez_compressed),
    },
    ".safetensors": {
        "layouts": _safetensors(LAYOUTS),
        "dtypes": _safetensors({key: array for key, array in WITH_BFLOAT16.items() if key != "complex128"}),
        "unsigned": _safetensors({name: np.arange(3).astype(name) for name in ("uint16", "uint32", "uint64")}),
        "metadata": _safetensors({"a": NUMBERS}, metadata={"format": "pt", "note": '{"a": [1]}'}),
    },
}


def write_all(folder: Path, suffix: str) -> list[Path]:
    """Write every variant of a format and return the files."""
    paths = [folder / f"{name.replace(' ', '-')}{suffix}" for name in WRITERS[suffix]]
    for path, write in zip(paths, WRITERS[suffix].values(), strict=True):
        write(path)
    return paths


if __name__ == "__main__":
    write_all(Path(sys.argv[1]), sys.argv[2])
