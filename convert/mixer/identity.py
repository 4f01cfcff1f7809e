"""What the bits do not carry: the config that no shape tells, and where weights are from. Written down, and read back.

A function is its weights and its config. Two places beside the tensors hold it, the metadata of a .safetensors and the
manifest beside any output; the user may state some of it. Where two of them part, nothing is chosen.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

from convert.errors import BadInput, UsageProblem, printable
from convert.mixer.rules import FROM_TIMM, Layout
from convert.mixer.variants import VARIANTS, Family, Gelu, MixerConfig, Variant, get_variant

METADATA = "mixer-convert"
"""The name that the metadata of a .safetensors has it under."""
SCHEMA = "mixer-convert/identity/1"
CHOICES = ("gelu", "layer_norm_eps")
"""The fields of a config that no shape tells."""
OPTIONS = {"gelu": "--gelu", "layer_norm_eps": "--layer-norm-eps"}
PREPROCESSING = ("mean", "std", "interpolation", "crop_pct")
"""The fields of a variant that say what images go through."""
UPSTREAM = tuple(one.name for one in fields(MixerConfig) if one.name not in (*CHOICES, "num_classes", "in_chans"))
"""What adapted or fine-tuned weights have in common with the variant that they are of."""
EPSILON_LIMIT = 1e-3
"""Source: what paddlepaddle 3.3.1 answers where a LayerNorm has more: "'epsilon' should be between 0.0 and 0.001"."""
SIZES = tuple(one.name for one in fields(MixerConfig) if one.name not in CHOICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one place says of a checkpoint: config, layout, upstream variant, the set of weights that it was taken from.

    place names it in a sentence; config holds the fields that it says. random: the weights were drawn, with the sizes
    of the variant, and not trained.
    """

    place: str
    config: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout | None = None
    variant: str | None = None
    weights_key: str | None = None
    random: bool = False


def identity(
    config: MixerConfig, layout: Layout, variant: Variant | None, claims: Sequence[Claim], weights_key: str | None
) -> dict[str, Any]:
    """Return what is to be written down of an output, as plain data.

    Args:
        config: The output's.
        layout: The output's.
        variant: As stated; None: what the source says of itself is kept.
        claims: What the source says of itself.
        weights_key: The set that was taken now; None: what the source says of itself is kept.
    """
    random = any(one.random for one in claims)
    known = variant or next((get_variant(one.variant) for one in claims if one.variant is not None), None)
    return {
        "config": asdict(config),
        "layout": layout,
        "variant": known and known.name,
        "random": random,
        "preprocessing": known and {name: getattr(known, name) for name in PREPROCESSING},
        "weights_key": weights_key or next((one.weights_key for one in claims if one.weights_key is not None), None),
    }


def as_metadata(data: Mapping[str, Any]) -> dict[str, str]:
    """Return an identity as the metadata of a .safetensors."""
    return {METADATA: json.dumps({"schema": SCHEMA, **data}, sort_keys=True)}


def claim(place: str, data: object) -> Claim:
    """Return what a place says, read without trust; what it does not say is None.

    Raises:
        BadInput: It says something that no config has.
    """
    try:
        if not isinstance(data, Mapping):
            raise TypeError("it is no mapping")
        found = data.get("config", {})
        if not isinstance(found, Mapping):
            raise TypeError("its config is no mapping")
        config = {name: _checked(name, found[name]) for name in (*SIZES, *CHOICES) if name in found}
        return Claim(
            place=place,
            config=config,
            layout=_one_of(data.get("layout"), tuple(FROM_TIMM)),
            variant=_one_of(data.get("variant"), tuple(variant.name for variant in VARIANTS)),
            weights_key=_text(data.get("weights_key")),
            random=bool(_one_of(data.get("random"), (False, True))),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{place}: it does not say what checkpoint it is about ({error}). Restore it.") from error


def check_sizes(name: str, config: MixerConfig, claims: Iterable[Claim]) -> None:
    """Check that claims are about weights of the config's sizes.

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


def agreed(name: str, config: MixerConfig, claims: Sequence[Claim]) -> MixerConfig:
    """Return the config with what no shape tells as the claims say it; where none does, as it is.

    Raises:
        UsageProblem: Two of them say different things.
    """
    said = {choice: _said(name, choice, claims) for choice in CHOICES}
    return replace(config, **{choice: value for choice, value in said.items() if value is not None})


def stated(gelu: Gelu | None, layer_norm_eps: float | None) -> Claim:
    """Return what a user says by options."""
    options = {"gelu": gelu, "layer_norm_eps": layer_norm_eps}
    config = {choice: value for choice, value in options.items() if value is not None}
    return Claim(place=" or ".join(OPTIONS[choice] for choice in config), config=config)


def check_variant(name: str, claims: Iterable[Claim], stated: Variant | None) -> None:
    """Check that the variant stated is the one that the checkpoint says it is, unless that was drawn with its sizes.

    Raises:
        UsageProblem: It is not.
    """
    for one in claims:
        if stated is not None and one.variant not in (None, stated.name):
            raise UsageProblem(
                f"--variant {stated.name}: {one.place} says that {name} is {one.variant}. Leave --variant out."
            )


def check_alike(name: str, claims: Sequence[Claim]) -> None:
    """Check that no two claims part in layout, variant or set of weights.

    Raises:
        UsageProblem: Two do.
    """
    for what in ("layout", "variant", "weights_key"):
        said = [(one.place, getattr(one, what)) for one in claims if getattr(one, what) is not None]
        for (place, value), (other, another) in itertools.pairwise(said):
            if value != another:
                raise UsageProblem(
                    f"{name}: {place} says {what} {value}, {other} says {another}. Convert the original again."
                )


def unsaid(claims: Iterable[Claim]) -> list[str]:
    """Return the fields that no shape tells and no claim either."""
    said = {choice for one in claims for choice in one.config}
    return [choice for choice in CHOICES if choice not in said]


def _said(name: str, choice: str, claims: Sequence[Claim]) -> Any:
    """Return what the claims say of a field; None where none does."""
    said = [(one.place, one.config[choice]) for one in claims if choice in one.config]
    for (place, value), (other, another) in itertools.pairwise(said):
        if another != value:
            raise UsageProblem(
                f"{name}: {place} says {choice} {value}, {other} says {another}. State what is right by "
                f"{OPTIONS[choice]} where nobody else says it, leave it out where it is wrong, or convert the original "
                "again."
            )
    return said[0][1] if said else None


def _checked(field_name: str, value: Any) -> Any:
    """Return a field of a config that is of its kind."""
    kinds: dict[str, tuple[Any, ...]] = {"gelu": get_args(Gelu), "family": get_args(Family)}
    if field_name in kinds:
        good = isinstance(value, str) and value in kinds[field_name]
    elif field_name == "layer_norm_eps":
        good = is_epsilon(value)
    else:
        good = type(value) is int and 0 <= value < 2**31
    if not good:
        raise ValueError(f"{field_name} {printable(repr(value))}")
    return value


def is_epsilon(value: object) -> bool:
    """Return whether a LayerNorm of Paddle's takes it."""
    return isinstance(value, float) and 0 < value <= EPSILON_LIMIT


def _one_of(value: Any, known: tuple[Any, ...]) -> Any:
    if value is not None and value not in known:
        raise ValueError(printable(repr(value)))
    return value


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{printable(repr(value))} is no text")
    return value
