"""What alignment asks of a family of models; `convert.family.Family.alignment` names the object that answers."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from align.core.case import Case, Settings
from align.faults.fault import Fault, Planted
from align.figures.reader import Reader
from align.pairing.pairing import Pairing
from convert import families
from convert.arrays import Array, StateDict
from convert.errors import UsageProblem, printable
from convert.family import Family, Source

Say = Callable[[str, Sequence[str]], None]
"""Called with a file's name and sentences that say what is taken for granted about it."""


class Specimen(Protocol):
    """A small model that the self-test plants faults in."""

    def case(self, settings: Settings, seed: int, planted: Planted | None = None) -> Case:
        """Return the case of a right port with seeded weights, or of one with a fault."""

    def faults(self) -> Sequence[Fault]:
        """Return the catalogue of faults."""

    def sensitivities(self) -> Mapping[str, Callable[[float], Fault]]:
        """Return functions from a size to a fault of that size, by what is wrong."""


class Alignment(Protocol):
    """How models of a family are compared."""

    @property
    def references(self) -> Sequence[str]:
        """What its Paddle models can be compared with, such as timm."""

    def case_of_options(self, options: Mapping[str, Any], settings: Settings, say: Say, /) -> Case:
        """Return the case that the command line's options describe.

        Raises:
            MixerConvertError: They fit no weights or models; the text says what to do.
        """

    def case_of_models(
        self, reference: Any, candidate: Any, pairing: Pairing | None, settings: Settings | None, /
    ) -> Case:
        """Return the case of two models in memory; neither is changed.

        Raises:
            BadInput: One of them is not a model that can be compared.
        """

    def case_of_config(
        self, config: Any, settings: Settings, /, *, source: StateDict | None, candidate: StateDict | None
    ) -> Case:
        """Return the case of a config; weights may be unknown (None): the candidate's are then the source's."""

    def read_config(self, content: Reader, batch: int, /) -> Any:
        """Return the config that plain data describes.

        Raises:
            Malformed: There is no such model, or it is larger than any that we know.
        """

    def read_candidate(self, path: Path, key: str | None, config: Any, /) -> Source:
        """Return a candidate's weights from a file, under the names of the family's own Paddle model.

        Raises:
            BadInput: They are not this config's.
        """

    def draw(self, config: Any, seed: int, /) -> StateDict:
        """Return seeded random weights by the reference's names."""

    def read_picture(self, variant: str | None, case: Case, /) -> Callable[[Path], Array] | None:
        """Return a function that reads a picture file as a variant needs it; None if nothing says how."""

    def specimens(self) -> Mapping[str, Specimen]:
        """Return the models that the self-test runs on, by name."""


def alignment_of(family: Family) -> Alignment:
    """Return how models of a family are compared."""
    return cast("Alignment", pkgutil.resolve_name(family.alignment))


def alignment_named(name: str) -> Alignment:
    """Return how models of the family of this name are compared.

    Raises:
        UsageProblem: No such family is installed.
    """
    for family in families.installed():
        if family.name == name:
            return alignment_of(family)
    raise UsageProblem(f"its family {printable(name)} is not installed here")


def alignments() -> list[Alignment]:
    """Return how models of each installed family are compared."""
    return [alignment_of(family) for family in families.installed()]
