"""Weights changed on purpose, in timm's layout: a fresh head for other classes, a stem for other input channels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from convert.arrays import Array, StateDict
from convert.engine import cast, narrowed
from convert.errors import UsageProblem
from convert.mixer.init import init_state_dict
from convert.mixer.shapes import HEAD
from convert.mixer.variants import MixerConfig
from convert.request import Adaptation

STEM = "stem.proj.weight"
CLASSES_LIMIT = 2**31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adapted:
    """A state dict in timm's layout, its config, and what was done to each changed tensor, in words."""

    state_dict: StateDict
    config: MixerConfig
    changes: dict[str, str]


def keeps_head(config: MixerConfig, adaptation: Adaptation) -> bool:
    """Return whether the weights keep their head: they have one, and no other number of classes is wanted."""
    return config.num_classes > 0 and adaptation.num_classes in (None, config.num_classes)


def adapt(state_dict: StateDict, config: MixerConfig, adaptation: Adaptation) -> Adapted:
    """Return the state dict with the adaptation applied; unchanged tensors are the same objects.

    Args:
        state_dict: The weights, in timm's layout.
        config: Their config; with num_classes 0 there is no head, and a fresh one is drawn if one is wanted.
        adaptation: What to change.

    Raises:
        UsageProblem: The stem cannot be adapted to the channels, or the number of classes is out of range.
        TooLarge: A value is too large for the dtype wanted.
    """
    if adaptation.num_classes is not None and not 1 <= adaptation.num_classes < CLASSES_LIMIT:
        raise UsageProblem(f"--num-classes {adaptation.num_classes}: a head has 1 to {CLASSES_LIMIT - 1:,} classes.")
    adapted, changes = dict(state_dict), dict[str, str]()
    if adaptation.dtype is not None:
        cast_ones, changes = cast(state_dict, np.dtype(adaptation.dtype))
        adapted |= cast_ones
    if adaptation.in_chans is not None:
        adapted[STEM] = _adapt_stem(adapted[STEM], config.in_chans, adaptation.in_chans)
        config = replace(config, in_chans=adaptation.in_chans)
        said = f"adapted to {adaptation.in_chans} input channel(s)"
        changes[STEM] = f"{changes[STEM]}; {said}" if STEM in changes else said
    if adaptation.num_classes is not None and not config.num_classes:
        config = replace(config, num_classes=adaptation.num_classes)
        dtype = adapted["norm.bias" if "norm.bias" in adapted else "norm.beta"].dtype
        fresh = init_state_dict(config, adaptation.head_seed, names=HEAD)
        adapted |= {name: array.astype(dtype) for name, array in fresh.items()}
        seeded = f"fresh random head for {config.num_classes} classes, seed {adaptation.head_seed}"
        changes |= dict.fromkeys(HEAD, seeded)
    return Adapted(state_dict=adapted, config=config, changes=changes)


def refuse_image_size(config: MixerConfig, image_size: int) -> None:
    """Check that the requested image size is that of the weights.

    Raises:
        UsageProblem: It is another: token mixing has a weight for every pair of patches and cannot be resized.
    """
    if image_size != config.image_size:
        raise UsageProblem(
            f"--image-size {image_size}: these weights are for {config.image_size} pixels. Token mixing has weights "
            f"for each of {config.tokens} patches, so the size cannot change. Resize the images instead."
        )


def _adapt_stem(kernel: Array, found: int, wanted: int) -> Array:
    """Return the stem's kernel for the wanted number of channels: for 1, the sum over the existing 3.

    Source: timm 1.0.31, timm/models/_manipulate.py, adapt_input_conv.
    """
    if found == wanted:
        return kernel
    if (found, wanted) != (3, 1):
        raise UsageProblem(f"--in-chans {wanted}: the weights have {found}, and only 3 can be adapted, to 1.")
    return narrowed(STEM, kernel.astype(np.float32).sum(axis=1, keepdims=True), kernel.dtype)
