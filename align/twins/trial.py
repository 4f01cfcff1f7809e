"""Trying a pairing: both models run in float64 with the reference's weights, and their points are compared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from align.core.compare import largest
from align.core.inputs import in_precision
from align.core.lockstep import ForwardFailed
from align.core.point import Point, Tapped
from align.probes import paddle_probe, torch_probe
from align.probes.execution import LayerCall
from align.twins.forward import called
from convert.arrays import Array, StateDict
from convert.errors import BadInput
from convert.rules import RuleSet

SAME = 1e-9
"""Greatest distance over the largest value at which float64 values count as equal; other layers' are 1e-1 apart."""

NEARER = 1e-2
"""Fraction of the distance to the paired value; another of the reference's values nearer than that is meant instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedPairing:
    """How far apart the points were: the greatest difference over the largest value; infinite for another shape.

    elsewhere: For points that differ, where the reference shows the candidate's value or, at forced points, one that is
    much nearer to it.
    """

    distances: Mapping[str, float]
    elsewhere: Mapping[str, Tapped] = field(default_factory=dict)

    def agrees(self, point: str) -> bool:
        """Return whether both sides showed the same value at a point."""
        return self.distances.get(point, np.inf) <= SAME

    @property
    def agreeing(self) -> int:
        """How many points agree."""
        return sum(map(self.agrees, self.distances))


class Bench:
    """Copies of two models in float64, what the reference shows in one forward, and the calls of both in it.

    Args:
        reference: The PyTorch model.
        candidate: The Paddle model.
        weights: What the reference is to hold and, converted by the rules of each trial, the candidate.
        inputs: One batch, in float32.

    Raises:
        BadInput: A forward fails.
    """

    def __init__(self, reference: Any, candidate: Any, weights: StateDict, inputs: Array) -> None:
        self._weights, self._inputs = weights, in_precision(inputs, "float64")
        self._candidate = paddle_probe.copied(candidate)
        own = torch_probe.copied(reference, weights)
        self.calls = (
            _called("reference", torch_probe, own, inputs),
            _called("candidate", paddle_probe, self._candidate, inputs),
        )
        torch_probe.cast(own, "float64")
        self.values = dict(_shown(own, self.calls[0], self._inputs))
        paddle_probe.cast(self._candidate, "float64")

    def trial(
        self, points: Sequence[Point], rules: RuleSet, among: Collection[Tapped], forced: Collection[str] = ()
    ) -> TriedPairing:
        """Return how far apart the points are when the candidate holds the reference's weights, converted by the rules.

        Args:
            points: The points to compare.
            rules: From the reference's tensors to the candidate's.
            among: Where else to look for the candidate's value if it is not the point's.
            forced: The points at which the candidate goes on with the reference's value if its own differs.

        Raises:
            BadInput: The candidate's forward fails.
        """
        paddle_probe.load(self._candidate, rules.apply(self._weights))
        distances, elsewhere = dict[str, float](), dict[str, Tapped]()
        at = {point.name: point for point in points}

        def tap(name: str, value: Array) -> Array | None:
            reference = self.values[at[name].reference]
            distances[name] = distance(reference, value)
            if distances[name] <= SAME:
                return None
            least = distances[name] * NEARER if name in forced and reference.shape == value.shape else SAME
            if (found := self._nearest(value, at[name].reference, among, least)) is not None:
                elsewhere[name] = found
                reference = self.values[found]
            return reference if name in forced and reference.shape == value.shape else None

        with paddle_probe.tapped(self._candidate, {name: point.candidate for name, point in at.items()}) as run:
            try:
                run(self._inputs, tap)
            except ForwardFailed as failed:
                raise BadInput(f"the candidate with the reference's weights: {failed}.") from failed
        never = dict.fromkeys((name for name in at if name not in distances), np.inf)
        return TriedPairing(distances={**distances, **never}, elsewhere=elsewhere)

    def _nearest(self, value: Array, shown: Tapped, among: Collection[Tapped], least: float) -> Tapped | None:
        """Return where the reference later shows this value, or the nearest one within `least`; None where it does not.

        A value of zeros is not looked for, as it identifies nothing.
        """
        if not largest(value) > 0:
            return None
        places = list(self.values)
        later = (tapped for tapped in places[places.index(shown) + 1 :] if tapped in among)
        nearest, found = least, None
        for tapped in later:
            if (apart := distance(self.values[tapped], value)) <= nearest and (found is None or apart < nearest):
                nearest, found = apart, tapped
            if nearest <= SAME and found is not None:
                break
        return found


def distance(reference: Array, candidate: Array) -> float:
    """Return two arrays' greatest difference over the reference's largest value; infinite where there is no such ratio.

    Example:
        >>> distance(np.array([1.0, 4.0]), np.array([1.0, 2.0])), distance(np.zeros(2), np.zeros(2))
        (0.5, 0.0)
    """
    if reference.shape != candidate.shape or reference.size == 0:
        return float("inf")
    greatest, scale = float(np.max(np.abs(reference - candidate))), largest(reference)
    if greatest == 0:
        return 0.0
    return greatest / scale if scale > 0 and np.isfinite(greatest) else float("inf")


def _called(side: str, probe: Any, model: Any, inputs: Array) -> tuple[LayerCall, ...]:
    for _, layer in probe.layers(model):
        layer.training = False
    return called(side, probe, model, inputs)


def _shown(model: Any, calls: Sequence[LayerCall], inputs: Array) -> Iterator[tuple[Tapped, Array]]:
    """Yield every value that a model shows in one forward; one that a container passes on is stored only once."""
    places = {str(i): tapped for i, tapped in enumerate(call.tapped(item) for call in calls for item in call.shapes)}
    found: dict[str, Array] = {}

    def keep(found: dict[str, Array], name: str, value: Array) -> None:
        last = next(reversed(found.values()), None)
        found[name] = last if last is not None and np.array_equal(last, value) else value

    with torch_probe.tapped(model, places) as run:
        run(inputs, partial(keep, found))
    yield from ((places[name], value) for name, value in found.items())
