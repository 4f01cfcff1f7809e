"""Whether a candidate holds the recorded weights, told by their hashes alone."""

from __future__ import annotations

from collections.abc import Sequence

from align.core.result import Finding
from align.core.weights import as_float32
from align.mixer.points import layer_of_parameter
from align.trace.trace_file import TensorRecord
from convert.arrays import Array, StateDict, same_bits, tensor_sha256, tensor_sha256s


def structure_findings(recorded: Sequence[TensorRecord], candidate: StateDict) -> list[Finding]:
    """Return which keys, shapes and dtypes are not the recorded ones, in forward order."""
    findings = []
    for tensor in recorded:
        form = f"{tensor.dtype} {tensor.shape}"
        if tensor.name not in candidate:
            findings.append(_finding(tensor.name, "is missing from the candidate"))
        elif _form(candidate[tensor.name]) != form:
            findings.append(
                _finding(tensor.name, f"the candidate has {_form(candidate[tensor.name])}, recorded {form}")
            )
    surplus = sorted(candidate.keys() - {tensor.name for tensor in recorded})
    return findings + [_finding(key, "is in the candidate only") for key in surplus]


def weight_findings(recorded: Sequence[TensorRecord], candidate: StateDict) -> list[Finding]:
    """Return the parameters whose bits are not the recorded ones, in forward order, with whose they are instead."""
    owners = {tensor.sha256: tensor.name for tensor in recorded}
    found = tensor_sha256s(candidate)
    return [
        _finding(tensor.name, f"its bits are not the recorded ones{_instead(candidate[tensor.name], owners)}")
        for tensor in recorded
        if found[tensor.name] != tensor.sha256
    ]


def held_findings(loaded: StateDict, held: StateDict) -> list[Finding]:
    """Return the parameters that the model does not hold, in float32, as they were loaded."""
    return [
        _finding(key, "the Paddle model does not hold the value that was loaded")
        for key, array in loaded.items()
        if key not in held or not same_bits(as_float32(array), held[key])
    ]


def _instead(array: Array, owners: dict[str, str]) -> str:
    """Say whose recorded bits a tensor holds, as it is or transposed; nothing when they are nobody's."""
    if owner := owners.get(tensor_sha256(array)):
        return f", they are those of {owner}"
    if array.ndim == 2 and (owner := owners.get(tensor_sha256(array.T))):
        return f", they are those of {owner} transposed"
    return ""


def _finding(key: str, what: str) -> Finding:
    return Finding(layer=layer_of_parameter(key), sentence=f"{key}: {what}")


def _form(array: Array) -> str:
    return f"{array.dtype.name} {array.shape}"
