"""Whether a pickle hands its weights to something unknown, which could change them during unpickling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from convert.files.pickles.pickle_values import Refused

Parts = Callable[[object], Iterable[object]]


def check_untouched(content: object, handed: list[object], parts: Parts) -> None:
    """Check that no tensor in the content was also handed, at any depth, to something that is not carried out here.

    Args:
        content: What the pickle describes.
        handed: What was given to unknown functions and objects.
        parts: Returns what holds a tensor's elements, which other tensors may share.

    Raises:
        Refused: One was, so another program may see other weights than are read here.
    """
    if not handed:
        return
    touched = {id(value) for value in _reached(handed, parts)}
    for value in _reached([content], parts):
        if is_tensor(value) and not touched.isdisjoint(map(id, (value, *parts(value)))):
            raise Refused(
                "it hands its own weights to something unknown, which may change them where the file is unpickled; "
                "nothing was executed"
            )


def is_tensor(value: object) -> bool:
    """Return whether a value is an array, or a stand-in that became one when its state was set."""
    return isinstance(value, np.ndarray) or getattr(value, "array", None) is not None


def _reached(roots: Iterable[object], parts: Parts) -> Iterator[object]:
    """Yield everything in the roots once, at whatever depth and however often it occurs."""
    waiting, seen = list(roots), set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, dict):
            waiting += value.values()
        else:
            waiting += value if isinstance(value, (tuple, list)) else parts(value)
