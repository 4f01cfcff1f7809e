"""A pickle machine for training checkpoints: what it does not know becomes inert data, and is recorded.

Beside weights a training checkpoint holds settings, dates, paths, histories, whole modules. None of it is imported or
called here: an unknown name becomes a `Foreign`, and so does everything that the file would make with it. A `Foreign`
is refused only where a weight should be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convert.files.pickles.handed import Parts, check_untouched
from convert.files.pickles.pickle_machine import Machine
from convert.files.pickles.pickle_source import PickleBytes
from convert.files.pickles.pickle_values import (
    Buildable,
    Foreign,
    Interpreted,
    Refused,
    StandIns,
    Token,
    Unhashable,
    kind_of,
)

NAME_LIMIT = 512


SETS = ("a set", "a frozenset")
"""Names of the tokens that stand for a set made from a list, which holds no weights."""


class InertMachine(Machine):
    """A machine that accepts more than arrays and plain containers, and still calls nothing.

    Attributes:
        foreign: The unknown names, in the order met; the dict serves as an ordered set.
        handed: What was given to unknown functions, or put into anything whose content is not kept.
        unhashable: Tuples with something unhashable at any depth, by id; kept alive so that no id is reused.
    """

    def __init__(
        self, reader: PickleBytes, stand_ins: StandIns, *, room: int, persistent: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(reader, stand_ins, room=room, persistent=persistent)
        self.foreign: dict[str, None] = {}
        self.handed: list[object] = []
        self.unhashable: dict[int, tuple[Any, ...]] = {}

    def interpreted(self, parts: Parts) -> Interpreted:
        """Return what the pickle describes.

        Args:
            parts: As `check_untouched` takes it.

        Raises:
            Refused: As `run` does; or it hands its weights to something unknown, or is itself an inert object.
            Damaged: As `run` does.
        """
        content = self.run()
        if isinstance(content, Token):
            raise Refused(f"it holds {kind_of(content)}")
        check_untouched(content, self.handed, parts)
        return Interpreted(content, tuple(self.foreign))

    def _unknown(self, module: str, name: str) -> Token:
        if len(module) + len(name) > NAME_LIMIT:
            raise Refused(f"it asks for something by a name of {len(module) + len(name):,} characters")
        self.foreign[f"{module}.{name}"] = None
        return Foreign(f"{module}.{name}")

    def _call(self, function: object, arguments: tuple[Any, ...]) -> object:
        made = Foreign(function.name) if isinstance(function, Foreign) else super()._call(function, arguments)
        if isinstance(made, Token):
            self.handed.append(arguments)
            if made.name in SETS:
                for item in arguments[0]:
                    self._check_hashable(item)
        return made

    def _op_newobj(self, _: None) -> None:
        self._new(*self._pop(2))

    def _op_newobj_ex(self, _: None) -> None:
        kind, arguments, keywords = self._pop(3)
        self._new(kind, (arguments, keywords))

    def _new(self, kind: object, arguments: object) -> None:
        if not isinstance(kind, Foreign):
            raise Refused(f"its pickle uses NEWOBJ on {kind_of(kind)}, which is not made so; nothing was executed")
        self.handed.append(arguments)
        self.stack.append(Foreign(kind.name))

    def _build(self, target: object, state: object) -> None:
        if isinstance(target, Foreign):
            self.handed.append(state)
            return
        super()._build(target, state)
        if isinstance(target, Buildable) and getattr(target, "array", None) is None:
            self.handed.append(state)

    def _update(self, items: list[Any]) -> None:
        if isinstance(self._top(), Foreign):
            self.handed += items
        else:
            super()._update(items)

    def _key(self, target: dict[Any, Any], key: object) -> object:
        """Return text and whole numbers as they are, and for any other key a token that equals nothing else."""
        if type(key) in (str, int):
            return key
        self._check_hashable(key)
        self.handed.append(key)
        if isinstance(key, Foreign):  # its class decides what it equals, perhaps a key that the dict already has
            self.handed.append(target)
        return Token("a key that is not text")

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self._top(), Foreign):
            self.handed += items
        else:
            super()._extend(items)

    def _op_empty_set(self, _: None) -> None:
        self.stack.append(Unhashable("a set"))

    def _op_additems(self, _: None) -> None:
        items = self._pop_to_mark()
        if not isinstance(self._top(), (Unhashable, Foreign)):
            raise TypeError("an item added to something that is not a set")
        self._keep(items)

    def _op_frozenset(self, _: None) -> None:
        self._keep(self._pop_to_mark())
        self.stack.append(Token("a frozenset"))

    def _keep(self, items: list[Any]) -> None:
        for item in items:
            self._check_hashable(item)
        self.handed += items

    def _push_tuple(self, items: list[Any]) -> None:
        super()._push_tuple(items)
        if not all(map(self._is_hashable, items)):
            self.unhashable[id(self.stack[-1])] = self.stack[-1]

    def _check_hashable(self, key: object) -> None:
        if not self._is_hashable(key):
            raise TypeError("a key or an item of a set that has no hash")

    def _is_hashable(self, value: object) -> bool:
        """Return whether Python could use the value as a key, without a walk, which a file could make endless."""
        if isinstance(value, Buildable):
            return value.HASHABLE
        return not isinstance(value, (list, dict, Unhashable)) and id(value) not in self.unhashable
