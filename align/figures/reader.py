"""Plain data read field by field: each has to be present, of its type and within its limits. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from convert.arrays import Shape

LARGEST_SIZE = 1 << 16
LARGEST = 1 << 40
"""Size that every axis of a tensor is below."""


class Malformed(Exception):
    """A field is missing or is not what it has to be; the message says which."""


@dataclass(frozen=True, slots=True)
class Reader:
    """An object of a JSON file, and what to call it in a message."""

    data: Mapping[str, Any]
    name: str

    def section(self, key: str) -> Reader:
        """Return the reader of an object."""
        value = self._value(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return Reader(value, f"{self.name}'s {key}")

    def sections(self, key: str, length: int) -> Iterator[Reader]:
        """Yield the reader of each object in a list of this length."""
        for i, value in enumerate(self._list(key, length)):
            if not isinstance(value, dict):
                raise self._wrong(key, "a list of objects")
            yield Reader(value, f"{self.name}'s {key}[{i}]")

    def each(self, key: str) -> Iterator[Reader]:
        """Return an iterator over the readers of the objects in a list that must not be empty."""
        value = self._value(key)
        if not isinstance(value, list) or not value:
            raise self._wrong(key, "a list that holds something")
        return self.sections(key, len(value))

    def texts(self, key: str) -> dict[str, str]:
        """Return an object whose names and values are strings, as a dict."""
        section = self.section(key)
        return {Reader({"name": name}, section.name).text("name"): section.text(name) for name in section.data}

    def integer(self, key: str, least: int, *, most: int = LARGEST_SIZE) -> int:
        """Return an integer within limits, inclusive."""
        value = self._value(key)
        if type(value) is not int or not least <= value <= most:
            raise self._wrong(key, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str) -> float:
        """Return a finite number."""
        return self._finite(key, self._value(key))

    def number_or_none(self, key: str) -> float | None:
        """Return a finite number, or None where it is null."""
        return None if self._value(key) is None else self.number(key)

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """Return a list of this many finite numbers."""
        return tuple(self._finite(key, value) for value in self._list(key, length))

    def text(self, key: str) -> str:
        """Return a printable string."""
        value = self._value(key)
        if not isinstance(value, str) or not value.isprintable():
            raise self._wrong(key, "a printable text")
        return value

    def text_or_none(self, key: str) -> str | None:
        """Return a printable string, or None where it is null."""
        return None if self._value(key) is None else self.text(key)

    def hexadecimal(self, key: str, length: int) -> str:
        """Return a string of this many lower-case hexadecimal digits."""
        if not re.fullmatch(rf"[0-9a-f]{{{length}}}", self.text(key)):
            raise self._wrong(key, f"{length} hexadecimal digits")
        return self.text(key)

    def one_of(self, key: str, choices: Collection[str]) -> str:
        """Return a string that is one of the choices."""
        if self.text(key) not in choices:
            raise self._wrong(key, " or ".join(choices))
        return self.text(key)

    def shape(self, key: str, shape: Shape | None) -> Shape:
        """Return a shape, which has to equal the given one; None accepts any."""
        value = self._value(key)
        if shape is None and isinstance(value, list) and all(type(n) is int and 0 < n <= LARGEST_SIZE for n in value):
            return tuple(value)
        if shape is None or value != list(shape):
            raise self._wrong(key, "a shape" if shape is None else str(list(shape)))
        return shape

    def sizes(self, key: str) -> Shape:
        """Return any shape; the caller has to make sure that no array of such a size is made."""
        value = self._value(key)
        if not isinstance(value, list) or not all(type(size) is int and 0 < size < LARGEST for size in value):
            raise self._wrong(key, "a shape")
        return tuple(value)

    def _value(self, key: str) -> Any:
        if key not in self.data:
            raise Malformed(f"{self.name} has no {key}")
        return self.data[key]

    def _list(self, key: str, length: int) -> list[Any]:
        value = self._value(key)
        if not isinstance(value, list) or len(value) != length:
            raise self._wrong(key, f"a list of {length}")
        return value

    def _finite(self, key: str, value: Any) -> float:
        if type(value) not in (int, float) or not abs(value) <= 1e300 or not math.isfinite(value):
            raise self._wrong(key, "finite")
        return float(value)

    def _wrong(self, key: str, wanted: str) -> Malformed:
        return Malformed(f"{self.name}'s {key} is {str(self.data[key])[:60]}, not {wanted}")
