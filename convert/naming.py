"""The names in a family's checkpoints, in each layout, and the prefixes that may stand before them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from convert.rules import KeyRule

NUMBER = re.compile(r"\{([a-z]\w*)\}")
"""A placeholder: {i} stands for any number, the same wherever it recurs in a name."""
NOTHING = r"(?!)"
PREFIXES = 4
"""Number of prefixes to try, the most frequent first: a file may consist of nothing but candidates."""


class Naming:
    """The names of a family's layouts.

    Args:
        layouts: By layout, the rules whose targets are its names; {i} in a name stands for any number.
        marks: Names outside the blocks, of any layout, by which the prefix before all names is found.
        complete: Whether every tensor is to be taken, counters included.
    """

    def __init__(
        self, layouts: Mapping[Any, Iterable[KeyRule]], marks: Collection[str], *, complete: bool = False
    ) -> None:
        self.layouts, self.marks, self.complete = layouts, tuple(marks), complete

    def nearest(self, keys: Collection[str], layouts: Iterable[Any]) -> Any:
        """Return the layout whose names match the most keys; the first of them in a tie."""
        return max(layouts, key=lambda layout: sum(map(self._matches[layout], keys)))

    def known(self, keys: Collection[str]) -> int:
        """Return how many of the keys are names of the layout whose names match the most of them."""
        return max((sum(map(matches, keys)) for matches in self._matches.values()), default=0)

    def common_prefix(self, keys: Collection[str]) -> str:
        """Return the prefix before every name of a layout, such as `model.` or `params/`; empty if there is none.

        It ends with a dot or a slash. Without it no two keys become one, and more of them are names, at least half.
        """
        gained = {
            prefix: self.known([key.removeprefix(prefix) for key in keys]) for prefix in self._prefixes(keys) if prefix
        }
        best = max(sorted(gained, key=len), key=lambda prefix: gained[prefix], default="")
        stripped, bare = {key.removeprefix(best) for key in keys}, [key for key in keys if not key.startswith(best)]
        if not best or len(stripped) < len(keys) or self.known(bare) or 2 * gained[best] < len(keys):
            return ""
        return best if self.known(keys) < gained[best] else ""

    def prefixes_of_several(self, keys: Collection[str]) -> list[str]:
        """Return the prefixes of the names of several models in one mapping; none if there is only one model.

        A model counts if it has at least half the names of the largest: a layer in a model may be named like a mark.
        """
        sizes = {
            prefix: self.known([key.removeprefix(prefix) for key in keys if key.startswith(prefix)])
            for prefix in self._prefixes(keys)
        }
        found = [prefix for prefix, size in sizes.items() if 2 * size >= max(sizes.values())]
        return sorted(found) if len(found) > 1 else []

    def holds_weights(self, keys: Collection[str]) -> bool:
        """Return whether there are names of a layout among the keys, with or without a prefix."""
        return self.known(keys) > 0 or bool(self.common_prefix(keys))

    def _prefixes(self, keys: Collection[str]) -> list[str]:
        """Return the prefixes that a model's names may have, the most frequent first."""
        ends = Counter(key[: -len(mark)] for key in keys for mark in self.marks if key.endswith(mark))
        return [end for end, _ in ends.most_common(PREFIXES) if end == "" or end.endswith((".", "/"))]

    @cached_property
    def _matches(self) -> dict[Any, Callable[[str], bool]]:
        """By layout, a function that tells whether a key is one of its names."""
        return {layout: _one_of(rule.target for rule in rules) for layout, rules in self.layouts.items()}


def _one_of(names: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether a key is one of the names."""
    split = [NUMBER.split(name)[::2] for name in names]
    literal = {name for name, *others in split if not others}
    patterns = "|".join("[0-9]+".join(map(re.escape, parts)) for parts in split if len(parts) > 1)
    matches = re.compile(patterns or NOTHING).fullmatch
    return lambda key: key in literal or matches(key) is not None


def matcher(pattern: str) -> re.Pattern[str]:
    """Return a regular expression for names with numbers for the placeholders, each a group of its name."""
    return re.compile(number_groups(pattern))


def number_groups(pattern: str) -> str:
    """Return a pattern as the text of a regular expression; a placeholder that recurs stands for the same number."""
    seen: set[str] = set()
    parts = NUMBER.split(pattern)
    expression = ""
    for i, part in enumerate(parts):
        if i % 2 == 0:
            expression += re.escape(part)
        else:
            expression += rf"(?P={part})" if part in seen else rf"(?P<{part}>[0-9]+)"
            seen.add(part)
    return expression
