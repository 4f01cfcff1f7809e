"""How the vision MLPs are compared: their implementation of `align.alignment.Alignment`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from align.alignment import Alignment, Say, Specimen
from align.core.case import Case, Settings
from align.figures.reader import Reader
from align.mixer import config_data, weights
from align.mixer.case import Reference, Subject, case_of, case_of_models
from align.mixer.pictures import reader
from align.pairing.pairing import Pairing
from convert.arrays import StateDict
from convert.family import Source
from convert.mixer.init import init_state_dict
from convert.mixer.shapes import timm_shapes
from convert.mixer.variants import MixerConfig, get_variant


class MixerAlignment:
    """How MLP-Mixer, gMixer, ResMLP and gMLP are compared."""

    references = get_args(Reference)

    def case_of_options(self, options: Mapping[str, Any], settings: Settings, say: Say, /) -> Case:
        """Return the case that the command line's options describe."""
        return case_of(weights.subject_of(options, say), settings)

    def case_of_models(
        self, reference: Any, candidate: Any, pairing: Pairing | None, settings: Settings | None, /
    ) -> Case:
        """Return the case of a timm model and any Paddle layer."""
        return case_of_models(reference, candidate, pairing, settings)

    def case_of_config(
        self, config: MixerConfig, settings: Settings, /, *, source: StateDict | None, candidate: StateDict | None
    ) -> Case:
        """Return the case of a config; a source that is not given is made of zeros that take no memory."""
        if source is None:
            source = {name: np.broadcast_to(np.float32(0), shape) for name, shape in timm_shapes(config).items()}
        return case_of(Subject(source=source, config=config, name=config.family, candidate=candidate), settings)

    def read_config(self, content: Reader, batch: int, /) -> MixerConfig:
        """Return the config that plain data describes."""
        return config_data.read_config(content, batch)

    def read_candidate(self, path: Path, key: str | None, config: MixerConfig, /) -> Source:
        """Return a candidate's weights; the names in `tensors` are those of our Paddle model."""
        return weights.read_candidate(path, key, config)

    def draw(self, config: MixerConfig, seed: int, /) -> StateDict:
        """Return seeded random weights in timm's layout."""
        return init_state_dict(config, seed)

    def read_picture(self, variant: str | None, case: Case, /) -> Callable[[Path], Any] | None:
        """Return a function that reads a picture as a variant needs it; None unless that has the case's image size."""
        if variant is None or get_variant(variant).config.image_size != case.config.image_size:
            return None
        return reader(get_variant(variant))

    def specimens(self) -> Mapping[str, Specimen]:
        """Return the models that the self-test runs on, by name."""
        from align.mixer.specimens import SPECIMENS

        return SPECIMENS


ALIGNMENT: Alignment = MixerAlignment()
