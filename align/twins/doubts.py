"""What a proposed pairing leaves open: what no run has tried, and what has no counterpart or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from align.twins.propose import Proposal
from align.twins.toml_text import possible, quoted
from convert.rules import Transform

LAYOUTS = (Transform.IDENTITY, Transform.TRANSPOSE)
MOST_POSSIBLE = 3
"""Most layers of the candidate's that are written out as possible counterparts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What a person has to decide, and why.

    table: The pairing file's table it is about. keys: The reference's tensors concerned. ways: The possible entries.
    """

    table: str
    sentence: str
    keys: tuple[str, ...] = ()
    ways: tuple[tuple[str, str], ...] = ()


def doubts_of(proposal: Proposal) -> list[Doubt]:
    """Return what a proposal leaves open."""
    return [*_without_counterpart(proposal), *_unclear(proposal), *_never_called(proposal), *_surplus(proposal)]


def _without_counterpart(proposal: Proposal) -> Iterator[Doubt]:
    """Yield a doubt for each reference layer that is paired with no candidate layer."""
    draft = proposal.best.draft
    owners, taken = draft.owners, {*draft.pairs.values()}
    for path in owners.reference:
        if path in draft.pairs or path in draft.idle:
            continue
        kind, keys = owners.kinds[path], tuple(owners.sides[0].held_by(path).values())
        fitting = [other for other in owners.candidate if other not in taken and owners.fits(path, other)]
        ways = [
            possible(rule)
            for other in fitting[:MOST_POSSIBLE]
            if (fit := owners.fit(path, other)) is not None
            for rule in fit.rules
        ]
        why = (kind.why_not if kind else "") or (
            f"{len(fitting)} layers of the candidate's may be it, in no order that agrees"
            if fitting
            else "no layer of the candidate's is left that holds such tensors"
        )
        said = f"{path or 'the model itself'} ({owners.kind(path)}) is paired with nothing: {why}"
        yield Doubt(table="weights", sentence=said, keys=keys, ways=(*ways, *((key, '{ drop = "…" }') for key in keys)))


def _unclear(proposal: Proposal) -> Iterator[Doubt]:
    """Yield a doubt for each tensor whose shape leaves its layout open, unless a run has shown the chosen one right."""
    draft = proposal.best.draft
    if proposal.best.agrees:
        return
    for path, fit in draft.fits.items():
        for rule in (rule for rule in fit.rules if rule.source in fit.unclear):
            shape, kind = draft.owners.sides[0].shapes[rule.source], draft.owners.kind(path)
            fitting = (way for way in LAYOUTS if way.shape(shape) == rule.transform.shape(shape))
            ways = tuple(possible(replace(rule, transform=way)) for way in fitting)
            said = f"{rule.source} ({shape}) is in a layer {kind}, and its shape leaves several layouts or places"
            yield Doubt(table="weights", sentence=said, keys=(rule.source,), ways=ways)


def _never_called(proposal: Proposal) -> Iterator[Doubt]:
    """Yield a doubt for each paired layer that is never called and could as well go with another."""
    draft = proposal.best.draft
    called = {call.path for call in proposal.bench.calls[0]}
    idle = {path: other for path, other in draft.pairs.items() if path not in called}
    alike = Counter(path for path in idle for other in idle.values() if draft.owners.fits(path, other))
    for path, other in idle.items():
        if alike[path] > 1 and path != other:
            fit = draft.fits[path]
            keys = (
                *(rule.source for rule in fit.rules),
                *(k for k in draft.owners.sides[0].held_by(path).values() if k in draft.dropped),
            )
            ways = tuple(map(possible, fit.rules))
            said = f"{path} is never called here, and {alike[path]} of the candidate's layers that are not may be it"
            yield Doubt(table="weights", sentence=said, keys=keys, ways=ways)


def _surplus(proposal: Proposal) -> Iterator[Doubt]:
    """Yield a doubt for each candidate layer that is paired with no reference layer."""
    draft = proposal.best.draft
    for path in draft.owners.candidate:
        if path not in {*draft.pairs.values()}:
            before = f"{path}." if path else ""
            keys = [before + name for name in draft.owners.held(path)]
            said = f"nothing of the reference's goes with the candidate's {path or 'own tensors'}"
            yield Doubt(table="not-covered", sentence=said, ways=tuple((key, quoted("…")) for key in keys))
