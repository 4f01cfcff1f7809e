"""A pickle interpreted without executing anything: split by the standard library, carried out by a small machine.

Unpickling runs whatever the file says. Here `pickletools` splits the file into opcodes, and only those that arrays and
plain containers need are carried out. What a file calls by name is looked up in a table of stand-ins of our own; a name
that is not in the table is refused. The result is at most a small multiple of the file's size.

Where unpicklers differ, or allow what no pickler writes, the pickle is refused, so what is read here has one meaning.
Source: CPython, Lib/pickletools.py and Modules/_pickle.c.
"""

from __future__ import annotations

import collections
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from convert.files.pickles.pickle_source import PickleBytes
from convert.files.pickles.pickle_values import Buildable, Call, Damaged, Refused, StandIns, Token

OPCODE_LIMIT = 500_000
"""Each opcode makes at most one object. A CIFAR-10 batch has 50,000, a Mixer of 24 blocks with its optimizer 60,000."""
DEPTH_LIMIT = 32
"""Levels to which containers may be nested. A training checkpoint has 5."""
LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
PROTOCOLS = range(2, 6)
PYTHON2_TEXT = {"SHORT_BINSTRING", "BINSTRING"}
"""Opcodes of Python 2's `str`, which pickletools returns as latin-1 text, one character per byte."""
PYTHON2_BUILTINS = "__builtin__"
"""The name of `builtins` in pickles of protocol 2. In later protocols there is no module of that name."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
ATTRIBUTES = ["_metadata"]
"""The attributes that an OrderedDict may have, which are not read: torch notes modules' versions there. An attribute
called `items` would change what another program takes out of the dict."""


class Machine:
    """A pickle machine without imports, calls or attributes: a stack, a memo, and a table of stand-ins.

    Args:
        reader: The pickle.
        stand_ins: What the names in it stand for, by module and name.
        room: Bytes that the arrays and byte strings that are made may have in all.
        persistent: Returns the object for a persistent id; without it such ids are refused.
        python2: Whether to accept Python 2's `str`, and bytes as keys, which Python 3 writes for what it read from
            Python 2; both are returned as latin-1 text.
    """

    def __init__(
        self,
        reader: PickleBytes,
        stand_ins: StandIns,
        *,
        room: int,
        persistent: Callable[[Any], Any] | None = None,
        python2: bool = False,
    ) -> None:
        self.reader, self.stand_ins, self.room = reader, stand_ins, room
        self.persistent, self.python2 = persistent, python2
        self.literals = LITERALS | PYTHON2_TEXT if python2 else LITERALS
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.depths: dict[int, int] = {}
        self.protocol = 0

    def run(self) -> object:
        """Return the one object that the pickle describes.

        Raises:
            Refused: It asks for something that the tensors of a checkpoint do not need.
            Damaged: It is cut off or makes no sense.
        """
        try:
            for count, (opcode, arg, _) in enumerate(pickletools.genops(self.reader)):  # type: ignore[arg-type]
                if count >= OPCODE_LIMIT:
                    raise Refused(f"its pickle has more than {OPCODE_LIMIT:,} opcodes")
                if opcode.proto > self.protocol and count:
                    raise Refused(f"its pickle says protocol {self.protocol} and uses {opcode.name}, which is newer")
                if (opcode.name == "PROTO") != (count == 0):
                    raise Refused("its pickle does not say its protocol once, at the begin")
                self._step(opcode.name, arg)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise Damaged(str(error)) from error
        if self.reader.tell() != len(self.reader):
            raise Refused("there is more after the end of its pickle")
        if len(self.stack) != 1 or self.marks:
            raise Refused("its pickle leaves more than one object")
        return self.stack[0]

    def _step(self, name: str, arg: Any) -> None:
        if name in self.literals:
            self.stack.append(arg)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in ACTIONS:
            ACTIONS[name](self, arg)
        elif (action := getattr(self, f"_op_{name.lower()}", None)) is not None:
            action(arg)
        else:
            raise Refused(f"its pickle uses {name}, which plain arrays do not need; nothing was executed")

    def _top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise IndexError("stack underflow")
        return self.stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise IndexError("stack underflow")
        items, self.stack[-count:] = self.stack[-count:], []
        return items

    def _hold(self, container: Any, items: list[Any]) -> Any:
        """Record how deep a container is with these items; the recorded depth of each spares a walk."""
        inside = max((self.depths[id(item)] for item in items if isinstance(item, (tuple, list, dict))), default=0)
        depth = max(self.depths.get(id(container), 1) if isinstance(container, (list, dict)) else 1, inside + 1)
        if depth > DEPTH_LIMIT:
            raise Refused(f"its objects lie more than {DEPTH_LIMIT} deep in each other")
        self.depths[id(container)] = depth
        return container

    def _push_tuple(self, items: list[Any]) -> None:
        self.stack.append(self._hold(tuple(items), items))

    def _push_empty(self, container: Any) -> None:
        self.depths[id(container)] = 1
        self.stack.append(container)

    def _op_proto(self, arg: int) -> None:
        if arg not in PROTOCOLS:
            raise Refused(f"its pickle says protocol {arg}, which there is none of")
        self.protocol = arg

    def _op_frame(self, arg: int) -> None:
        if arg > len(self.reader) - self.reader.tell():
            raise Damaged("a frame that is longer than what remains")

    def _update(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict):
            raise TypeError("an entry set in something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = self._key(target, key)
            if name in target:
                raise Refused(f"it holds {name!r} twice")
            target[name] = value
        self._hold(target, items[1::2])

    def _key(self, target: dict[Any, Any], key: object) -> object:
        """Return the key to store; it is neither hashed nor printed before it is known to be text or a whole number."""
        name = key.decode("latin-1") if self.python2 and isinstance(key, bytes) else key
        if type(name) not in (str, int):
            raise Refused("it has a key that is not text")
        return name

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise TypeError("append to something that is not a list")
        target.extend(items)
        self._hold(target, items)

    def _op_global(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        self._push_global(module, name)

    def _push_global(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise Refused("it asks for something by a name that is not text")
        known = self.stand_ins.get((module, name)) if module != PYTHON2_BUILTINS or self.protocol < 3 else None
        self.stack.append(self._unknown(module, name) if known is None else known)

    def _unknown(self, module: str, name: str) -> Token:
        """Return what to push for a name that is not in the table; this machine refuses it."""
        raise Refused(f"it asks for {module}.{name}, which plain arrays do not need; nothing was executed")

    def _op_binpersid(self, arg: None) -> None:
        if self.persistent is None:
            raise Refused("its pickle uses BINPERSID, which plain arrays do not need; nothing was executed")
        self.stack.append(self.persistent(*self._pop(1)))

    def _op_reduce(self, arg: None) -> None:
        function, arguments = self._pop(2)
        if not isinstance(arguments, tuple):
            raise TypeError("arguments that are no tuple")
        made = self._call(function, arguments)
        if isinstance(made, tuple):
            self._hold(made, list(made))
        elif isinstance(made, dict):
            self.depths[id(made)] = 1
        self._spend(made)
        self.stack.append(made)

    def _call(self, function: object, arguments: tuple[Any, ...]) -> object:
        if not isinstance(function, Call):
            raise Refused("it calls something that is not a function")
        return function.function(*arguments)

    def _op_build(self, arg: None) -> None:
        target, state = self._pop(2)
        self._build(target, state)
        self.stack.append(target)

    def _build(self, target: object, state: object) -> None:
        if isinstance(target, Buildable):
            target.build(state)
            self._spend(getattr(target, "array", None))
        elif not isinstance(target, collections.OrderedDict):
            raise Refused("it sets the state of something that is not an array")
        elif not isinstance(state, dict) or list(state) != ATTRIBUTES:
            raise Refused("it sets attributes of an OrderedDict, which other programs may take for its methods")

    def _spend(self, made: object) -> None:
        self.room -= len(made) if isinstance(made, bytes) else made.nbytes if isinstance(made, np.ndarray) else 0
        if self.room < 0:
            raise Refused("it spells more data than a file of its size can hold")

    def _remember(self, index: int) -> None:
        self.memo[index] = self._top()


ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "STOP": lambda _, __: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "EMPTY_DICT": lambda machine, _: machine._push_empty({}),
    "EMPTY_LIST": lambda machine, _: machine._push_empty([]),
    "EMPTY_TUPLE": lambda machine, _: machine._push_empty(()),
    "TUPLE": lambda machine, _: machine._push_tuple(machine._pop_to_mark()),
    "TUPLE1": lambda machine, _: machine._push_tuple(machine._pop(1)),
    "TUPLE2": lambda machine, _: machine._push_tuple(machine._pop(2)),
    "TUPLE3": lambda machine, _: machine._push_tuple(machine._pop(3)),
    "SETITEM": lambda machine, _: machine._update(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine._update(machine._pop_to_mark()),
    "APPEND": lambda machine, _: machine._extend(machine._pop(1)),
    "APPENDS": lambda machine, _: machine._extend(machine._pop_to_mark()),
    "MEMOIZE": lambda machine, _: machine._remember(len(machine.memo)),
    "BINPUT": lambda machine, index: machine._remember(index),
    "LONG_BINPUT": lambda machine, index: machine._remember(index),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "STACK_GLOBAL": lambda machine, _: machine._push_global(*machine._pop(2)),
}
"""What an opcode does, by its name; those that take more than a line are the machine's methods."""
