"""Whether the candidate holds the source's weights: the same keys, shapes and dtypes, then the same bits."""

from __future__ import annotations

import numpy as np

from align.core.result import Finding
from align.mixer.points import layer_of_parameter
from convert.arrays import Array, StateDict, describe_difference, same_bits


def in_float32(state_dict: StateDict) -> StateDict:
    """Return the weights in float32, which holds every float16 and bfloat16 exactly."""
    return {key: as_float32(array) for key, array in state_dict.items()}


def as_float32(array: Array) -> Array:
    """Return a tensor in float32; itself where it is already."""
    return array.astype(np.float32, copy=False)


def structure_findings(expected: StateDict, candidate: StateDict) -> list[Finding]:
    """Return which keys, shapes and dtypes are not the expected ones, in forward order."""
    findings = []
    for key, array in expected.items():
        if key not in candidate:
            findings.append(_finding(key, "is missing from the candidate"))
        elif candidate[key].shape != array.shape or candidate[key].dtype != array.dtype:
            findings.append(_finding(key, f"the candidate has {_form(candidate[key])}, expected {_form(array)}"))
    return findings + [_finding(key, "is in the candidate only") for key in sorted(candidate.keys() - expected.keys())]


def weight_findings(expected: StateDict, candidate: StateDict, held: StateDict) -> list[Finding]:
    """Return the parameters that differ from the source in any bit, in forward order.

    Args:
        expected: The source, transformed.
        candidate: What the candidate's file or conversion holds, of the same structure.
        held: What the Paddle model holds in float32 after loading it.
    """
    findings = []
    for key, array in expected.items():
        if candidate[key] is not array and not same_bits(array, candidate[key]):
            findings.append(_finding(key, describe_difference(array, candidate[key])))
        elif key not in held or not same_bits(as_float32(array), held[key]):
            findings.append(_finding(key, "the Paddle model does not hold the value that was loaded"))
    return findings


def _finding(key: str, what: str) -> Finding:
    return Finding(layer=layer_of_parameter(key), sentence=f"{key}: {what}")


def _form(array: Array) -> str:
    return f"{array.dtype.name} {array.shape}"
