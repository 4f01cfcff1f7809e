"""Plain data read field by field: each has to be there, of its type and within its limits. Pure."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from convert.arrays import Shape
from convert.mixer.shapes import parameter_count
from convert.mixer.variants import MixerConfig

LARGEST_SIZE = 1 << 16
MOST_ELEMENTS = 1 << 31
"""Of all parameters, or of a batch of images: a file must not ask for any amount. L/16 has 2^28 parameters."""

FAMILIES = ("mixer", "gmixer", "resmlp", "gmlp")
GELUS = ("erf", "tanh")


class Malformed(Exception):
    """A field that is missing, or is not what it has to be; the text says which."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reader:
    """An object of a JSON file, and what to call it."""

    data: Mapping[str, Any]
    name: str

    def section(self, key: str) -> Reader:
        """Return an object."""
        value = self._value(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return Reader(value, f"{self.name}'s {key}")

    def sections(self, key: str, length: int) -> Iterator[Reader]:
        """Return the objects of a list of this length."""
        for i, value in enumerate(self._list(key, length)):
            if not isinstance(value, dict):
                raise self._wrong(key, "a list of objects")
            yield Reader(value, f"{self.name}'s {key}[{i}]")

    def integer(self, key: str, least: int, *, most: int = LARGEST_SIZE) -> int:
        """Return a whole number within limits."""
        value = self._value(key)
        if type(value) is not int or not least <= value <= most:
            raise self._wrong(key, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str) -> float:
        """Return a finite number."""
        return self._finite(key, self._value(key))

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """Return a list of this many finite numbers."""
        return tuple(self._finite(key, value) for value in self._list(key, length))

    def text(self, key: str) -> str:
        """Return a text."""
        value = self._value(key)
        if not isinstance(value, str) or not value.isprintable():
            raise self._wrong(key, "a printable text")
        return value

    def text_or_none(self, key: str) -> str | None:
        """Return a text, or None where it is null."""
        return None if self._value(key) is None else self.text(key)

    def hexadecimal(self, key: str, length: int) -> str:
        """Return a text of so many lower-case hexadecimal digits."""
        if not re.fullmatch(rf"[0-9a-f]{{{length}}}", self.text(key)):
            raise self._wrong(key, f"{length} hexadecimal digits")
        return self.text(key)

    def one_of(self, key: str, choices: Collection[str]) -> str:
        """Return a text that is one of the choices."""
        if self.text(key) not in choices:
            raise self._wrong(key, " or ".join(choices))
        return self.text(key)

    def shape(self, key: str, shape: Shape) -> Shape:
        """Return a shape, which has to be this one."""
        if self._value(key) != list(shape):
            raise self._wrong(key, str(list(shape)))
        return shape

    def fields_of(self, config: type[MixerConfig]) -> dict[str, Any]:
        """Return the fields of a config, neither more nor fewer."""
        names = [field.name for field in dataclasses.fields(config)]
        if set(names) != self.data.keys():
            raise Malformed(f"{self.name} has the fields {', '.join(sorted(self.data))[:200]}")
        readers: dict[str, Any] = {
            "layer_norm_eps": lambda: self.number("layer_norm_eps"),
            "gelu": lambda: self.one_of("gelu", GELUS),
            "family": lambda: self.one_of("family", FAMILIES),
            "tokens_mlp_dim": lambda: self.integer("tokens_mlp_dim", 0),
        }
        return {name: readers[name]() if name in readers else self.integer(name, 1) for name in names}

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


def check_config(config: MixerConfig, batch: int) -> None:
    """Check that a config is one that a model can have, of a size that can be held.

    Raises:
        Malformed: It is not.
    """
    mixes_tokens = config.family in ("mixer", "gmixer")
    gated = config.family in ("gmixer", "gmlp")
    consistent = (
        config.image_size % config.patch_size == 0
        and (config.tokens_mlp_dim > 0) == mixes_tokens
        and not (gated and (config.tokens_mlp_dim % 2 or config.channels_mlp_dim % 2))
        and 0 < config.layer_norm_eps < 1
    )
    if not consistent:
        raise Malformed("its config is none that a vision MLP has")
    images = batch * config.in_chans * config.image_size**2
    if config.num_blocks > 1000 or max(images, parameter_count(config)) > MOST_ELEMENTS:
        raise Malformed("its config asks for more memory than any vision MLP that we know")
