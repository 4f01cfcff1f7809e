"""What a pickle machine works with, and what it hands out: stand-ins, inert things, and why a pickle is refused."""

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
    """Stands for a thing that is passed on but never called, as a class that is an argument of a function."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Unhashable(Token):
    """Stands for what Python makes no key and puts in no set, as a set."""


@dataclass(frozen=True, slots=True, eq=False)
class Foreign(Token):
    """Stands for what an unknown name means, or for what it would make, do or change if it were called: nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Stands for a function, by one of our own that takes what the pickle passes."""

    function: Callable[..., Any]


class Buildable:
    """What a pickle may give a state to, once."""

    HASHABLE: ClassVar[bool] = False
    name: str = "something that is not a tensor"
    """What a reader calls it where it is none."""

    def build(self, state: Any) -> None:
        """Take the state; raises Refused, or anything that `Machine.run` reports as damage."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Interpreted:
    """What a pickle describes, and the unknown names in it, which another program may execute; in the order met."""

    content: object
    foreign: tuple[str, ...]


StandIns = Mapping[tuple[str, str], Token | Call]


def kind_of(value: object) -> str:
    """Return what a value is, for a sentence that says why it is no tensor."""
    if isinstance(value, Foreign):
        return f"{value.name}; nothing was executed"
    if isinstance(value, (Token, Buildable)):
        return value.name
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    unknown = next((f" that holds {kind_of(item)}" for item in items if isinstance(item, Foreign)), "")
    return f"a {type(value).__name__}{unknown}"
