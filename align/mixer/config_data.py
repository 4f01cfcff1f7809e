"""A vision MLP's config, read from untrusted plain data."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from align.figures.reader import Malformed, Reader
from convert.mixer.shapes import parameter_count
from convert.mixer.variants import Gelu, MixerConfig, MixerKind

MOST_ELEMENTS = 1 << 31
"""Maximum elements of all parameters or of a batch: no file may ask for unlimited memory. L/16 has 2^28 parameters."""


def read_config(content: Reader, batch: int) -> MixerConfig:
    """Return the config that these fields describe; all have to be present, and no others.

    Raises:
        Malformed: The fields are others, there is no such model, or it is larger than any that we know.
    """
    names = [field.name for field in fields(MixerConfig)]
    if set(names) != content.data.keys():
        raise Malformed(f"{content.name} has the fields {', '.join(sorted(content.data))[:200]}")
    readers: dict[str, Any] = {
        "layer_norm_eps": lambda: content.number("layer_norm_eps"),
        "gelu": lambda: content.one_of("gelu", get_args(Gelu)),
        "family": lambda: content.one_of("family", get_args(MixerKind)),
        "tokens_mlp_dim": lambda: content.integer("tokens_mlp_dim", 0),
    }
    found: dict[str, Any] = {n: readers[n]() if n in readers else content.integer(n, 1) for n in names}
    config = MixerConfig(**found)
    check_config(config, batch)
    return config


def check_config(config: MixerConfig, batch: int) -> None:
    """Check that a model can have this config, and that its size is within the limits.

    Raises:
        Malformed: It is not.
    """
    mixes_tokens = config.family in ("mixer", "gmixer")
    gated = config.family in ("gmixer", "gmlp")
    consistent = (
        config.image_size % config.patch_size == 0
        and (config.tokens_mlp_dim > 0) == mixes_tokens
        and not (gated and (config.tokens_mlp_dim % 2 or config.channels_mlp_dim % 2))
        and 0 < config.layer_norm_eps < 1
    )
    if not consistent:
        raise Malformed("its config is none that a vision MLP has")
    images = batch * config.in_chans * config.image_size**2
    if config.num_blocks > 1000 or max(images, parameter_count(config)) > MOST_ELEMENTS:
        raise Malformed("its config asks for more memory than any vision MLP that we know")
