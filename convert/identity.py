"""What the bits do not carry, written down and read back: the config that no shape shows, and the weights' origin.

A function is its weights and its config. Two places hold what the weights lack, the metadata of a .safetensors file and
the manifest beside any output; the user may state some of it. If two of them disagree, neither is preferred.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from convert.errors import BadInput, UsageProblem, printable

METADATA = "mixer-convert"
"""Key of the identity in the metadata of a .safetensors file."""
SCHEMA = "mixer-convert/identity/1"
Config = TypeVar("Config", bound=Any)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedVariant:
    """One checkpoint that timm names, or an architecture that it names without weights (tag `untrained`)."""

    name: str
    architecture: str
    tag: str
    config: Any
    note: str = ""

    @property
    def timm_id(self) -> str:
        """The full timm model name, architecture and tag."""
        return f"{self.architecture}.{self.tag}"

    @property
    def repo_id(self) -> str:
        """The hub repository that holds the weights."""
        return f"timm/{self.timm_id}"

    @property
    def pretrained(self) -> bool:
        """Whether weights were published."""
        return self.tag != "untrained"

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """The preprocessing of its images, if it is known."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one place says of a checkpoint: config, layout, upstream variant, the set of weights that it was taken from.

    place: its name in a sentence. config: the fields that it states. random: whether the weights were drawn, with the
    sizes of the variant, and not trained. pairing: the name of the pairing file that they were converted by.
    """

    place: str
    config: Mapping[str, Any] = field(default_factory=dict)
    layout: str | None = None
    variant: str | None = None
    weights_key: str | None = None
    random: bool = False
    pairing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What can be said of a family's checkpoints.

    fields: by config field, a check of its value. options: the fields that no shape shows, with the option that states
    each. values: in words, the values of each of these. layouts and variants: their names. by_pairing: whether they
    were converted by a pairing file; from a claim in which that differs, nothing but the pairing is taken.
    """

    fields: Mapping[str, Callable[[Any], bool]]
    options: Mapping[str, str]
    values: Mapping[str, str]
    layouts: Collection[str]
    variants: Collection[str]
    by_pairing: bool = False

    def claim(self, place: str, data: object) -> Claim:
        """Return what a place says, read as untrusted data; what it does not say is None.

        Raises:
            BadInput: It says something that is true of no checkpoint of the family.
        """
        try:
            if not isinstance(data, Mapping):
                raise TypeError("it is no mapping")
            pairing = _text(data["pairing"].get("file")) if data.get("pairing") else None
            if (pairing is not None) != self.by_pairing:
                return Claim(place=place, pairing=pairing)
            config = data.get("config", {})
            if not isinstance(config, Mapping):
                raise TypeError("its config is no mapping")
            for name, good in self.fields.items():
                if name in config and not good(config[name]):
                    raise ValueError(f"{name} {printable(repr(config[name]))}")
            return Claim(
                place=place,
                config={name: config[name] for name in self.fields if name in config},
                layout=_one_of(data.get("layout"), self.layouts),
                variant=_one_of(data.get("variant"), self.variants),
                weights_key=_text(data.get("weights_key")),
                random=bool(_one_of(data.get("random"), (False, True))),
                pairing=pairing,
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{place}: it does not say what checkpoint it is about ({error}). Restore it.") from error

    def stated(self, options: Mapping[str, Any]) -> Claim:
        """Return what a user states by options, whose values the command line has checked before.

        Raises:
            UsageProblem: The family has no such option, or no such value of it.
        """
        for name, value in options.items():
            if name not in self.options:
                raise UsageProblem(f"{name} {value!r}: these models have none. Leave it out.")
            if not self.fields[name](value):
                raise UsageProblem(f"{name} {value!r}: {self.values[name]}")
        named = [option for name, option in self.options.items() if name in options]
        return Claim(place=" or ".join(named), config=options)

    def agreed(self, name: str, config: Config, claims: Sequence[Claim]) -> Config:
        """Return the config with each field that no shape shows as the claims say it, unchanged if none does.

        Raises:
            UsageProblem: Two claims disagree.
        """
        said = {choice: _said(name, choice, claims, option) for choice, option in self.options.items()}
        return replace(config, **{choice: value for choice, value in said.items() if value is not None})

    def unsaid(self, claims: Iterable[Claim]) -> list[str]:
        """Return the fields that neither a shape nor a claim shows."""
        said = {choice for one in claims for choice in one.config}
        return [choice for choice in self.options if choice not in said]


def as_metadata(data: Mapping[str, Any]) -> dict[str, str]:
    """Return an output's identity as the metadata of a .safetensors file."""
    return {METADATA: json.dumps({"schema": SCHEMA, **data}, sort_keys=True)}


def first_said(claims: Iterable[Claim], what: str) -> Any:
    """Return the first value of a field (layout, variant or weights_key) that a claim has; None if none has one."""
    return next((getattr(one, what) for one in claims if getattr(one, what) is not None), None)


def check_alike(name: str, claims: Sequence[Claim]) -> None:
    """Check that no two claims disagree on layout, variant or set of weights.

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


def _said(name: str, choice: str, claims: Sequence[Claim], option: str) -> Any:
    """Return what the claims say of a field, which has to be the same; None if none does."""
    said = [(one.place, one.config[choice]) for one in claims if choice in one.config]
    for (place, value), (other, another) in itertools.pairwise(said):
        if another != value:
            raise UsageProblem(
                f"{name}: {place} says {choice} {value}, {other} says {another}. State what is right by "
                f"{option} where nobody else says it, leave it out where it is wrong, or convert the original "
                "again."
            )
    return said[0][1] if said else None


def _one_of(value: Any, known: Collection[Any]) -> Any:
    if value is not None and value not in known:
        raise ValueError(printable(repr(value)))
    return value


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{printable(repr(value))} is no text")
    return value
