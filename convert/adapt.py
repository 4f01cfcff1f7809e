"""Weights changed on purpose: a fresh head for other classes, a stem for other input channels. In timm's layout."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from convert.arrays import Array, StateDict
from convert.errors import UsageProblem
from convert.init import init_state_dict
from convert.variants import MixerConfig

HEAD = ("head.weight", "head.bias")
STEM = "stem.proj.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """What to change; None leaves things as they are."""

    num_classes: int | None = None
    in_chans: int | None = None
    head_seed: int = 0

    @property
    def changes(self) -> dict[str, str]:
        """What is done to which parameter, in words, by timm's name."""
        said: dict[str, str] = {}
        if self.num_classes is not None:
            said |= dict.fromkeys(HEAD, f"fresh random head for {self.num_classes} classes, seed {self.head_seed}")
        if self.in_chans is not None:
            said[STEM] = f"adapted to {self.in_chans} input channel(s)"
        return said


def adapt(state_dict: StateDict, config: MixerConfig, adaptation: Adaptation) -> tuple[StateDict, MixerConfig]:
    """Return the adapted state dict and its config; tensors that stay are the same objects.

    Raises:
        UsageProblem: The stem cannot be adapted so.
    """
    if adaptation.num_classes is not None and adaptation.num_classes < 1:
        raise UsageProblem(f"--num-classes {adaptation.num_classes}: a head needs at least one class.")
    adapted = dict(state_dict)
    if adaptation.in_chans is not None:
        adapted[STEM] = _adapt_stem(state_dict, config.in_chans, adaptation.in_chans)
        config = replace(config, in_chans=adaptation.in_chans)
    if adaptation.num_classes is not None:
        config = replace(config, num_classes=adaptation.num_classes)
        fresh = init_state_dict(config, adaptation.head_seed, names=HEAD)
        adapted |= {name: array.astype(state_dict[name].dtype) for name, array in fresh.items()}
    return adapted, config


def refuse_image_size(config: MixerConfig, image_size: int) -> None:
    """Check that an image size asked for is the one the weights have.

    Raises:
        UsageProblem: It is another: token mixing has a weight for every pair of patches and cannot be resized.
    """
    if image_size != config.image_size:
        raise UsageProblem(
            f"--image-size {image_size}: these weights are for {config.image_size} pixels. Token mixing has weights "
            f"for each of {config.tokens} patches, so the size cannot change. Resize the images instead."
        )


def _adapt_stem(state_dict: StateDict, found: int, wanted: int) -> Array:
    """Return the stem's kernel for the channels wanted: for 1, the sum over the 3 that there are.

    Source: timm 1.0.31, timm/models/_manipulate.py, adapt_input_conv.
    """
    kernel = state_dict[STEM]
    if found == wanted:
        return kernel
    if (found, wanted) != (3, 1):
        raise UsageProblem(f"--in-chans {wanted}: the weights have {found}, and only 3 can be adapted, to 1.")
    return np.asarray(kernel.astype(np.float32).sum(axis=1, keepdims=True).astype(kernel.dtype))
