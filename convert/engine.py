"""The engine: a state dict in, a state dict out, first as checked views, then laid out tensor by tensor."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from convert.arrays import Array, Shape, StateDict, canonical_bytes, contiguous, first_index, row_blocks, tensor_digest
from convert.errors import IntegrityProblem, KeyMismatch, MixedDtypes, NonFinite, ShapeMismatch, TooLarge, WrongDtype
from convert.rules import FAULTY, RuleSet, Transform

WEIGHT_DTYPES = ("float32", "float16", "bfloat16")
ADVICE = "Are --src and --variant right? Without --variant the config is read from the shapes."
TENSORS = 3
"""Number of large tensors in memory at a time: one is laid out while others are written and read back."""
SMALL_BYTES = 64 << 10
CACHE_LINE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conversion:
    """A converted state dict, with an account of how it came about.

    renames: the rule that filled each target key from the source. adapted: in words, what else was done to a target.
    added: target keys that no source key fills. dropped: source keys left out. reasons: why, if a reason is given.
    """

    state_dict: StateDict
    renames: RuleSet
    adapted: Mapping[str, str] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def unchanged(self) -> dict[str, str]:
        """Return, by source key, the target key of each tensor that is taken as it is."""
        moved = [rule for rule in self.renames if rule.transform is Transform.IDENTITY]
        return {rule.source: rule.target for rule in moved if rule.target not in self.adapted}


def convert(source: StateDict, rules: RuleSet, shapes: Mapping[str, Shape], *, name: str, expected: str) -> Conversion:
    """Return the source renamed and transformed by the rules, as views of the source's data.

    Args:
        source: A state dict.
        rules: One for each of its keys.
        shapes: The keys and shapes that it has to have.
        name: What to call the source in an error.
        expected: What to call, in an error, the model that has these keys and shapes.

    Raises:
        KeyMismatch: Keys are missing or unexpected.
        ShapeMismatch: A tensor has another shape.
        WrongDtype: A tensor is not float32, float16 or bfloat16.
    """
    if {rule.source for rule in rules} != shapes.keys():
        raise ValueError(FAULTY)
    if shapes.keys() != source.keys():
        raise KeyMismatch(name, shapes.keys() - source.keys(), source.keys() - shapes.keys(), expected)
    if wrong := [(key, source[key].shape, shape) for key, shape in shapes.items() if source[key].shape != shape]:
        raise ShapeMismatch(name, wrong, expected, ADVICE)
    for key, array in source.items():
        if array.dtype.name not in WEIGHT_DTYPES:
            raise WrongDtype(name, key, array.dtype.name, WEIGHT_DTYPES)
    return Conversion(state_dict=rules.apply(source), renames=rules)


def check_one_dtype(state_dict: StateDict, name: str) -> None:
    """Check that all weights have the same dtype: Paddle loads no model whose parameters have several.

    Raises:
        MixedDtypes: They have several.
    """
    counts = Counter(array.dtype.name for array in state_dict.values())
    if len(counts) > 1:
        raise MixedDtypes(name, counts)


def check_finite(state_dict: StateDict, name: str) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        NonFinite: One is; the error names the first such tensor, in the state dict's order, and its first such element.
    """
    for key, array in state_dict.items():
        finite = np.isfinite(array)
        if not finite.all():
            index = first_index(~finite)
            raise NonFinite(name, key, index, float(array[index]), int(finite.size - np.count_nonzero(finite)))


def cast(state_dict: StateDict, dtype: np.dtype[np.generic]) -> tuple[StateDict, dict[str, str]]:
    """Return the state dict with every floating-point tensor cast to a dtype, and by key, in words, what was done.

    Raises:
        TooLarge: A value is too large for the dtype.
    """
    made, said = dict(state_dict), dict[str, str]()
    for name, array in state_dict.items():
        if array.dtype != dtype and (array.dtype.kind == "f" or array.dtype.name in WEIGHT_DTYPES):
            made[name] = narrowed(name, array, dtype)
            exact = np.array_equal(made[name].astype(array.dtype), array, equal_nan=True)
            said[name] = f"cast to {dtype.name}, exactly" if exact else f"narrowed to {dtype.name}, which rounds"
    return made, said


