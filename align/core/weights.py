"""Whether the candidate holds the expected weights: the same keys, shapes and dtypes, then the same bits.

The expected weights are known by their values or, from a recorded trace, by their hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from align.core.result import Finding
from convert.arrays import Array, Shape, StateDict, describe_difference, same_bits

Place = Callable[[str], str]
"""A function from a candidate parameter to the comparison point that it acts in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A tensor that the candidate has to hold; differs says in words how a tensor differs from it, or returns None."""

    dtype: str
    shape: Shape
    differs: Callable[[Array], str | None]


def expected_values(state_dict: StateDict) -> dict[str, Expected]:
    """Return what is expected of a candidate that has to hold exactly these tensors."""
    return {key: _by_value(array) for key, array in state_dict.items()}


def in_float32(state_dict: StateDict) -> StateDict:
    """Return the weights in float32, which holds every float16 and bfloat16 exactly."""
    return {key: as_float32(array) for key, array in state_dict.items()}


def as_float32(array: Array) -> Array:
    """Return a tensor in float32; itself if it is already, or holds integers or booleans."""
    return array.astype(np.float32, copy=False) if array.dtype.kind not in "iub" else array


def structure_findings(expected: Mapping[str, Expected], candidate: StateDict, place: Place) -> list[Finding]:
    """Return findings about keys, shapes and dtypes that are not the expected ones, in forward order."""
    findings = []
    for key, wanted in expected.items():
        form = f"{wanted.dtype} {wanted.shape}"
        if key not in candidate:
            findings.append(_finding(key, "is missing from the candidate", place))
        elif _form(candidate[key]) != form:
            findings.append(_finding(key, f"the candidate has {_form(candidate[key])}, expected {form}", place))
    surplus = sorted(candidate.keys() - expected.keys())
    return findings + [_finding(key, "is in the candidate only", place) for key in surplus]


def weight_findings(
    expected: Mapping[str, Expected], candidate: StateDict, held: StateDict, place: Place
) -> list[Finding]:
    """Return findings about the parameters that differ from the expected ones in any bit, in forward order.

    Args:
        expected: What the parameters have to be.
        candidate: What the candidate's file or conversion holds, of the same structure.
        held: What the model holds in float32 after loading it.
        place: Where a parameter acts.
    """
    findings = []
    for key, wanted in expected.items():
        if (difference := wanted.differs(candidate[key])) is not None:
            findings.append(_finding(key, difference, place))
        elif key not in held or not same_bits(as_float32(candidate[key]), held[key]):
            findings.append(_finding(key, "the model does not hold the value that was loaded", place))
    return findings


def _by_value(wanted: Array) -> Expected:
    def differs(found: Array) -> str | None:
        same = _is_same_view(wanted, found) or same_bits(wanted, found)
        return None if same else describe_difference(wanted, found)

    return Expected(dtype=wanted.dtype.name, shape=wanted.shape, differs=differs)


def _is_same_view(one: Array, other: Array) -> bool:
    """Return whether both are the same memory, read in the same way."""
    places = ((array.ctypes.data, array.dtype, array.shape, array.strides) for array in (one, other))
    return next(places) == next(places)


def _finding(key: str, what: str, place: Place) -> Finding:
    return Finding(layer=place(key), sentence=f"{key}: {what}")


def _form(array: Array) -> str:
    return f"{array.dtype.name} {array.shape}"
