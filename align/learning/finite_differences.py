"""The gradient without any framework: central differences of the NumPy witness's loss, in float64.

A fault that torch and Paddle share passes every comparison between them; it does not pass this one.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from align.core.case import Case
from align.core.compare import largest
from align.core.result import Check
from align.core.weights import in_float32
from convert.arrays import Array, StateDict

ENTRIES = 4
"""How many single entries are checked, each in a different parameter."""

STEP, ENTRY_STEP = 2e-4, 2e-3
"""Steps along a direction and of one entry, in units of the parameter's root mean square; each is taken once and
doubled, and extrapolated to step 0. An entry moves the loss less, so it takes a longer step to keep the difference
above rounding; along a direction through 30 blocks, that would show the extrapolation's own error (5e-8 at 5e-4,
gmlp_ti16).
"""

DIRECTION_BOUND = 1e-7
"""Bound on the error of the extrapolation along a direction; rounding is allowed on top. Right ports measured up to
1.2e-9 (gmlp_ti16), and on small models (six seeds of each family) up to 4e-9 (gMLP).
"""

ENTRY_BOUND = 1e-5
"""The same for one entry, whose step is ten times as long. Right ports measured up to 1.1e-7 (b16)."""

LOSS_ROUNDING = 16 * 2.0**-52
"""Greatest rounding of a float64 loss, as a share of the loss or of the greatest logit, whichever is greater.

The sums are taken in the order of NumPy's matrix products, which differs between processors. Measured as the scatter
about a line over steps of 1e-9: up to 0.9 of 2^-52 (small models, six seeds of each family; s16, b16, gmlp_s16,
resmlp_36 and gmixer_24; OpenBLAS's kernels for Haswell and SkylakeX), whatever the depth.
"""

ROUNDINGS = 1.5
"""Greatest error of a derivative, in roundings of a loss per step length h: those of its four losses add up to 2 / 2h
in the near quotient, which is weighted by 4/3, and to 2 / 4h in the far one, weighted by 1/3.
"""

Direction = Callable[[str], Array]
"""A function from a parameter's name to how the parameter moves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loss:
    """The witness's mean cross-entropy on a case's inputs, as a function of the weights, by the reference's names."""

    case: Case
    labels: Array

    @property
    def weights(self) -> StateDict:
        """The reference's weights, in float32."""
        return in_float32(self.case.reference.state_dict)

    def __call__(self, state_dict: StateDict) -> float:
        """Return the loss."""
        return self.with_size(state_dict)[0]

    def with_size(self, state_dict: StateDict) -> tuple[float, float]:
        """Return the loss, and the magnitude at which it is rounded: the larger of its own and the greatest logit's."""
        from scipy.special import logsumexp

        if self.case.witness is None:
            raise ValueError("there is no witness")
        (_, logits), *_ = deque(self.case.witness(state_dict, self.case.inputs), maxlen=1)
        loss = float(np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(self.labels)), self.labels]))
        return loss, max(loss, largest(logits))


class Moved(Mapping[str, Array]):
    """Weights, some of them moved along a direction, each computed when it is read, so that no second copy is kept."""

    def __init__(self, weights: StateDict, names: Sequence[str], direction: Direction, step: float) -> None:
        self._weights, self._names, self._direction, self._step = weights, frozenset(names), direction, step

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            return self._weights[name]
        return np.asarray(self._weights[name] + self._step * self._direction(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def seeded_direction(weights: StateDict, seed: int) -> Direction:
    """Return a direction that moves every entry by its parameter's root mean square, with a random sign."""

    def move(name: str) -> Array:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        signs = rng.integers(2, size=weights[name].shape, dtype=np.int8) * 2.0 - 1.0
        return np.asarray(signs * _size(weights[name]))

    return move


def direction_check(loss: Loss, gradients: StateDict, names: Sequence[str], seed: int, floor: float) -> Check:
    """Return the check of these parameters' gradients along one seeded direction.

    The figure is |difference quotient - gradient · direction| over the root of the summed squares of that product's
    terms, which is the size of a sum of terms with random signs. The bound is DIRECTION_BOUND plus the quotient's
    rounding over the same root: where the gradient is zero, rounding is all there is.

    Args:
        loss: The witness's loss.
        gradients: The reference's float64 gradients of these parameters at least.
        names: The parameters to move.
        seed: Seed of the signs.
        floor: The least scale of a gradient.
    """
    weights = loss.weights
    direction = seeded_direction(weights, seed)
    (expected, rounding), found, squares = _derivative(loss, weights, names, direction, STEP), 0.0, 0.0
    for name in names:
        move = direction(name)
        found += float(np.vdot(gradients[name], move))
        squares += float(np.square(gradients[name] * move).sum())
        squares += (floor * _size(weights[name])) ** 2
    single, scale = len(names) == 1, math.sqrt(squares) or 1.0
    return _check(
        names[0] if single else f"{len(names)} parameters",
        loss.case.reference_point(names[0]) if single else "",
        abs(expected - found) / scale,
        DIRECTION_BOUND + rounding / scale,
        _detail(expected, found),
    )


def entry_checks(loss: Loss, gradients: StateDict, seed: int, floor: float) -> Iterator[Check]:
    """Yield the checks of seeded single entries, each in a different parameter, relative to its gradient's scale."""
    rng, weights = np.random.default_rng([seed, ENTRIES]), loss.weights
    for name in rng.permutation(list(gradients))[:ENTRIES].tolist():
        shape, size = weights[name].shape, _size(weights[name])
        index = tuple(int(rng.integers(length)) for length in shape)
        unit = np.zeros(shape)
        unit[index] = size
        expected, rounding = (part / size for part in _derivative(loss, weights, [name], _only(unit), ENTRY_STEP))
        found = float(gradients[name][index])
        scale = max(largest(gradients[name]), floor) or 1.0
        layer, bound = loss.case.reference_point(name), ENTRY_BOUND + rounding / scale
        yield _check(f"{name}{list(index)}", layer, abs(expected - found) / scale, bound, _detail(expected, found))


def _only(unit: Array) -> Direction:
    return lambda _: unit


def _derivative(
    loss: Loss, weights: StateDict, names: Sequence[str], direction: Direction, step: float
) -> tuple[float, float]:
    """Return the loss's derivative along a direction, and how much of it may be the losses' rounding.

    It is Richardson's extrapolation of two central differences, which leaves an error of fourth order in the step.
    Source: L. F. Richardson, https://doi.org/10.1098/rsta.1911.0009.
    """

    def quotient(length: float) -> tuple[float, float]:
        ahead, behind = (loss.with_size(Moved(weights, names, direction, sign * length)) for sign in (1, -1))
        return (ahead[0] - behind[0]) / (2 * length), max(ahead[1], behind[1])

    (near, size), (far, _) = quotient(step), quotient(2 * step)
    return (4 * near - far) / 3, ROUNDINGS * LOSS_ROUNDING * size / step


def _size(array: Array) -> float:
    """Return a parameter's root mean square; 1 where it is 0, so that a zeroed parameter moves too."""
    return math.sqrt(float(np.mean(np.square(array, dtype=np.float64)))) or 1.0


def _detail(expected: float, found: float) -> str:
    return f"the witness's difference quotient is {expected:.9g}, torch's gradient gives {found:.9g}"


def _check(name: str, layer: str, figure: float, bound: float, detail: str) -> Check:
    passed = figure <= bound and math.isfinite(figure)
    return Check(
        subject=name, kind="finite difference", layer=layer, figure=figure, bound=bound, detail=detail, passed=passed
    )