def narrowed(name: str, array: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return the array cast to a dtype, where values may be rounded but must not overflow.

    Raises:
        TooLarge: A value is too large for the dtype.
    """
    with np.errstate(over="ignore"):
        made = array.astype(dtype)
    beyond = ~np.isfinite(made) & np.isfinite(array)
    if beyond.any():
        index, count = first_index(beyond), int(np.count_nonzero(beyond))
        raise TooLarge(name, index, float(array[index]), count, dtype.name)
    return np.asarray(made)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaidOut:
    """A C-contiguous tensor in the target's layout, and the function to call once its memory may be reused."""

    key: str
    tensor: Array
    done: Callable[[], None]


def laid_out(source: StateDict, conversion: Conversion) -> Iterator[LaidOut]:
    """Yield each tensor of a conversion, in its order; wait while TENSORS large ones are not done yet.

    Args:
        source: What the conversion was made from.
        conversion: Its tensors are views of the source's, except for the adapted ones.

    Raises:
        IntegrityProblem: The source's file became shorter.
    """
    memory = _Memory()
    rules = {rule.target: rule for rule in conversion.renames if rule.target not in conversion.adapted}
    for key, converted in conversion.state_dict.items():
        if key not in rules:
            yield LaidOut(key=key, tensor=contiguous(converted), done=_nothing)
            continue
        before, transform = source[rules[key].source], rules[key].transform
        tensor, done = memory.take(transform.shape(before.shape), before.dtype)
        lay_out(before, transform, tensor)
        yield LaidOut(key=key, tensor=tensor, done=done)


def source_sha256s(source: StateDict, conversion: Conversion, name: str) -> dict[str, str]:
    """Return the canonical SHA-256 of each source tensor not taken as it is; check that what is taken is finite.

    The source is read separately for this; its snapshots show that it is the same as what is laid out. A tensor taken
    as it is has the hash of what was written.

    Args:
        source: Every tensor, including those that are left out.
        conversion: What becomes of them.
        name: What to call the source in an error.

    Raises:
        NonFinite: A weight is NaN or infinite; the message is that of `check_finite` for the whole source.
        IntegrityProblem: The source's file changed meanwhile.
    """
    found = {}
    taken, unchanged = {rule.source for rule in conversion.renames}, conversion.unchanged()
    for key, array in source.items():
        digest = None if key in unchanged else tensor_digest(array)
        for block in row_blocks(array):
            if key in taken and not np.isfinite(block).all():
                check_finite({key: source[key] for key in source if key in taken}, name)
                raise IntegrityProblem(f"{name}: it changed while it was read. Convert it again.")
            if digest is not None:
                digest.update(canonical_bytes(block))
        if digest is not None:
            found[key] = digest.hexdigest()
    return found


def lay_out(source: Array, transform: Transform, target: Array) -> None:
    """Write the transformed source into the target, reading each of its blocks once."""
    with_source_axes, start = np.atleast_1d(transform.inverse.apply(target)), 0
    for block in row_blocks(source):
        moved = block if transform is Transform.IDENTITY else _rows_apart(block)
        with_source_axes[start : start + len(block)] = moved
        start += len(block)


class _Memory:
    """Reusable memory for TENSORS large tensors: clearing fresh pages costs about as much as filling them."""

    def __init__(self) -> None:
        self._left = threading.Semaphore(TENSORS)
        self._lock = threading.Lock()
        self._free: list[Array] = []

    def take(self, shape: Shape, dtype: np.dtype[np.generic]) -> tuple[Array, Callable[[], None]]:
        """Return an uninitialised array and a function that gives its memory back; wait while there is none left."""
        size = math.prod(shape) * dtype.itemsize
        if size <= SMALL_BYTES:
            return np.empty(shape, dtype), _nothing
        self._left.acquire()
        with self._lock:
            fitting = min((memory for memory in self._free if len(memory) >= size), key=len, default=None)
            if fitting is None:
                self._free.clear()  # memory that is too small makes way
            else:
                self._free = [memory for memory in self._free if memory is not fitting]
        memory = np.empty(size, np.uint8) if fitting is None else fitting
        return memory[:size].view(dtype).reshape(shape), partial(self._give_back, memory)

    def _give_back(self, memory: Array) -> None:
        with self._lock:
            self._free.append(memory)
        self._left.release()


def _nothing() -> None:
    pass


def _rows_apart(block: Array) -> Array:
    """Return a copy whose rows lie a cache line further apart.

    A transposition reads down a column. If rows are a multiple of 4096 bytes apart, as most of a Mixer's are, all of a
    column falls into the same few cache sets, and each line is evicted before its next element is read.
    """
    wide = np.empty((*block.shape[:-1], block.shape[-1] + CACHE_LINE_BYTES // block.itemsize), block.dtype)
    apart = wide[..., : block.shape[-1]]
    apart[...] = block
    return apart
