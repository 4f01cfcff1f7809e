"""What conversion asks of a family of models; what it hands it, and gets back.

A package adds a family by an entry point in the group `mixer_convert.families`, which names an object like this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from convert.arrays import Shape, StateDict
from convert.disk.unchanged import Snapshot, check_unchanged
from convert.engine import Conversion
from convert.identity import Claim, NamedVariant, Vocabulary, first_said
from convert.naming import Naming
from convert.request import Request


class Family(Protocol):
    """Models whose weights are named alike. A config is a frozen dataclass of its own, which nobody else looks into.

    article and noun: what to call one of its models. sources: the layouts that each choice of --src stands for.
    elsewhere: where to get what the hub does not have, a sentence by choice of --src. headers: of the list of variants.
    alignment: what aligns its models, as "package.module:NAME", which is not looked up here.
    """

    name: str
    article: str
    noun: str
    naming: Naming
    vocabulary: Vocabulary
    sources: Mapping[str, Sequence[str]]
    elsewhere: Mapping[str, str]
    variants: Sequence[NamedVariant]
    headers: Sequence[str]
    alignment: str

    def get_variant(self, name: str, /) -> NamedVariant:
        """Return the variant of a name.

        Raises:
            UnknownVariant: There is none.
            AmbiguousVariant: There are several.
        """

    def as_row(self, variant: Any, /) -> tuple[str, ...]:
        """Return a variant's row in a list of them, one text per header."""

    def as_data(self, variant: Any, /) -> dict[str, Any]:
        """Return a variant as plain data."""

    def recognise(self, state_dict: StateDict, source: str, /) -> tuple[Any, tuple[str, ...]] | None:
        """Return the config and every layout that weights fit exactly, or None where they are not this family's."""

    def alike(self, one: Any, other: Any, /) -> bool:
        """Return whether weights of two configs have the same names in any layout, so that either can be compared."""

    def fitting(self, config: Any, /) -> Sequence[NamedVariant]:
        """Return the variants of a config's sizes."""

    def port(self, source: Source, request: Request, /) -> Port:
        """Return a source in the layout wanted, checked but for its values.

        The request says the layout, and its claims what was stated.

        Raises:
            BadInput: A key, shape or dtype that such a checkpoint does not have.
            UsageProblem: What is wanted cannot be, or is not what the checkpoint says of itself.
        """

    def convert(self, state_dict: StateDict, config: Any, *, src: Any, dst: Any, name: str) -> Conversion:
        """Return weights in another layout, as views.

        Raises:
            BadInput: A key, shape or dtype that weights of this config do not have.
        """

    def draw(self, config: Any, seed: int, /) -> StateDict:
        """Return seeded random weights of a config, in timm's layout."""

    def build(self, config: Any, state_dict: StateDict, /) -> Any:
        """Return the `paddle.nn.Layer` of a config with these weights, in Paddle's layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is known about the origin of weights; fields that do not apply are None.

    Of local files sha256 and shards (that of each shard, by name) are known only after `with_sha256`, which reads them.
    """

    kind: str
    file: str | None = None
    sha256: str | None = None
    repo_id: str | None = None
    revision: str | None = None
    seed: int | None = None
    shards: Mapping[str, str] = field(default_factory=dict)
    weights_key: str | None = None
    stripped_prefix: str | None = None
    verified_by_hub: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A state dict, what to call it in a sentence, its family and provenance, and the files it was read from, as found.

    dropped: tensors that are no weights, such as counters, by name. tensors: all of a file's set, as it names them.
    pairing: the name and SHA-256 of the pairing file that says what becomes of them, if one does.
    claims: what the file and its manifest say that it is. tool: which one alone writes such files, if any. foreign:
    names that other readers would execute. notes: sentences for the user.
    """

    state_dict: StateDict
    name: str
    family: Family
    provenance: Provenance
    path: Path | None = None
    snapshots: tuple[Snapshot, ...] = ()
    dropped: StateDict = field(default_factory=dict)
    tensors: StateDict = field(default_factory=dict)
    pairing: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    tool: Literal["torch", "paddle"] | None = None
    foreign: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every weight, by name."""
        return {key: array.shape for key, array in self.state_dict.items()}

    def identity(self, config: Any, layout: str, variant: NamedVariant | None, key: str | None) -> dict[str, Any]:
        """Return what is to be written down of an output that is made of it, as plain data.

        Args:
            config: The output's.
            layout: The output's.
            variant: As stated; None: what the source says of itself is kept.
            key: Of the set that was taken now; None: what the source says of itself is kept.
        """
        named = first_said(self.claims, "variant")
        known = variant or (self.family.get_variant(named) if named else None)
        return {
            "config": asdict(config),
            "layout": layout,
            "variant": known and known.name,
            "random": self.provenance.kind == "random" or any(one.random for one in self.claims),
            "preprocessing": known and known.preprocessing,
            "weights_key": key or first_said(self.claims, "weights_key"),
            **({"pairing": dict(self.pairing)} if self.pairing else {}),
        }

    def check_unchanged(self) -> None:
        """Check that what was read is what lies there still, so that the hashes are those of the bytes converted.

        Raises:
            IntegrityProblem: A file was replaced, written to or removed.
        """
        check_unchanged(self.snapshots)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Port:
    """A source that is checked and mapped: its config and layout, the weights in the layout wanted, and remarks.

    assumed: in a sentence, what of the config nobody says.
    """

    source: Source
    config: Any
    layout: Any
    conversion: Conversion
    notes: tuple[str, ...] = ()
    assumed: str = ""
