"""What the zoo's record holds: a pair's outcome, and what became of each planted fault."""

from dataclasses import dataclass
from typing import Literal

SCHEMA = "mixer-align/zoo/1"
ALIGNED, ACCEPTED = "aligned", "aligned, with accepted differences"
DIFFERS, NOT_PAIRED = "differs here", "not paired"
SKIPPED, NO_RESULT = "skipped", "no result"
Outcome = Literal["aligned", "aligned, with accepted differences", "differs here", "not paired", "skipped", "no result"]
OUTCOMES: tuple[Outcome, ...] = (ALIGNED, ACCEPTED, DIFFERS, NOT_PAIRED, SKIPPED, NO_RESULT)
GOOD = (ALIGNED, ACCEPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A setting that the two sides do not share, or a constant that Paddle rounds: where first, and how often."""

    sentence: str
    layer: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One comparison of a pair.

    because: Why it is not aligned, if so. layer: Where the sides part first. paired_by: "names", or the proposed order.
    float64, float32: How far apart the outputs are, relative to the reference's largest value; None if not measured.
    """

    outcome: Outcome
    verdict: str | None = None
    because: str = ""
    layer: str | None = None
    paired_by: str | None = None
    points: int = 0
    left_out: int = 0
    accepted: int = 0
    float64: float | None = None
    float32: float | None = None
    causes: tuple[Cause, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault that was planted: what and where, and where it should show; skipped: why there was none to plant.

    caught: Whether the verdict was neither "aligned" nor "rounding". placed: Whether the sides part first where it
    should show. None: Nothing was planted.
    """

    kind: str
    what: str = ""
    layer: str = ""
    expected: tuple[str, ...] = ()
    verdict: str | None = None
    found: str | None = None
    sentence: str = ""
    caught: bool | None = None
    placed: bool | None = None
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What became of a pair: `first` as it comes, and `after` its known differences were accepted or mended.

    changed: What was accepted or mended. broke_off: Why its process did not end normally.
    """

    pair: str
    reference: str
    candidate: str
    inputs: tuple[tuple[int, ...], ...]
    first: Compared
    changed: str = ""
    after: Compared | None = None
    faults: tuple[Fault, ...] = ()
    broke_off: str = ""
    seconds: float = 0.0
