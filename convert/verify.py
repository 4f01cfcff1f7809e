"""Bit-equality of two checkpoints, across formats and across timm's and Paddle's layout."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from convert.arrays import StateDict, describe_difference, same_bits
from convert.layouts import recognise
from convert.mapping import convert_state_dict
from convert.rules import Layout
from convert.sources import read_weights
from convert.unchanged import unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What differs between checkpoints A and B: keys only in one of them, and a sentence for each unequal tensor."""

    tensors: int
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    unequal: dict[str, str]

    @property
    def equal(self) -> bool:
        """Whether both hold the same, non-empty set of tensors, bit for bit."""
        return self.tensors > 0 and not (self.only_in_a or self.only_in_b or self.unequal)

    def sentences(self, a: str, b: str) -> list[str]:
        """Return the verdict in words: one line when equal, else a line per difference and a count."""
        if self.equal:
            return [f"{a} and {b} hold the same {self.tensors} tensors, bit for bit."]
        lines = [f"- {key}: only in {a}" for key in self.only_in_a]
        lines += [f"+ {key}: only in {b}" for key in self.only_in_b]
        lines += [f"! {key}: {difference}" for key, difference in self.unequal.items()]
        return [*lines, f"{a} and {b} differ in {len(lines)} tensors; {self.tensors - len(self.unequal)} are equal."]


def verify_files(a: Path, b: Path) -> Verification:
    """Return what differs between two checkpoints.

    Where both are vision MLPs that we know, they are compared in the pair of layouts in which they differ least: a file
    of square weights alone could be in either.

    Raises:
        IntegrityProblem: One changed while it was being read.
    """
    with unchanged(a, b):
        return _verify(a, b)


def _verify(a: Path, b: Path) -> Verification:
    first, second = read_weights(a)[0], read_weights(b)[0]
    config, layouts = recognise(first, a.name) or (None, frozenset[Layout]())
    other, others = recognise(second, b.name) or (None, frozenset[Layout]())
    verifications = [verify_state_dicts(first, second)]
    if config and other and config.family == other.family:
        for src, dst in itertools.product(sorted(layouts), sorted(others)):
            if src != dst:
                moved = convert_state_dict(first, config, src=src, dst=dst, name=a.name).state_dict
                verifications.append(verify_state_dicts(moved, second))
    return min(verifications, key=lambda found: len(found.only_in_a) + len(found.only_in_b) + len(found.unequal))


def verify_state_dicts(a: StateDict, b: StateDict) -> Verification:
    """Return what differs between two state dicts of the same layout."""
    shared = [key for key in a if key in b]
    return Verification(
        tensors=len(shared),
        only_in_a=tuple(sorted(a.keys() - b.keys())),
        only_in_b=tuple(sorted(b.keys() - a.keys())),
        unequal={key: describe_difference(a[key], b[key]) for key in shared if not same_bits(a[key], b[key])},
    )
