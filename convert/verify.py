"""Bit-equality of two checkpoints, across formats and across timm's and Paddle's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convert import files
from convert.arrays import StateDict, describe_difference, same_bits
from convert.layouts import in_paddle_layout


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
    """Return what differs between two checkpoints; a Mixer in timm's layout is compared in Paddle's."""
    return verify_state_dicts(in_paddle_layout(files.read(a), a.name), in_paddle_layout(files.read(b), b.name))


def verify_state_dicts(a: StateDict, b: StateDict) -> Verification:
    """Return what differs between two state dicts of the same layout."""
    shared = [key for key in a if key in b]
    return Verification(
        tensors=len(shared),
        only_in_a=tuple(sorted(a.keys() - b.keys())),
        only_in_b=tuple(sorted(b.keys() - a.keys())),
        unequal={key: describe_difference(a[key], b[key]) for key in shared if not same_bits(a[key], b[key])},
    )
