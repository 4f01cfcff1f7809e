"""How a pair is compared: by its names, or else by a proposed pairing; then with known differences dealt with."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pairs.listed import Pair
from pairs.record import ACCEPTED, ALIGNED, DIFFERS, NOT_PAIRED, Cause, Compared, Entry

from align.core.bounds import Accepted
from align.core.case import Case
from align.core.compare import LayerDiff
from align.core.result import AlignmentResult
from align.pairing.file import read_pairing
from align.run import align
from align.twins.case import Twins, case_of_twins
from align.twins.doubts import doubts_of
from align.twins.proposal_file import text, write
from align.twins.propose import propose
from convert.errors import BadInput

SOUND = ("aligned", "rounding")
"""Verdicts that say the function is the same; `rounding`: float32 cannot meet the headline's own bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A comparison and what it was made from; case and result are None where the models could not be paired."""

    compared: Compared
    twins: Twins
    case: Case | None = None
    result: AlignmentResult | None = None


def entry_of(pair: Pair, twins: Twins) -> tuple[Entry, Run]:
    """Return the entry of a pair, and its last comparison.

    Args:
        pair: What is known about it.
        twins: Its models; the candidate is mended in place, where there is a mend and the sides differ.
    """
    first = run_of(twins)
    entry = Entry(
        pair=pair.name,
        reference=str(pair.reference),
        candidate=str(pair.candidate),
        inputs=tuple(one.shape for one in pair.inputs),
        first=first.compared,
        seconds=first.compared.seconds,
    )
    if first.compared.outcome != DIFFERS:
        return entry, first
    changes, again = [], first.twins
    if pair.mend is not None:
        pair.mend(again.candidate)
        again, changes = twins, [pair.mended]  # paired anew: the mend may let the names or the calls agree
    elif accepted := accepted_here(pair.accepted, first):
        again = replace(again, pairing=replace(again.pairing, accepted=accepted))
        changes = [f"{one.reason}, up to {one.bound:.0e}" for one in dict.fromkeys(accepted.values())]
    if not changes:
        return entry, first
    after = run_of(again)
    seconds = entry.seconds + after.compared.seconds
    return replace(entry, changed="; ".join(changes), after=after.compared, seconds=seconds), after


def accepted_here(known: Mapping[str, Accepted], run: Run) -> dict[str, Accepted]:
    """Return the points whose difference is accepted: those over their bound whose type has a known difference."""
    if run.case is None or run.result is None:
        return {}
    modules = dict(run.twins.reference.named_modules())
    over = {row.name for row in run.result.layers if not row.float64.introduced.passed}
    kinds = {point.name: type(modules[point.reference.module]).__name__ for point in run.case.points}
    return {name: known[kind] for name, kind in kinds.items() if name in over and kind in known}


def run_of(twins: Twins) -> Run:
    """Return how two models compare: by the pairing they have, or else by a proposed one."""
    started = time.monotonic()
    run = _tried(twins)
    if run.result is None or not run.result.gate("structure").passed:
        run = _proposed(twins)
    return replace(run, compared=replace(run.compared, seconds=round(time.monotonic() - started, 1)))


def _tried(twins: Twins, paired_by: str = "names") -> Run:
    """Return how two models compare by the pairing they have."""
    try:
        case = case_of_twins(twins)
    except BadInput as error:
        return _unpaired(twins, str(error))
    if case.unpaired:
        key, why = next(iter(case.unpaired.items()))
        return _unpaired(twins, f"{len(case.unpaired)} tensors, the first {key}: {why}")
    result = align(case)
    return Run(compared=compared(result, paired_by), twins=twins, case=case, result=result)


def _unpaired(twins: Twins, why: str) -> Run:
    return Run(compared=Compared(outcome=NOT_PAIRED, because=why), twins=twins)


def _proposed(twins: Twins) -> Run:
    """Return how two models compare by the proposed pairing, written to a file and read back as a user would."""
    try:
        proposal = propose(twins)
        doubts = doubts_of(proposal)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "proposed.toml")
            names = ("the reference", "the candidate")
            write(out, text(proposal, doubts, names, twins.inputs), proposal, doubts, force=False)
            pairing = replace(read_pairing(out), place="the proposed pairing")
    except BadInput as error:
        return _unpaired(twins, str(error))
    order = proposal.best.draft.order
    run = _tried(replace(twins, pairing=replace(pairing, accepted=twins.pairing.accepted)), f"a proposal, by {order}")
    if run.result is not None:
        return run
    said = run.compared.because.replace(str(out), pairing.place)  # the file is gone
    said = f"{said} Open: {doubts[0].sentence}." if doubts else said
    return replace(run, compared=replace(run.compared, because=said))


def compared(result: AlignmentResult, paired_by: str) -> Compared:
    """Return the record of a result."""
    sound, parted = result.verdict in SOUND, result.first_divergence
    outcome = (ACCEPTED if result.accepted else ALIGNED) if sound else DIFFERS
    failed = [f"{gate.name}: {gate.sentence}" for gate in result.gates if gate.passed is False]
    row = result.headline
    return Compared(
        outcome=NOT_PAIRED if result.verdict == "inconclusive" else outcome,
        verdict=result.verdict,
        because="" if sound else (parted.sentence if parted else "; ".join(failed)),
        layer=parted.layer if parted else None,
        paired_by=paired_by,
        points=len(result.layers),
        left_out=len(result.left_out),
        accepted=len(result.accepted),
        float64=_of_scale(row.float64.inherited) if row else None,
        float32=_of_scale(row.float32.inherited) if row else None,
        causes=tuple(causes_of(result)),
    )


def causes_of(result: AlignmentResult) -> Iterator[Cause]:
    """Yield which settings the sides do not share, and which constants Paddle rounds, each once."""
    checks = [check for section in result.sections if section.gate.name == "settings" for check in section.checks]
    for sentence, count in Counter(check.detail for check in checks).items():
        layer = next(check.layer for check in checks if check.detail == sentence)
        yield Cause(sentence=sentence, layer=layer, count=count)


def _of_scale(diff: LayerDiff) -> float | None:
    """Return the greatest difference relative to the largest value; None where that is not a finite number."""
    if not diff.scale > 0 or not diff.max_abs_diff < float("inf"):
        return None
    return diff.max_abs_diff / diff.scale
