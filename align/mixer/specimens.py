"""What the self-test plants a vision MLP's faults in: s32, and a small model of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from align.core.case import Case, Settings
from align.faults.fault import Fault, Planted
from align.mixer import faults
from align.mixer.case import Subject, case_of
from convert.arrays import StateDict
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig, MixerKind, get_variant

SMALL = MixerConfig(
    image_size=32, patch_size=4, num_blocks=4, hidden_dim=24, tokens_mlp_dim=64, channels_mlp_dim=96, num_classes=10
)
"""A Mixer with 64 tokens and tokens_mlp_dim 64: square weights, whose layout no shape tells."""

SENSITIVITIES: Mapping[str, Callable[[float], Fault]] = {limit.what: limit.fault_of for limit in faults.LIMITS}


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerSpecimen:
    """A config with seeded weights; implements `align.alignment.Specimen`."""

    name: str
    config: MixerConfig

    def case(self, settings: Settings, seed: int, planted: Planted | None = None) -> Case:
        """Return the case of a right port, or of one with a fault."""
        source = dict(_drawn(self.config, seed))
        if planted is None:
            return case_of(Subject(source=source, config=self.config, name=self.name), settings)
        planted.source(source)
        candidate = dict(convert_state_dict(source, self.config).state_dict)
        planted.weights(candidate)
        subject = Subject(source=source, config=self.config, name="planted", candidate=candidate)
        return planted.into(case_of(subject, settings))

    def faults(self) -> Sequence[Fault]:
        """Return the catalogue of faults."""
        return faults.CATALOGUE

    def sensitivities(self) -> Mapping[str, Callable[[float], Fault]]:
        """Return functions from a size to a fault of that size, by what is wrong."""
        return SENSITIVITIES


def small(kind: MixerKind) -> MixerConfig:
    """Return the small config of a kind."""
    return replace(SMALL, family=kind, tokens_mlp_dim=64 if kind in ("mixer", "gmixer") else 0)


CONFIGS: Mapping[str, MixerConfig] = {
    "s32": get_variant("s32").config,
    "small-mixer": small("mixer"),
    "small-gmixer": small("gmixer"),
    "small-resmlp": small("resmlp"),
    "small-gmlp": small("gmlp"),
}
SPECIMENS = {name: MixerSpecimen(name=name, config=config) for name, config in CONFIGS.items()}


@lru_cache(maxsize=1)
def _drawn(config: MixerConfig, seed: int) -> StateDict:
    return init_state_dict(config, seed)
