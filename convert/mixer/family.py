"""The vision MLPs as a family of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from convert.arrays import StateDict
from convert.family import Family
from convert.identity import NamedVariant
from convert.mixer import identity, layouts, listing, porting
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import VARIANTS, MixerConfig, Variant, get_variant, variants_of

if TYPE_CHECKING:
    from convert.mixer.paddle_mixer import MlpMixer

GOOGLE_FILES = "https://console.cloud.google.com/storage/mixer_models"


class MixerFamily:
    """MLP-Mixer, gMixer, ResMLP and gMLP, as a `convert.family.Family`."""

    name, article, noun = "mixer", "an", "MLP-Mixer"
    naming, vocabulary = layouts.NAMING, identity.VOCABULARY
    sources: Mapping[str, Sequence[str]] = layouts.SOURCES
    elsewhere: Mapping[str, str] = {"google": f"Google's files are at {GOOGLE_FILES}."}
    variants: Sequence[NamedVariant] = VARIANTS
    headers: Sequence[str] = listing.HEADERS
    alignment = "align.mixer.alignment:ALIGNMENT"

    get_variant = staticmethod(get_variant)
    as_row, as_data = staticmethod(listing.as_row), staticmethod(listing.as_data)
    recognise, port = staticmethod(layouts.recognise), staticmethod(porting.port)
    convert, draw = staticmethod(convert_state_dict), staticmethod(init_state_dict)

    def alike(self, one: MixerConfig, other: MixerConfig, /) -> bool:
        """Return whether both are of the same kind and have the same number of classes."""
        return (one.family, one.num_classes) == (other.family, other.num_classes)

    def fitting(self, config: MixerConfig, /) -> Sequence[Variant]:
        """Return the variants with a config's sizes and epsilon, whatever its GELU."""
        return variants_of(replace(config, gelu="erf"))

    def build(self, config: MixerConfig, state_dict: StateDict, /) -> MlpMixer:
        """Return the Paddle model with these weights, in evaluation mode."""
        from convert.mixer import paddle_mixer

        return paddle_mixer.build(config, state_dict)


MIXER: Family = MixerFamily()
