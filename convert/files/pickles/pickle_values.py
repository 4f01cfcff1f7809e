"""What a pickle machine works with, and what it returns: stand-ins, inert objects, and reasons to refuse a pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from convert.errors import printable


class Refused(Exception):
    """The pickle asks for something that the tensors of a checkpoint do not need."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason))


class Damaged(Refused):
    """The pickle is cut off, or says something that makes no sense."""


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """Stands for something that is passed on but never called, such as a class that is an argument of a function."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Unhashable(Token):
    """Stands for something that Python cannot use as a key or put in a set, such as a set."""


@dataclass(frozen=True, slots=True, eq=False)
class Foreign(Token):
    """Stands, inert, for what an unknown name means, or for what calling it would make, do or change."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Stands for a function: holds one of our own, which takes the arguments that the pickle passes."""

    function: Callable[..., Any]


class Buildable:
    """An object whose state a pickle may set, once."""

    HASHABLE: ClassVar[bool] = False
    name: str = "something that is not a tensor"
    """Words for it in an error, when it is found in place of a tensor."""

    def build(self, state: Any) -> None:
        """Take the state; raise Refused, or anything that `Machine.run` reports as damage."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Interpreted:
    """What a pickle describes, and the unknown names in it, in the order met, which another program may execute."""

    content: object
    foreign: tuple[str, ...]


StandIns = Mapping[tuple[str, str], Token | Call]


def kind_of(value: object) -> str:
    """Return in words what a value is, for a sentence that says why it is not a tensor."""
    if isinstance(value, Foreign):
        return f"{value.name}; nothing was executed"
    if isinstance(value, (Token, Buildable)):
        return value.name
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    unknown = next((f" that holds {kind_of(item)}" for item in items if isinstance(item, Foreign)), "")
    return f"a {type(value).__name__}{unknown}"
