"""Entries of a pairing file as TOML text."""

from __future__ import annotations

import json

from align.core.inputs import Input
from align.core.point import Tapped
from convert.pairing.weights import WeightEntry
from convert.rules import KeyRule, Transform


def quoted(text: str) -> str:
    """Return a text as a TOML string, whose escapes are JSON's and one more."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def weight(entry: WeightEntry) -> str:
    """Return the TOML value that says what becomes of a tensor."""
    if entry.to is None:
        return f"{{ drop = {quoted(entry.why_dropped)} }}"
    if entry.transform is Transform.IDENTITY:
        return quoted(entry.to)
    return f"{{ to = {quoted(entry.to)}, transform = {quoted(entry.transform.value)} }}"


def possible(rule: KeyRule) -> tuple[str, str]:
    """Return a tensor's name and the TOML value that says what may become of it."""
    return rule.source, weight(WeightEntry(name=rule.source, to=rule.target, transform=rule.transform))


def given(one: Input) -> str:
    """Return the TOML value that describes a model's input."""
    fields = {"shape": [*one.shape], "dtype": quoted(one.dtype), "between": one.between and [*one.between]}
    return f"{{ {', '.join(f'{key} = {value}' for key, value in fields.items() if value is not None)} }}"


def tapped(at: Tapped) -> str:
    """Return the TOML value for where a point is shown: the layer's name, with the call and item only where needed."""
    if not at.call and at.item is None:
        return quoted(at.module)
    item = f"[{', '.join(map(_step, at.item))}]" if isinstance(at.item, tuple) else _step(at.item)
    fields = {"output": quoted(at.module), "call": at.call and str(at.call), "item": item}
    said = (f"{key} = {value}" for key, value in fields.items() if value)
    return f"{{ {', '.join(said)} }}"


def _step(item: int | str | None) -> str:
    return quoted(item) if isinstance(item, str) else "" if item is None else str(item)
