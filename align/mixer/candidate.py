"""The candidate's weights from a file, as Paddle would load them, held against the config that it is compared by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convert.checks.verify import refuse_foreign
from convert.family import Source
from convert.files.sets import Selection
from convert.identity import Claim
from convert.mixer.identity import CHOICES, agreed, check_sizes, unsaid
from convert.mixer.layouts import recognise
from convert.mixer.variants import MixerConfig
from convert.sources import from_file


def read_candidate(path: Path, key: str | None, config: MixerConfig) -> Source:
    """Return a candidate's weights; `tensors` has them under the names that Paddle would load them by.

    Args:
        path: The file.
        key: Which set of weights, where it holds several.
        config: Of the reference.

    Raises:
        UsageProblem: The file, or its manifest, says that it is for another GELU or epsilon.
        BadInput: It cannot be read, or Paddle would execute something of it.
    """
    source = from_file(path, Selection(key=key, option="--candidate-key", by_name=False))
    refuse_foreign(source)
    if recognised := recognise(source.state_dict, source.name):
        check_sizes(source.name, recognised[0], source.claims)
    if unknown := unsaid(source.claims):
        said = f"nothing says which {' and '.join(unknown)} it is for: the reference's assumed"
        source = replace(source, notes=(*source.notes, said))
    reference = Claim(place="the reference", config={choice: getattr(config, choice) for choice in CHOICES})
    agreed(path.name, config, (*source.claims, reference))
    return source
