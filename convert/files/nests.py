"""Where the weights lie in what a training checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import Unreadable, UsageProblem

NESTS = ("state_dict", "model")
EMA = ("state_dict_ema", "model_ema")


def weights_of(path: Path, loaded: object, ema: bool | None, resave: str) -> Mapping[Any, Any]:
    """Return the state dict, found at the top or under `state_dict`, `model`, `state_dict_ema` or `model_ema`.

    Args:
        path: Where it was read from, for the sentence of an error.
        loaded: What was read.
        ema: Whether to take the averaged weights; has to be said when there are raw ones too.
        resave: What to do about a file of another kind.

    Raises:
        UsageProblem: There are raw and averaged weights and ema is None, or not the ones asked for.
        Unreadable: There are no weights, or several sets.
    """
    if isinstance(loaded, Mapping):
        raw = [key for key in NESTS if isinstance(loaded.get(key), Mapping)]
        averaged = [key for key in EMA if isinstance(loaded.get(key), Mapping)]
        nest = _choose(path, raw, averaged, ema) if raw or averaged or ema is not None else None
        state_dict = loaded if nest is None else loaded[nest]
        if state_dict:
            return state_dict
    raise Unreadable(path, f"it holds a {type(loaded).__name__} without weights, not a state dict", resave)


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
