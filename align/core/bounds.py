"""How far two values may lie apart: every tolerance, and the one policy that says which of them a point has."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Precision = Literal["float32", "float64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two values may lie apart, given the largest magnitude of the reference."""

    atol: float
    rtol: float

    def bound(self, scale: float) -> float:
        """Return the greatest allowed absolute difference for a layer whose largest magnitude is `scale`."""
        return max(self.atol, self.rtol * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A difference that is accepted at a point: how large it may be, absolute, in float64, and why it is there."""

    bound: float
    reason: str


UNBOUNDED = Tolerance(atol=math.inf, rtol=0.0)
"""For figures that are shown and not judged; a NaN still does not pass."""

FLOAT64 = Tolerance(atol=1e-12, rtol=1e-12)
"""A right port measures about 1e-14 in float64, one flipped lowest bit of a weight 3e-10: the bound lies between."""

ROUNDOFF: dict[Precision, float] = {"float64": 2.0**-53, "float32": 2.0**-24}
"""The unit roundoff: how far a number may lie from the nearest that the format has, relative to it."""

FLOAT32_ULP = 2 * ROUNDOFF["float32"]
"""One float32 unit in the last place, relative to the magnitude; np.spacing would halve just below a power of 2."""

ALLOWED = 4.0
"""How far apart two results of one operation may lie, in units of roundoff of its size (`align.rounding.sizes`).

Either may be one such unit from the truth where no sum is taken; sums are statistical. How near right ports
come, docs/right_ports.json has recorded.
"""

LOGITS_ATOL = 1e-5
"""The headline bound on float32 logits."""

MARGIN = 16.0
"""How many times the reference's own rounding the candidate's may be, where that is all that is known of a point.

Right ports measure up to 3.4 times the reference's, by the sketches of a recorded trace.
"""

INHERITED_MARGIN = 512.0
"""The same where float32 values tell how far float64 values may lie apart: one sample of rounding for another."""

FEW = 32
"""Elements from which the greatest rounding among them is no matter of chance."""

LEAST_ROUNDING: dict[Precision, Tolerance] = {
    "float64": Tolerance(atol=1e-14, rtol=1e-14),
    "float32": Tolerance(atol=0.0, rtol=FLOAT32_ULP),
}
"""The least rounding that is granted to the reference, which may by chance have none."""


@dataclass(slots=True)
class Roundings:
    """What is known of rounding at each point, and the bounds that follow.

    sizes: How large the numbers are that are rounded there (`align.rounding.sizes`), where the arithmetic is known.
    slacks: What part of itself a float64 value moves there where a norm's epsilon is not rounded to float32, as it is
        where the norm is written out: both are the same function in float32.
    found: How far the reference in float32 lies from the truth.
    """

    sizes: dict[str, float] = field(default_factory=dict)
    slacks: dict[str, float] = field(default_factory=dict)
    found: dict[str, float] = field(default_factory=dict)
    _in_sizes: float = 0.0

    def note_size(self, name: str, size: float, slack: float = 0.0) -> None:
        """Keep the size of a point, and its slack; points come in forward order."""
        self.sizes[name], self.slacks[name] = size, slack

    def note_found(self, name: str, distance: float, elements: int) -> None:
        """Keep how far the reference in float32 lies from the truth; points come in forward order.

        A few elements may all lie near it by chance. They are taken to lie as far, in units of their size, as those of
        the last point that has many.
        """
        unit = ROUNDOFF["float32"] * self.sizes.get(name, 0.0)
        if elements >= FEW and unit:
            self._in_sizes = distance / unit
        self.found[name] = distance if elements >= FEW else max(distance, self._in_sizes * unit)

    def introduced(self, name: str, precision: Precision, *, follows: bool = True) -> Tolerance:
        """Return what a layer may add, given the reference's input to it.

        Args:
            name: The point.
            precision: Of the run.
            follows: The point before it was compared too; what is introduced is not one operation's otherwise.
        """
        size = self.sizes.get(name)
        if size is None or not follows:
            return explained_by(self.found.get(name, 0.0), precision) if precision == "float32" else self.whole(name)
        allowed = ALLOWED * ROUNDOFF[precision] * size
        if precision == "float32":
            return Tolerance(atol=allowed, rtol=0.0)
        return _at_least_float64(allowed, self.slacks.get(name, 0.0))

    def whole(self, name: str) -> Tolerance:
        """Return what passes at a point between float64 values that have come through all layers before."""
        found = self.found.get(name, 0.0)
        bound = wide_bound(found, self.sizes.get(name, 0.0))
        inherited = ALLOWED * self._slack_before(name) * found / ROUNDOFF["float32"]
        return _at_least_float64(max(bound.atol, inherited), self.slacks.get(name, 0.0))

    def _slack_before(self, name: str) -> float:
        """Return the greatest slack up to a point."""
        names = list(self.slacks)
        last = names.index(name) + 1 if name in self.slacks else len(names)
        return max((self.slacks[one] for one in names[:last]), default=0.0)


def wide_bound(found: float, size: float = 0.0) -> Tolerance:
    """Return how far float64 values may lie apart that have come through all layers before; FLOAT64 at least.

    Args:
        found: How far the reference in float32 lies from the truth there.
        size: Of the last operation.
    """
    return _at_least_float64(INHERITED_MARGIN * ROUNDOFF["float64"] * max(found / ROUNDOFF["float32"], size))


def explained_by(rounding: float, precision: Precision) -> Tolerance:
    """Return what passes where the reference itself rounds by so much: MARGIN times that, or the least granted."""
    least = LEAST_ROUNDING[precision]
    return Tolerance(atol=MARGIN * max(rounding, least.atol), rtol=MARGIN * least.rtol)


def _at_least_float64(atol: float, slack: float = 0.0) -> Tolerance:
    return Tolerance(atol=max(FLOAT64.atol, atol), rtol=max(FLOAT64.rtol, 2 * slack))
