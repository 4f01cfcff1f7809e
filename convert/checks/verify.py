"""Bit-equality of two checkpoints, across formats and across timm's and Paddle's layout."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convert.arrays import StateDict, describe_difference, same_bits
from convert.errors import BadInput, Unreadable
from convert.family import Source
from convert.files.sets import RESAVE, Selection
from convert.sources import from_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What differs between checkpoints A and B: keys only in one of them, and a sentence for each unequal tensor.

    said_otherwise: by config field that no tensor shows, in words, how the two checkpoints' claims differ.
    """

    tensors: int
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    unequal: dict[str, str]
    said_otherwise: dict[str, str] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether both hold the same, non-empty set of tensors, bit for bit, and say the same of their config."""
        return self.tensors > 0 and not (self.only_in_a or self.only_in_b or self.unequal or self.said_otherwise)

    def sentences(self, a: str, b: str) -> list[str]:
        """Return the verdict in words: one line when equal, else a line per difference and a count."""
        if self.equal:
            return [f"{a} and {b} hold the same {self.tensors} tensors, bit for bit."]
        lines = [f"- {key}: only in {a}" for key in self.only_in_a]
        lines += [f"+ {key}: only in {b}" for key in self.only_in_b]
        lines += [f"! {key}: {difference}" for key, difference in self.unequal.items()]
        said = [f"! {choice}: {difference}" for choice, difference in self.said_otherwise.items()]
        summary = f"{a} and {b} differ in {len(lines)} tensors; {self.tensors - len(self.unequal)} are equal"
        return [*lines, *said, f"{summary}{', but not what they say of their config' if said else ''}."]


def verify_files(a: Path, b: Path, selections: tuple[Selection, Selection] | None = None) -> Verification:
    """Return what differs between two checkpoints: tensors, and their claims about config that no tensor shows.

    If both are of one family, they are compared in the pair of layouts in which they differ least: a file with only
    square weights could be in either.

    Args:
        a: A checkpoint, the index of a sharded one, or a folder with either.
        b: The checkpoint to compare it with.
        selections: Which of several sets of weights, in A and in B.

    Raises:
        IntegrityProblem: One changed while it was being read.
        Unreadable: One is a .pdparams file of which other readers execute parts, so that they may find other tensors.
    """
    sides = [
        from_file(path, selection, strict=False)
        for path, selection in zip((a, b), selections or (None, None), strict=True)
    ]
    for source in sides:
        refuse_foreign(source)
    found = _verify(*sides)
    for source in sides:
        source.check_unchanged()
    return found


def selections_of(a: str | None, b: str | None) -> tuple[Selection, Selection]:
    """Return the selections of the sets of weights with these keys in A and in B; None: the only set."""
    return Selection(key=a, by_name=False), Selection(key=b, option="--weights-key-b", by_name=False)


def refuse_foreign(source: Source) -> None:
    """Check that Paddle, when it loads a file of its own, executes nothing in it.

    Raises:
        Unreadable: It would, so that the file does not tell what Paddle finds in it.
    """
    if source.tool == "paddle" and source.foreign and source.path is not None:
        names = ", ".join(source.foreign)
        raise Unreadable(
            source.path, f"paddle.load would execute {names} of it, so that what it finds cannot be told", RESAVE
        )


def _verify(a: Source, b: Source) -> Verification:
    both = {*a.state_dict, *a.dropped} & {*b.state_dict, *b.dropped}  # a counter that only one has is not missing
    first, second = ({**one.state_dict, **{k: v for k, v in one.dropped.items() if k in both}} for one in (a, b))
    counted = a.dropped.keys() & both
    config, layouts = a.family.recognise(a.state_dict, a.name) or (None, ())
    other, others = b.family.recognise(b.state_dict, b.name) or (None, ())
    verifications = []
    if config and other and a.family is b.family and a.family.alike(config, other):
        for src, dst in itertools.product(sorted(layouts), sorted(others)):
            if src != dst and (moved := _moved(a, config, src, dst)) is not None:
                verifications.append(verify_state_dicts({**moved, **{key: first[key] for key in counted}}, second))
    verifications.append(verify_state_dicts(first, second))
    best = min(verifications, key=lambda found: len(found.only_in_a) + len(found.only_in_b) + len(found.unequal))
    return replace(best, said_otherwise=dict(_said_otherwise(a, b)))


def _moved(source: Source, config: Any, src: str, dst: str) -> StateDict | None:
    """Return a source's weights in another layout; None if they are not convertible, such as float64 or half a head."""
    try:
        return source.family.convert(source.state_dict, config, src=src, dst=dst, name=source.name).state_dict
    except BadInput:
        return None


def _said_otherwise(a: Source, b: Source) -> Iterator[tuple[str, str]]:
    """Yield each config field on which the two sources' claims differ, and in words how."""
    for choice in dict.fromkeys((*a.family.vocabulary.options, *b.family.vocabulary.options)):
        left, right = ([one.config[choice] for one in source.claims if choice in one.config] for source in (a, b))
        if left and right and {*left} != {*right}:
            yield choice, f"{' and '.join(map(str, left))} against {' and '.join(map(str, right))}"


def verify_state_dicts(a: StateDict, b: StateDict) -> Verification:
    """Return what differs between two state dicts of the same layout."""
    shared = [key for key in a if key in b]
    return Verification(
        tensors=len(shared),
        only_in_a=tuple(sorted(a.keys() - b.keys())),
        only_in_b=tuple(sorted(b.keys() - a.keys())),
        unequal={key: describe_difference(a[key], b[key]) for key in shared if not same_bits(a[key], b[key])},
    )
