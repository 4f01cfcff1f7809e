"""The tensors of a conversion, one after the other: each is read once, and checked, hashed and laid out on the way."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from convert.ahead import made_ahead
from convert.arrays import Array, StateDict, canonical_bytes
from convert.errors import IntegrityProblem
from convert.fingerprint import tensor_digest, tensor_sha256
from convert.mapped import row_blocks
from convert.mapping import Conversion, check_finite
from convert.rules import KeyRule, Transform

THREADS = 3
AHEAD = 8
"""Threads that make tensors while one is written, and how many tensors may wait for that, most of which are small.
Fewer left cores idle; more cost memory and gained nothing."""
CACHE_LINE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Carried:
    """A tensor in its new layout, C-contiguous, with the canonical SHA-256 of the source's and of its own."""

    tensor: Array
    source_sha256: str
    target_sha256: str


def carried(source: StateDict, conversion: Conversion, name: str) -> Generator[tuple[KeyRule, Carried], None, None]:
    """Yield (rule, tensor) for each tensor of a conversion, in its order; a few are in memory at any time.

    Args:
        source: What the conversion was made from.
        conversion: Its tensors are views of the source's, but for the adapted ones.
        name: What to call the source in an error.

    Raises:
        NonFinite: A weight is NaN or infinite; the message is that of `check_finite` for the whole source.
        IntegrityProblem: The source's file changed meanwhile.
    """

    def carry(rule: KeyRule) -> Carried:
        adapted = conversion.state_dict[rule.target] if rule.target in conversion.adapted else None
        try:
            return _carry(source[rule.source], rule.transform, adapted)
        except _NotFinite:
            check_finite(source, name)
            raise IntegrityProblem(f"{name}: it changed while it was read. Convert it again.") from None

    return made_ahead(carry, conversion.renames, ahead=AHEAD, threads=THREADS)


class _NotFinite(Exception):
    """Somewhere in a tensor."""


def _carry(source: Array, transform: Transform, adapted: Array | None) -> Carried:
    """Return the source's tensor carried over, or what was put in its place."""
    target = np.empty(transform.shape(source.shape), source.dtype)
    with_source_axes = transform.inverse.apply(target)
    digest, start = tensor_digest(source), 0
    for block in row_blocks(source):
        if not np.isfinite(block).all():
            raise _NotFinite
        digest.update(canonical_bytes(block))
        if adapted is None:
            moved = block if transform is Transform.IDENTITY else _rows_apart(block)
            with_source_axes[start : start + len(block)] = moved
            start += len(block)
    source_sha256 = digest.hexdigest()
    if adapted is not None:
        target = np.ascontiguousarray(adapted)
    same = adapted is None and transform is Transform.IDENTITY
    return Carried(
        tensor=target,
        source_sha256=source_sha256,
        target_sha256=source_sha256 if same else tensor_sha256(target),
    )


def _rows_apart(block: Array) -> Array:
    """Return a copy whose rows lie a cache line further apart.

    A transposition reads down a column. Where rows are a multiple of 4096 bytes apart, as most of a Mixer's are, all of
    a column falls into the same few cache lines, and each is gone before its next element is read.
    """
    wide = np.empty((*block.shape[:-1], block.shape[-1] + CACHE_LINE_BYTES // block.itemsize), block.dtype)
    apart = wide[..., : block.shape[-1]]
    apart[...] = block
    return apart
