"""The .pth format: torch.load restricted to tensors, whatever the environment says; reading it needs torch."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from convert.arrays import Array, StateDict
from convert.errors import Unreadable, UsageProblem

if TYPE_CHECKING:
    import torch

NESTS = ("state_dict", "model")
EMA = ("state_dict_ema", "model_ema")
RESAVE = "Where you trust the file, save the weights alone: torch.save(model.state_dict(), FILE)."


def read(path: Path, *, ema: bool | None = None) -> StateDict:
    """Return the tensors of a state dict, found at the top or under `state_dict`, `model` or `state_dict_ema`.

    Args:
        path: The file.
        ema: Whether to take the averaged weights; has to be said when the file holds raw ones too.

    Raises:
        UsageProblem: The file holds raw and averaged weights and ema is None, or not the ones asked for.
        Unreadable: The file is damaged, holds more than tensors, or holds no state dict.
    """
    state_dict = _unnest(path, _load(path), ema)
    for key in state_dict:
        if not isinstance(key, str):
            raise Unreadable(path, f"entry {key!r} has no text for a name", RESAVE)
    return {key: _array(path, key, value) for key, value in state_dict.items()}


def _load(path: Path) -> object:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise Unreadable(path, f"torch refuses to read it as plain tensors ({_gist(error)})", RESAVE) from error
    except Exception as error:  # a damaged file can raise anything in torch's readers
        raise Unreadable(path, f"it is truncated or damaged ({_gist(error)})") from error


def _gist(error: Exception) -> str:
    """Return the part of torch's message that says what it met, without its advice to load unsafely."""
    text = " ".join(str(error).split())
    _, found, reason = text.partition("WeightsUnpickler error: ")
    return (reason if found else text).split(". ")[0].removesuffix(".")[:160]


def _unnest(path: Path, loaded: object, ema: bool | None) -> Mapping[Any, Any]:
    if isinstance(loaded, Mapping):
        raw = [key for key in NESTS if isinstance(loaded.get(key), Mapping)]
        averaged = [key for key in EMA if isinstance(loaded.get(key), Mapping)]
        nest = _choose(path, raw, averaged, ema) if raw or averaged or ema is not None else None
        state_dict = loaded if nest is None else loaded[nest]
        if state_dict:
            return state_dict
    raise Unreadable(path, f"it holds a {type(loaded).__name__} without weights, not a state dict", RESAVE)


def _choose(path: Path, raw: list[str], averaged: list[str], ema: bool | None) -> str:
    if ema is None and raw and averaged:
        found = ", ".join([*raw, *averaged])
        raise UsageProblem(f"{path}: it holds raw and averaged weights ({found}). Pass --ema or --no-ema.")
    nests = averaged if ema or not raw else raw
    if ema is not None and not (averaged if ema else raw):
        raise UsageProblem(f"{path}: it has no {'averaged' if ema else 'raw'} weights. Leave --ema and --no-ema out.")
    if len(nests) > 1:
        raise Unreadable(path, f"it holds several sets of weights ({', '.join(nests)})", "Save the one you want alone.")
    return nests[0]


def _array(path: Path, key: str, value: object) -> Array:
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        raise Unreadable(path, f"entry {key!r} is a {type(value).__name__}, not a dense tensor", RESAVE)
    try:
        return _numpy(value.detach())
    except (TypeError, RuntimeError) as error:
        raise Unreadable(path, f"{key} is a tensor of a kind that is not read here ({value.dtype})", RESAVE) from error


def _numpy(tensor: torch.Tensor) -> Array:
    import torch

    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())
