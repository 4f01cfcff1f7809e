"""A pairing: which module of the candidate stands for which of the reference, and where it shows each point. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from align.core.bounds import Accepted
from align.core.inputs import Input
from align.core.point import Point, Tapped
from convert.errors import BadInput
from convert.naming import matcher, number_groups
from convert.pairing.weights import WeightTable
from convert.rules import KeyRule, RuleSet


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How a candidate's names correspond to the reference's; {i} stands for any number, the same throughout an entry.

    place: What to call the pairing in a sentence. modules: From the reference's modules to the candidate's; what lies
    below a module moves with it, the longest entry that fits applies, and what no entry fits keeps its name. weights:
    What becomes of every tensor of the reference's checkpoint, if the file says so. points: Where the candidate shows
    a point, if not where its name leads. left_out: The points that the candidate does not show, and why. not_covered:
    The candidate's parameters that no compared point covers, and why that is accepted. accepted: Points whose
    difference is accepted. inputs: What the models are given, if that is not one image.
    """

    place: str = "the names"
    modules: Mapping[str, str] = field(default_factory=dict)
    weights: WeightTable | None = None
    points: Mapping[str, Tapped] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    not_covered: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()

    def name(self, path: str) -> str:
        """Return the candidate's name for a module or parameter of the reference."""
        found = self._rule(path)
        if found is None:
            return path
        match, target = found
        return target.format(**match.groupdict()) + path[match.end() :]

    def rules(self, rules: RuleSet) -> RuleSet:
        """Return the rules with their targets renamed as the candidate names them.

        Raises:
            BadInput: Two rules would have the same target.
        """
        renamed = [KeyRule(source=r.source, target=self.name(r.target), transform=r.transform) for r in rules]
        targets = Counter(rule.target for rule in renamed)
        if twice := next((target for target, count in targets.items() if count > 1), None):
            raise BadInput(f"{self.place}: two parameters would be {twice}. Correct [modules].")
        return RuleSet(tuple(renamed))

    def tapped(self, point: str) -> Tapped | None:
        """Return where the candidate shows a point; None unless the pairing itself says so."""
        for pattern, tapped in self.points.items():
            if match := matcher(pattern).fullmatch(point):
                return replace(tapped, module=tapped.module.format(**match.groupdict()))
        return None

    def why_left_out(self, point: str) -> str | None:
        """Return why the candidate does not show a point; None where it does."""
        return next((why for pattern, why in self.left_out.items() if matcher(pattern).fullmatch(point)), None)

    def accepted_among(self, points: Iterable[str]) -> dict[str, Accepted]:
        """Return the difference that is accepted at each of the points that has one."""
        return {
            name: accepted
            for name in points
            for pattern, accepted in self.accepted.items()
            if matcher(pattern).fullmatch(name)
        }

    def not_covered_among(self, parameters: Iterable[str]) -> dict[str, str]:
        """Return which of the candidate's parameters may lie outside every compared point, and why."""
        return {
            name: why
            for name in parameters
            for pattern, why in self.not_covered.items()
            if matcher(pattern).fullmatch(name)
        }

    def check(self, known: Collection[str], points: Collection[str], candidate: Collection[str]) -> None:
        """Check that every entry applies to something.

        Args:
            known: Modules and parameters of the reference.
            points: The comparison points.
            candidate: Modules and parameters of the candidate.

        Raises:
            BadInput: An entry applies to nothing.
        """
        fired = [found for path in known if (found := self._rule(path)) is not None]
        patterns = {match.re.pattern for match, _ in fired}
        self._refuse("modules", [p for p in self.modules if _prefix(p).pattern not in patterns], "the reference")
        targets = {target.format(**match.groupdict()) for match, target in fired}
        self._refuse("modules", sorted(targets - set(candidate)), "the candidate")
        for table, entries, names, owner in (
            ("points", self.points, points, "the comparison"),
            ("left-out", self.left_out, points, "the comparison"),
            ("accepted", self.accepted, points, "the comparison"),
            ("not-covered", self.not_covered, candidate, "the candidate"),
        ):
            idle = [pattern for pattern in entries if not any(map(matcher(pattern).fullmatch, names))]
            self._refuse(table, idle, owner)

    def _refuse(self, table: str, idle: list[str], owner: str) -> None:
        if idle:
            raise BadInput(
                f"{self.place}: [{table}] {idle[0]}: there is no such name in {owner}, or a longer entry takes it. "
                "Correct it, or take it out."
            )

    def _rule(self, path: str) -> tuple[re.Match[str], str] | None:
        """Return the match of the longest entry that fits, and the entry's target; None if none fits."""
        matches = ((match, target) for rule, target in self._by_length if (match := rule.match(path)))
        return next(matches, None)

    @cached_property
    def _by_length(self) -> list[tuple[re.Pattern[str], str]]:
        longest_first = sorted(self.modules, key=lambda pattern: -pattern.count("."))
        return [(_prefix(pattern), self.modules[pattern]) for pattern in longest_first]


def paired(points: Iterable[tuple[Point, Iterable[Tapped]]], pairing: Pairing, modules: Collection[str]) -> Paired:
    """Return the points, each with where the candidate shows it, and those that it does not show, and why.

    Args:
        points: Each with the places where a model with the reference's names shows it, the best first.
        pairing: How the names correspond.
        modules: The candidate's modules.

    Raises:
        BadInput: The pairing names a module that the candidate does not have.
    """
    found: list[Point] = []
    left_out: dict[str, str] = {}
    behind_a_gap = False
    for point, places in points:
        if why := pairing.why_left_out(point.name):
            left_out[point.name], behind_a_gap = why, True
            continue
        stated = pairing.tapped(point.name)
        if stated is not None and stated.module not in modules:
            raise BadInput(
                f"{pairing.place}: [points] {point.name}: the candidate has no module {stated.module}. Correct it."
            )
        renamed = [replace(place, module=pairing.name(place.module)) for place in places]
        tapped = stated or next((place for place in renamed if place.module in modules), None)
        if tapped is None:
            left_out[point.name], behind_a_gap = f"the candidate has no module {renamed[0].module}", True
        else:
            found.append(replace(point.behind_a_gap if behind_a_gap else point, candidate=tapped))
            behind_a_gap = False
    return Paired(points=tuple(found), left_out=left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The points that both sides show, and those that the candidate does not, and why."""

    points: tuple[Point, ...]
    left_out: Mapping[str, str]


def _prefix(pattern: str) -> re.Pattern[str]:
    """Return a pattern that matches a name, or the beginning of one up to a dot."""
    return re.compile(number_groups(pattern) + r"(?=\.|$)")
