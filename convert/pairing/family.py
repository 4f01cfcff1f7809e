"""A pairing file in place of a family: all that is known of the two models is their tensors' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from convert.engine import Conversion, cast
from convert.errors import BadInput, UsageProblem, printable
from convert.family import Port, Source
from convert.files.names import check_names
from convert.identity import NamedVariant, Vocabulary, first_said
from convert.naming import NUMBER, Naming
from convert.pairing.file import malformed, read_file
from convert.pairing.weights import WeightTable, weights_of
from convert.request import Request
from convert.rules import KeyRule, RuleSet, Transform

TORCH, PADDLE = "torch", "paddle"
OTHER = {TORCH: PADDLE, PADDLE: TORCH}


@dataclass(frozen=True, slots=True)
class NoConfig:
    """The empty config of a model of which only a pairing file is known."""


class PairedFamily:
    """The models with the tensor names of a pairing file: the reference's layout is torch, the candidate's paddle.

    Args:
        table: Which names go with which.
        described: What a manifest says of the pairing file.
    """

    name, article, noun, alignment = "a pairing file", "a", "paired model", ""
    sources: Mapping[str, Sequence[str]] = {TORCH: (TORCH,), PADDLE: (PADDLE,)}
    elsewhere: Mapping[str, str] = {}
    variants: Sequence[NamedVariant] = ()
    headers: Sequence[str] = ()
    vocabulary = Vocabulary(fields={}, options={}, values={}, layouts=(TORCH, PADDLE), variants=(), by_pairing=True)

    def __init__(self, table: WeightTable, described: Mapping[str, str] | None = None) -> None:
        self.described, self._table = dict(described or {}), table
        names = _names(table)
        self.naming = Naming(names, [*_marks(names.values())], complete=True)

    @classmethod
    def of_file(cls, path: Path) -> PairedFamily:
        """Return the family that a pairing file describes.

        Raises:
            Unreadable: It has no table [weights], or is malformed.
        """
        file = read_file(path)
        table = weights_of(file)
        if table is None:
            raise malformed(path, "it has no table [weights], which says what becomes of each tensor")
        return cls(table, {"file": path.name, "sha256": file.sha256})

    def port(self, source: Source, request: Request, /) -> Port:
        """Return a source in the requested layout, checked except for its values.

        Raises:
            BadInput: No entry takes a key, an entry takes none, or a shape does not fit its transform.
        """
        dst, dtype = request.dst or PADDLE, request.adaptation.dtype
        rules, dropped = self._rules(source.state_dict, dst)
        check_names(Path(self._table.place), [rule.target for rule in rules])
        for rule in rules:
            if not rule.transform.takes(shape := source.state_dict[rule.source].shape):
                raise BadInput(
                    f"{self._table.place}: [weights] {rule.source}: {rule.transform.value} does not take {shape}, the "
                    f"shape that {source.name} has there. Correct the pairing file."
                )
        given, said = (source.state_dict, {}) if dtype is None else cast(source.state_dict, np.dtype(dtype))
        conversion = Conversion(
            state_dict=rules.apply(given),
            renames=rules,
            adapted={rule.target: said[rule.source] for rule in rules if rule.source in said},
            dropped=tuple(dropped),
            reasons=dropped,
        )
        notes = (*source.notes, *self._notes(source, dropped, OTHER[dst]))
        return Port(source=source, config=NoConfig(), layout=OTHER[dst], conversion=conversion, notes=notes)

    def may_be(self, layout: str, source: Source) -> bool:
        """Return whether a source's names are those of a layout."""
        try:
            self._rules(source.state_dict, OTHER[layout])
        except BadInput:
            return False
        return True

    def _unknown(self, *_: Any, **__: Any) -> NoReturn:
        """Raise the error for anything that takes more than names to answer."""
        raise UsageProblem(
            "A pairing file says what becomes of a checkpoint's tensors, and not of what model they are."
        )

    get_variant = as_row = as_data = recognise = alike = fitting = convert = draw = build = _unknown

    def _notes(self, source: Source, dropped: Mapping[str, str], src: str) -> Iterator[str]:
        """Yield what the user should know of how the weights were taken."""
        for why, count in Counter(dropped.values()).items():
            yield f"{count} tensor{'s' if count > 1 else ''} left out: {printable(why)}"
        if self.may_be(OTHER[src], source):
            yield f"its names are those of both layouts; taken to be in {src}'s (--dst says otherwise)"

    def _rules(self, keys: Collection[str], dst: str) -> tuple[RuleSet, dict[str, str]]:
        return self._table.rules_for(keys) if dst == PADDLE else (self._table.rules_back(keys), {})


def leads_to(source: Source) -> str:
    """Return the layout that a source is not in; if it may be in both, the one it does not claim, or else Paddle's."""
    family = source.family
    if not isinstance(family, PairedFamily):
        raise TypeError(f"{source.name} has no pairing file")
    fits = [layout for layout in OTHER if family.may_be(layout, source)]
    if len(fits) == 1:
        return OTHER[fits[0]]
    said = first_said(source.claims, "layout") or source.tool or TORCH
    return OTHER[said if fits else family.naming.nearest(source.state_dict, OTHER)]


def refuse_others(request: Request) -> None:
    """Check that nothing is asked for that only a known family of models has.

    Raises:
        UsageProblem: Something is.
    """
    adaptation = request.adaptation
    asked = {
        "--variant": request.variant,
        "--src": request.src,
        "--init": request.init_seed,
        "--num-classes": adaptation.num_classes,
        "--in-chans": adaptation.in_chans,
        "--image-size": request.image_size,
        **{f"--{name.replace('_', '-')}": value for name, value in request.stated.items()},
    }
    for option, value in asked.items():
        if value is not None:
            raise UsageProblem(f"{option} does not go with --pairing, which knows names alone. Leave it out.")
    if request.dst not in (None, *OTHER):
        raise UsageProblem(
            f"--dst {request.dst}: --pairing leads to {' or '.join(OTHER)}. Choose one, or leave it out."
        )


def _marks(layouts: Iterable[Sequence[KeyRule]]) -> Iterator[str]:
    """Yield, for each layout, the first and the last of its names without a placeholder."""
    for rules in layouts:
        literal = [rule.target for rule in rules if not NUMBER.search(rule.target)]
        yield from dict.fromkeys((*literal[:1], *literal[-1:]))


def _names(table: WeightTable) -> dict[str, list[KeyRule]]:
    """Return the names of each layout, as the targets of rules."""
    kept = Transform.IDENTITY
    names = [KeyRule(source=entry.name, target=entry.name, transform=kept) for entry in table.entries]
    return {TORCH: names, PADDLE: table.rows}
