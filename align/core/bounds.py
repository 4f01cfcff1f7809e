"""How far two values may differ: every tolerance, and the single policy that decides which one a point gets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Precision = Literal["float32", "float64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """A bound on how far two values may differ, given the largest magnitude of the reference."""

    atol: float
    rtol: float

    def bound(self, scale: float) -> float:
        """Return the greatest allowed absolute difference for a layer whose largest magnitude is `scale`."""
        return max(self.atol, self.rtol * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An accepted difference at a point: its absolute bound, in float64, and the reason for it."""

    bound: float
    reason: str


UNBOUNDED = Tolerance(atol=math.inf, rtol=0.0)
"""The tolerance of figures that are shown but not judged; a NaN still does not pass."""

FLOAT64 = Tolerance(atol=1e-12, rtol=1e-12)
"""The float64 bound: between a right port's figure, about 1e-14, and that of one flipped lowest weight bit, 3e-10."""

ROUNDOFF: dict[Precision, float] = {"float64": 2.0**-53, "float32": 2.0**-24}
"""The unit roundoff: the greatest relative error of rounding a number to the nearest one of the format."""

FLOAT32_ULP = 2 * ROUNDOFF["float32"]
"""One float32 unit in the last place, relative to the magnitude; np.spacing would halve just below a power of 2."""

ALLOWED = 4.0
"""How far two results of one operation may differ, in units of roundoff of its size (`align.rounding.sizes`).

Without a sum, each may be one such unit from the truth; the error of a sum is statistical. docs/right_ports.json
records how close right ports come.
"""

LOGITS_ATOL = 1e-5
"""The headline bound on float32 logits."""

MARGIN = 16.0
"""How many times the reference's own rounding a difference may be, where nothing else is known about the point.

Right ports measure up to 3.4 times the reference's own, by the sketches of a recorded trace.
"""

INHERITED_MARGIN = 512.0
"""The same factor where rounding in float32 predicts that in float64: one sample of rounding stands for another."""

FEW = 32
"""Number of elements from which the greatest rounding among them is no longer a matter of chance."""

LEAST_ROUNDING: dict[Precision, Tolerance] = {
    "float64": Tolerance(atol=1e-14, rtol=1e-14),
    "float32": Tolerance(atol=0.0, rtol=FLOAT32_ULP),
}
"""The least rounding that the reference is assumed to have, as by chance it may show none."""


@dataclass(slots=True)
class Roundings:
    """What is known about rounding at each point, and the bounds that follow.

    sizes: How large the numbers rounded at a point are (`align.rounding.sizes`), where its arithmetic is known.
    slacks: The fraction of itself that a float64 value moves at a point if a norm's epsilon is not rounded to float32,
        as in a norm that is written out: in float32 both are the same function.
    found: How far the float32 reference lies from the truth.
    """

    sizes: dict[str, float] = field(default_factory=dict)
    slacks: dict[str, float] = field(default_factory=dict)
    found: dict[str, float] = field(default_factory=dict)
    _in_sizes: float = 0.0

    def note_size(self, name: str, size: float, slack: float = 0.0) -> None:
        """Record the size and the slack of a point; points come in forward order."""
        self.sizes[name], self.slacks[name] = size, slack

    def note_found(self, name: str, distance: float, elements: int) -> None:
        """Record how far the float32 reference lies from the truth; points come in forward order.

        A few elements may all lie near the truth by chance. They are assumed to lie at least as far from it, in units
        of their size, as those of the last point with many.
        """
        unit = ROUNDOFF["float32"] * self.sizes.get(name, 0.0)
        if elements >= FEW and unit:
            self._in_sizes = distance / unit
        self.found[name] = distance if elements >= FEW else max(distance, self._in_sizes * unit)

    def introduced(self, name: str, precision: Precision, *, follows: bool = True) -> Tolerance:
        """Return the tolerance for what a layer introduces when given the reference's input.

        Args:
            name: The point.
            precision: The precision of the run.
            follows: Whether the point before it was compared too; if not, more than one operation introduces it.
        """
        size = self.sizes.get(name)
        if size is None or not follows:
            return explained_by(self.found.get(name, 0.0), precision) if precision == "float32" else self.whole(name)
        allowed = ALLOWED * ROUNDOFF[precision] * size
        if precision == "float32":
            return Tolerance(atol=allowed, rtol=0.0)
        return _at_least_float64(allowed, self.slacks.get(name, 0.0))

    def whole(self, name: str) -> Tolerance:
        """Return the tolerance at a point for float64 values that have passed through all layers before it."""
        found = self.found.get(name, 0.0)
        bound = wide_bound(found, self.sizes.get(name, 0.0))
        inherited = ALLOWED * self._slack_before(name) * found / ROUNDOFF["float32"]
        return _at_least_float64(max(bound.atol, inherited), self.slacks.get(name, 0.0))

    def _slack_before(self, name: str) -> float:
        """Return the greatest slack of all points up to and including this one."""
        names = list(self.slacks)
        last = names.index(name) + 1 if name in self.slacks else len(names)
        return max((self.slacks[one] for one in names[:last]), default=0.0)


def wide_bound(found: float, size: float = 0.0) -> Tolerance:
    """Return how far float64 values that passed through all layers before may differ; at least FLOAT64.

    Args:
        found: How far the float32 reference lies from the truth at the point.
        size: The size of the last operation.
    """
    return _at_least_float64(INHERITED_MARGIN * ROUNDOFF["float64"] * max(found / ROUNDOFF["float32"], size))


def explained_by(rounding: float, precision: Precision) -> Tolerance:
    """Return the tolerance where the reference itself rounds by this much: MARGIN times that or LEAST_ROUNDING."""
    least = LEAST_ROUNDING[precision]
    return Tolerance(atol=MARGIN * max(rounding, least.atol), rtol=MARGIN * least.rtol)


def _at_least_float64(atol: float, slack: float = 0.0) -> Tolerance:
    return Tolerance(atol=max(FLOAT64.atol, atol), rtol=max(FLOAT64.rtol, 2 * slack))
