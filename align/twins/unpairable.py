"""Two models that no order can pair: the error that says which layers each side has, and where they part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from align.probes.execution import LayerCall
from align.twins.owners import Order, Owners, counts, in_call_order
from convert.errors import BadInput

LEAST = 0.5
"""Share of the larger side's layers that has to be paired; with fewer, it is another network."""


def check_pairable(
    owners: Owners, ways: Sequence[Order], calls: tuple[Sequence[LayerCall], Sequence[LayerCall]]
) -> None:
    """Check that an order pairs enough of the layers, and leaves out no type that only the reference has.

    Raises:
        BadInput: There is none.
    """
    reference, candidate = counts(owners)
    most = max((way.pairs for way in ways), key=len)
    missing = {kind: n for kind, n in reference.items() if kind not in candidate}
    surplus = {kind: n for kind, n in candidate.items() if kind not in reference}
    unknown = {path for path in owners.reference if owners.kinds[path] is None and path in most}
    only_here = any(kind not in {owners.kind(path) for path in most} for kind in missing) and not unknown
    few = len(most) < LEAST * max(len(owners.reference), len(owners.candidate))
    if not few and not only_here:
        return
    where = _parting(owners, calls)
    raise BadInput(
        f"the models cannot be paired: the reference has {len(owners.reference)} layers that hold tensors "
        f"({_said(reference)}), the candidate {len(owners.candidate)} ({_said(candidate)}); on the reference's side "
        f"only: {_said(missing) or 'no type'}; on the candidate's only: {_said(surplus) or 'no type'}; {where}. "
        "Is it the same network, of the same arguments?"
    )


def _parting(owners: Owners, calls: tuple[Sequence[LayerCall], Sequence[LayerCall]]) -> str:
    """Return in words where the two sides' layers first differ, in call order."""
    reference, candidate = (
        in_call_order(*one) for one in zip((owners.reference, owners.candidate), calls, strict=True)
    )
    for i, (path, counterpart) in enumerate(zip(reference, candidate, strict=False)):
        if not owners.fits(path, counterpart):
            kinds = owners.kind(path), type(owners.sides[1].layers[counterpart]).__name__
            return (
                f"in the order of calls they part at layer {i + 1}, {path} ({kinds[0]}) and {counterpart} ({kinds[1]})"
            )
    return f"in the order of calls they part at layer {min(len(reference), len(candidate)) + 1}, where one side ends"


def _said(numbers: Counter[str] | dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(numbers.items()))
