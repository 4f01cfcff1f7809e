"""Two models that no order can pair: a sentence that says which side has which layers, and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from align.probes.execution import LayerCall
from align.twins.owners import Order, Owners, counts, in_call_order
from convert.errors import BadInput

LEAST = 0.5
"""What part of either side's layers has to be paired: with fewer of them it is another network."""


def check_pairable(
    owners: Owners, ways: Sequence[Order], calls: tuple[Sequence[LayerCall], Sequence[LayerCall]]
) -> None:
    """Check that there is a way to pair two models: most of their layers, and some of every type that both need.

    Raises:
        BadInput: There is none.
    """
    mine, other = counts(owners)
    most = max((way.pairs for way in ways), key=len)
    missing = {kind: n for kind, n in mine.items() if kind not in other}
    surplus = {kind: n for kind, n in other.items() if kind not in mine}
    unknown = {path for path in owners.reference if owners.kinds[path] is None and path in most}
    only_here = any(kind not in {owners.kind(path) for path in most} for kind in missing) and not unknown
    few = len(most) < LEAST * max(len(owners.reference), len(owners.candidate))
    if not few and not only_here:
        return
    where = _parting(owners, calls)
    raise BadInput(
        f"the models cannot be paired: the reference has {len(owners.reference)} layers that hold tensors "
        f"({_said(mine)}), the candidate {len(owners.candidate)} ({_said(other)}); on the reference's side only: "
        f"{_said(missing) or 'no type'}; on the candidate's only: {_said(surplus) or 'no type'}; {where}. "
        "Is it the same network, of the same arguments?"
    )


def _parting(owners: Owners, calls: tuple[Sequence[LayerCall], Sequence[LayerCall]]) -> str:
    """Return in words where the layers part first, in the order in which they are called."""
    mine, other = (in_call_order(*one) for one in zip((owners.reference, owners.candidate), calls, strict=True))
    for i, (path, there) in enumerate(zip(mine, other, strict=False)):
        if not owners.fits(path, there):
            kinds = owners.kind(path), type(owners.sides[1].layers[there]).__name__
            return f"in the order of calls they part at layer {i + 1}, {path} ({kinds[0]}) and {there} ({kinds[1]})"
    return f"in the order of calls they part at layer {min(len(mine), len(other)) + 1}, where one side ends"


def _said(numbers: Counter[str] | dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(numbers.items()))
