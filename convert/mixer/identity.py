"""What the weights of a vision MLP do not tell: its GELU, its epsilon, and the variant that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import get_args

from convert.errors import BadInput, UsageProblem
from convert.identity import Claim, NamedVariant, Vocabulary
from convert.mixer.rule_tables import FROM_TIMM
from convert.mixer.variants import VARIANTS, Gelu, MixerConfig, MixerKind, get_variant

OPTIONS = {"gelu": "--gelu", "layer_norm_eps": "--layer-norm-eps"}
CHOICES = tuple(OPTIONS)
"""The fields of a config that no shape shows."""
UPSTREAM = tuple(one.name for one in fields(MixerConfig) if one.name not in (*CHOICES, "num_classes", "in_chans"))
"""The fields of a config that adapted or fine-tuned weights share with the variant that they come from."""
EPSILON_LIMIT = 1e-3
"""Source: paddlepaddle 3.3.1's error for a larger LayerNorm epsilon: "'epsilon' should be between 0.0 and 0.001"."""
SIZES = tuple(one.name for one in fields(MixerConfig) if one.name not in CHOICES)


def is_epsilon(value: object) -> bool:
    """Return whether a value is an epsilon that Paddle's LayerNorm accepts."""
    return isinstance(value, float) and 0 < value <= EPSILON_LIMIT


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_in(known: tuple[str, ...]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in known


VOCABULARY = Vocabulary(
    fields={
        **dict.fromkeys(SIZES, _is_size),
        "family": _is_in(get_args(MixerKind)),
        "gelu": _is_in(get_args(Gelu)),
        "layer_norm_eps": is_epsilon,
    },
    options=OPTIONS,
    values={
        "gelu": f"there is none. Known: {', '.join(get_args(Gelu))}.",
        "layer_norm_eps": f"Paddle takes 0 to {EPSILON_LIMIT}, without 0.",
    },
    layouts=tuple(FROM_TIMM),
    variants=tuple(variant.name for variant in VARIANTS),
)
agreed, unsaid = VOCABULARY.agreed, VOCABULARY.unsaid


def check_sizes(name: str, config: MixerConfig, claims: Iterable[Claim]) -> None:
    """Check that claims are about weights with the config's sizes.

    Raises:
        BadInput: One is not.
    """
    for one in claims:
        for size in SIZES:
            if size in one.config and one.config[size] != getattr(config, size):
                raise BadInput(
                    f"{one.place}: it says {size} {one.config[size]}, {name} has {getattr(config, size)}. Is it about "
                    "another file? Restore it, or move it away."
                )
        upstream = get_variant(one.variant).config if one.variant is not None else config
        for size in UPSTREAM:
            if getattr(upstream, size) != getattr(config, size):
                raise BadInput(
                    f"{one.place}: it says that {name} is {one.variant}, whose {size} is {getattr(upstream, size)}, "
                    f"not {getattr(config, size)}. Is it about another file? Restore it, or move it away."
                )


def check_variant(name: str, claims: Iterable[Claim], stated: NamedVariant | None) -> None:
    """Check that the variant stated is the one that the checkpoint says it is, if it says one.

    Raises:
        UsageProblem: It is not.
    """
    for one in claims:
        if stated is not None and one.variant not in (None, stated.name):
            raise UsageProblem(
                f"--variant {stated.name}: {one.place} says that {name} is {one.variant}. Leave --variant out."
            )
