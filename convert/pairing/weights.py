"""The table [weights] of a pairing file: what becomes of every tensor of the reference's checkpoint."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from convert.errors import BadInput, printable
from convert.naming import NUMBER, matcher
from convert.pairing.file import PairingFile, check_placeholders, malformed
from convert.rules import KeyRule, RuleSet, Transform

TABLE = "weights"
FIELDS = ("to", "transform", "drop")
TOUCHING = re.compile(r"\}\d*\{")
"""Two placeholders with nothing but digits between them, so that nothing tells which digit belongs to which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightEntry:
    """What becomes of the tensors whose name matches: a new name (to) and a transform, or why they are dropped."""

    name: str
    to: str | None = None
    transform: Transform = Transform.IDENTITY
    why_dropped: str = ""


@dataclass(frozen=True, kw_only=True)
class WeightTable:
    """The key mapping of a pairing file; {i} stands for any number, the same throughout an entry.

    A key that is the very name of an entry is taken by that entry, every other key by the one pattern that matches.

    place: What to call the file in a sentence.
    """

    place: str
    entries: Sequence[WeightEntry]

    @property
    def rows(self) -> list[KeyRule]:
        """The entries that drop no tensors, as rules with placeholders."""
        return [KeyRule(source=e.name, target=e.to, transform=e.transform) for e in self.entries if e.to is not None]

    def rules_for(self, keys: Collection[str]) -> tuple[RuleSet, dict[str, str]]:
        """Return the rules for the reference's keys, in their order, and by dropped key the reason why it is dropped.

        Raises:
            BadInput: No entry takes a key, or two patterns do; an entry takes none; or two keys would become one.
        """
        return self._rules(keys, self.entries)

    def rules_back(self, keys: Collection[str]) -> RuleSet:
        """Return the rules that lead from the candidate's keys to the reference's, in the candidate's order.

        Raises:
            BadInput: As `rules_for` says, except that an entry that drops tensors need not take any.
        """
        sources = {key: other for key in keys for _, other in [self._taken(self._backward, key)] if other is not None}
        rules, _ = self._rules(sources.values(), [entry for entry in self.entries if entry.to is not None])
        filled = {rule.target: rule.source for rule in rules}
        for key, source in sources.items():
            if filled.get(key) != source:
                raise self._refusal(key, f"it would become {source}, which another entry takes")
        return rules.inverse

    def _rules(self, keys: Iterable[str], to_fire: Iterable[WeightEntry]) -> tuple[RuleSet, dict[str, str]]:
        taken = {key: self._taken(self._forward, key) for key in keys}
        fired = {entry.name for entry, _ in taken.values()}
        if idle := next((entry.name for entry in to_fire if entry.name not in fired), None):
            rest = ", or none without an entry of its own" if NUMBER.search(idle) else ""
            raise self._refusal(idle, f"this entry takes no tensor{rest}")
        rules = tuple(
            KeyRule(source=key, target=target, transform=entry.transform)
            for key, (entry, target) in taken.items()
            if target is not None
        )
        counts = Counter(rule.target for rule in rules)
        if twice := next((target for target, count in counts.items() if count > 1), None):
            one, other, *_ = (rule.source for rule in rules if rule.target == twice)
            raise self._refusal(one, f"it would become {twice}, as {other} would")
        return RuleSet(rules), {key: entry.why_dropped for key, (entry, target) in taken.items() if target is None}

    def _taken(self, lookup: _Lookup, key: str) -> tuple[WeightEntry, str | None]:
        """Return the entry that takes a key, and the name that the key becomes; None: it is dropped."""
        found = list(lookup.fitting(key))
        if not found:
            raise self._refusal(key, "no entry takes this tensor")
        if len(found) > 1:
            one, other, *_ = (entry.name for entry, _ in found)
            raise self._refusal(key, f"{one} and {other} both take this tensor")
        return found[0]

    @cached_property
    def _forward(self) -> _Lookup:
        return _Lookup((entry.name, entry.to, entry) for entry in self.entries)

    @cached_property
    def _backward(self) -> _Lookup:
        return _Lookup((entry.to, entry.name, entry) for entry in self.entries if entry.to is not None)

    def _refusal(self, key: str, what: str) -> BadInput:
        return BadInput(f"{self.place}: [{TABLE}] {printable(key)}: {printable(what)}. Correct the pairing file.")


class _Lookup:
    """A lookup of the entries that match a name.

    Args:
        rows: For each entry, the name to look up, the name that it becomes, and the entry itself.
    """

    def __init__(self, rows: Iterable[tuple[str, str | None, WeightEntry]]) -> None:
        rows = list(rows)
        self._literal = {name: (entry, other) for name, other, entry in rows if not NUMBER.search(name)}
        self._patterns = [(matcher(name), other, entry) for name, other, entry in rows if NUMBER.search(name)]

    def fitting(self, name: str) -> Iterator[tuple[WeightEntry, str | None]]:
        """Yield the entries that match a name, and the name it becomes; if a literal one matches, that one alone."""
        if name in self._literal:
            yield self._literal[name]
            return
        for pattern, other, entry in self._patterns:
            if match := pattern.fullmatch(name):
                yield entry, None if other is None else other.format(**match.groupdict())


def weights_of(file: PairingFile) -> WeightTable | None:
    """Return the table [weights] of a pairing file; None if it has none.

    Raises:
        Unreadable: An entry is malformed, or two become the same name.
    """
    if not file.tables[TABLE]:
        return None
    entries = [_entry(file.path, name, value) for name, value in file.tables[TABLE].items()]
    seen = dict[str, str]()
    for entry in entries:
        if entry.to is not None and (other := seen.setdefault(entry.to, entry.name)) != entry.name:
            raise malformed(file.path, f"[{TABLE}] {entry.name}: it becomes {entry.to!r}, as {other!r} does")
    return WeightTable(place=str(file.path), entries=entries)


def _entry(path: Path, name: str, value: Any) -> WeightEntry:
    """Return an entry, whose value is the candidate's name or a table that says more."""
    place, fields = f"[{TABLE}] {name}", {"to": value} if isinstance(value, str) else value
    if not isinstance(fields, dict):
        raise malformed(path, f"{place}: {value!r} is neither a name nor a table")
    if unknown := fields.keys() - {*FIELDS}:
        hint = "; a name with dots has to stand in quotes" if not fields.keys() & {*FIELDS} else ""
        raise malformed(path, f"{place}: there is no {min(unknown)!r}; there are {', '.join(FIELDS)}{hint}")
    if bad := next((field for field, text in fields.items() if not isinstance(text, str) or not text.strip()), None):
        raise malformed(path, f"{place}: {bad} has to be a text that is not empty")
    if ("drop" in fields) == ("to" in fields) or ("drop" in fields and "transform" in fields):
        raise malformed(path, f"{place}: it has to have either to, with or without transform, or drop")
    if "drop" in fields:
        return WeightEntry(name=name, why_dropped=fields["drop"])
    check_placeholders(path, TABLE, name, fields["to"])
    check_placeholders(path, TABLE, fields["to"], name)
    if TOUCHING.search(name) or TOUCHING.search(fields["to"]):
        raise malformed(path, f"{place}: two placeholders touch, so that nothing says where a number ends")
    transform = fields.get("transform", Transform.IDENTITY.value)
    known = {one.value: one for one in Transform}
    if transform not in known:
        raise malformed(path, f"{place}: there is no transform {transform!r}; there are {', '.join(known)}")
    return WeightEntry(name=name, to=fields["to"], transform=known[transform])
