"""The head with which training begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convert.mixer.adapt import adapt
from convert.mixer.mapping import convert_state_dict
from convert.mixer.shapes import HEAD
from convert.request import Adaptation
from reports.data.cifar10 import CLASSES
from reports.score.weights import Weights
from reports.train.recipes import Recipe


def with_head(weights: Weights, recipe: Recipe) -> Weights:
    """Return the weights with a head for CIFAR-10's classes: their own, or a fresh one as the recipe specifies."""
    config, classes = weights.config, len(CLASSES)
    fresh = weights.port is not None and bool(weights.port.conversion.added)
    if config.num_classes != classes:
        weights, fresh = _with_fresh_head(weights, Adaptation(num_classes=classes, head_seed=recipe.seed)), True
    if not fresh or recipe.head != "zeros":
        return weights
    return replace(
        weights, state_dict={**weights.state_dict, **{n: np.zeros_like(weights.state_dict[n]) for n in HEAD}}
    )


def _with_fresh_head(weights: Weights, adaptation: Adaptation) -> Weights:
    body = {name: array for name, array in weights.state_dict.items() if name not in HEAD}
    config = replace(weights.config, num_classes=0)
    in_timm = convert_state_dict(body, config, src="paddle", dst="timm").state_dict
    adapted = adapt(in_timm, config, adaptation)
    converted = convert_state_dict(adapted.state_dict, adapted.config, src="timm", dst="paddle")
    return replace(weights, state_dict=converted.state_dict, config=adapted.config)
