"""Faults of what the comparison is given: logits that prove nothing, and weights that the model never took."""

from __future__ import annotations

from typing import Any

import numpy as np

from align.faults.fault import Fault, Planted, Weights
from align.mixer.faults.places import mixer_fault
from align.mixer.points import LOGITS
from convert.mixer.variants import MixerConfig


def _zero_head(_: MixerConfig) -> Planted:
    """Timm's own initialisation: every logit is 0 on every side, whatever came before."""

    def source(state_dict: Weights) -> None:
        for key in ("head.weight", "head.bias"):
            state_dict[key] = np.zeros_like(state_dict[key])

    return Planted(layer=LOGITS, source=source)


def _not_loaded(config: MixerConfig) -> Planted:
    """`set_state_dict` never raises: a parameter can keep its initial value."""

    def model(model: Any) -> None:
        norm = model.norm
        bias = norm.beta if config.family == "resmlp" else norm.bias
        bias.set_value(np.zeros(bias.shape, np.float32))

    return Planted(layer="norm", model=model)


LOADING: tuple[Fault, ...] = (
    mixer_fault("harness", "all-zero head", _zero_head),
    mixer_fault("harness", "a parameter that the model never loaded", _not_loaded),
)
