"""What conversion asks of a family of models, what it passes to it, and what it gets back.

A package adds a family by an entry point in the group `mixer_convert.families`, which names a `Family`.
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
    """Models whose weights are named alike. Its config is a frozen dataclass of its own, which nothing else looks into.

    article and noun: what to call one of its models. sources: the layouts that each choice of --src stands for.
    elsewhere: by choice of --src, a sentence on where to get what the hub does not have. headers: those of the list of
    variants. alignment: what aligns its models, as "package.module:NAME", which is not resolved here.
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
        """Return the variant with this name.

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
        """Return whether weights of two configs have the same names in every layout, so that they can be compared."""

    def fitting(self, config: Any, /) -> Sequence[NamedVariant]:
        """Return the variants that a config fits."""

    def port(self, source: Source, request: Request, /) -> Port:
        """Return a source in the requested layout, checked except for its values.

        The request names the layout, and its claims include what was stated.

        Raises:
            BadInput: A key, shape or dtype is not that of such a checkpoint.
            UsageProblem: The request is impossible, or contradicts what the checkpoint says of itself.
        """

    def convert(self, state_dict: StateDict, config: Any, *, src: Any, dst: Any, name: str) -> Conversion:
        """Return weights in another layout, as views.

        Raises:
            BadInput: A key, shape or dtype is not that of weights of this config.
        """

    def draw(self, config: Any, seed: int, /) -> StateDict:
        """Return seeded random weights of a config, in timm's layout."""

    def build(self, config: Any, state_dict: StateDict, /) -> Any:
        """Return the `paddle.nn.Layer` of a config with these weights, in Paddle's layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is known about the origin of weights; fields that do not apply are None.

    For local files, sha256 and shards (each shard's, by name) are certain only after `with_sha256`, which reads them.
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
    """A state dict, its name in sentences, its family and provenance, and snapshots of the files it was read from.

    dropped: tensors that are no weights, such as counters, by name. tensors: all of the chosen set, as named in the
    file. pairing: the name and SHA-256 of the pairing file that says what becomes of them, if one does. claims: what
    the file and its manifest say that it is. tool: the framework that alone writes such files, if there is one.
    foreign: names that other readers would execute. notes: sentences for the user.
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
        """Return the identity to record for an output that is made from this source, as plain data.

        Args:
            config: The output's config.
            layout: The output's layout.
            variant: The variant stated; None: what the source says of itself is kept.
            key: The key of the set of weights taken now; None: what the source says of itself is kept.
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
        """Check that the files are still those that were read, so that the hashes are those of the bytes converted.

        Raises:
            IntegrityProblem: A file was replaced, written to or removed.
        """
        check_unchanged(self.snapshots)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Port:
    """A source that is checked and mapped: the config, its layout, the weights in the requested layout, and notes.

    assumed: a sentence on the parts of the config that had to be assumed, if any.
    """

    source: Source
    config: Any
    layout: Any
    conversion: Conversion
    notes: tuple[str, ...] = ()
    assumed: str = ""
