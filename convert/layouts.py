"""Which layout a checkpoint has: timm's ([out, in]) or Paddle's ([in, out]); told from the whole, never per tensor."""

from __future__ import annotations

from typing import Literal

from convert.arrays import StateDict
from convert.errors import BadInput
from convert.mapping import convert_state_dict
from convert.rules import TIMM_TO_PADDLE, expand
from convert.shapes import infer_config, timm_shapes
from convert.variants import MixerConfig

Layout = Literal["timm", "paddle"]


def recognise(state_dict: StateDict, source: str) -> tuple[MixerConfig, frozenset[Layout]] | None:
    """Return the config and the layouts the checkpoint fits, or None when it is no MLP-Mixer with timm's names.

    A checkpoint fits both layouts only when every Linear weight is square.
    """
    found = {key: array.shape for key, array in state_dict.items()}
    try:
        config = infer_config(found, source)
    except BadInput:
        return None
    timm = timm_shapes(config)
    paddle = {r.target: r.transform.shape(timm[r.source]) for r in expand(TIMM_TO_PADDLE, config)}
    fits: set[Layout] = set()
    if found == timm:
        fits.add("timm")
    if found == paddle:
        fits.add("paddle")
    return config, frozenset(fits)


def in_paddle_layout(state_dict: StateDict, source: str) -> StateDict:
    """Return the checkpoint in Paddle's layout where it is recognised as timm's, else as it is."""
    recognised = recognise(state_dict, source)
    if recognised is None or recognised[1] != {"timm"}:
        return state_dict
    return convert_state_dict(state_dict, TIMM_TO_PADDLE, recognised[0], name=source).state_dict
