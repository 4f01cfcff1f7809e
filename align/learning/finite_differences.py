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
from scipy.special import logsumexp

from align import witness
from align.layers import layer_of_parameter
from align.result import Check
from convert.arrays import Array, StateDict
from convert.variants import MixerConfig

ENTRIES = 4
"""How many single entries are checked, each in another parameter."""

STEP, ENTRY_STEP = 2e-4, 2e-3
"""Along a direction, and for one entry: in units of the parameter's root mean square; taken once and twice, and
extrapolated to step 0. An entry moves the loss less, so a longer step keeps its difference above rounding; along a
direction through 30 blocks it would show the extrapolation's own error (5e-8 at 5e-4, gmlp_ti16).
"""

DIRECTION_BOUND = 1e-7
"""Right ports measured up to 1.2e-9 (gmlp_ti16) and 5e-11 on small models (six seeds of each family)."""

ENTRY_BOUND = 1e-5
"""Right ports measured up to 1.1e-7 (b16): the loss's own rounding, where the gradient is no larger than the floor."""

Direction = Callable[[str], Array]
"""How a parameter moves, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loss:
    """The witness's mean cross-entropy on one batch, as a function of the weights (timm's layout)."""

    config: MixerConfig
    images: Array
    labels: Array

    def __call__(self, state_dict: StateDict) -> float:
        """Return the loss."""
        (_, logits), *_ = deque(witness.forward(self.config, state_dict, self.images), maxlen=1)
        return float(np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(self.labels)), self.labels]))


class Moved(Mapping[str, Array]):
    """Weights with some moved along a direction, each made as it is read, so that no second copy is kept."""

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
    """Return a direction that moves every entry: each parameter's root mean square, with random signs."""

    def move(name: str) -> Array:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        signs = rng.integers(2, size=weights[name].shape, dtype=np.int8) * 2.0 - 1.0
        return np.asarray(signs * _size(weights[name]))

    return move


def direction_check(
    loss: Loss, weights: StateDict, gradients: StateDict, names: Sequence[str], seed: int, floor: float
) -> Check:
    """Return the check of these parameters' gradients along one seeded direction.

    The figure is |difference quotient - gradient · direction| over the root of the summed squares of that product's
    terms, which is the size of a sum of terms with random signs.

    Args:
        loss: The witness's loss.
        weights: All weights, timm's layout.
        gradients: The reference's float64 gradients of these parameters at least.
        names: What to move.
        seed: Seed of the signs.
        floor: The least scale of a gradient.
    """
    direction = seeded_direction(weights, seed)
    expected, found, squares = _derivative(loss, weights, names, direction, STEP), 0.0, 0.0
    for name in names:
        move = direction(name)
        found += float(np.vdot(gradients[name], move))
        squares += float(np.square(gradients[name] * move).sum())
        squares += (floor * _size(weights[name])) ** 2
    single = len(names) == 1
    return _check(
        f"{names[0] if single else f'{len(names)} parameters'}/finite difference",
        layer_of_parameter(names[0]) if single else "",
        abs(expected - found) / (math.sqrt(squares) or 1.0),
        DIRECTION_BOUND,
        _detail(expected, found),
    )


def entry_checks(loss: Loss, weights: StateDict, gradients: StateDict, seed: int, floor: float) -> Iterator[Check]:
    """Yield the checks of single entries, seeded, each in another parameter, against the scale of its gradient."""
    rng = np.random.default_rng([seed, ENTRIES])
    for name in rng.permutation(list(gradients))[:ENTRIES].tolist():
        shape, size = weights[name].shape, _size(weights[name])
        index = tuple(int(rng.integers(length)) for length in shape)
        unit = np.zeros(shape)
        unit[index] = size
        expected = _derivative(loss, weights, [name], _only(unit), ENTRY_STEP) / size
        found = float(gradients[name][index])
        scale = max(float(np.abs(gradients[name]).max()), floor) or 1.0
        label = f"{name}{list(index)}/finite difference"
        yield _check(
            label, layer_of_parameter(name), abs(expected - found) / scale, ENTRY_BOUND, _detail(expected, found)
        )


def _only(unit: Array) -> Direction:
    return lambda _: unit


def _derivative(loss: Loss, weights: StateDict, names: Sequence[str], direction: Direction, step: float) -> float:
    """Return the loss's derivative along a direction: Richardson's extrapolation of two central differences.

    What is left is of fourth order in the step. Source: L. F. Richardson, https://doi.org/10.1098/rsta.1911.0009.
    """
    near, far = (_quotient(loss, weights, names, direction, length) for length in (step, 2 * step))
    return (4 * near - far) / 3


def _quotient(loss: Loss, weights: StateDict, names: Sequence[str], direction: Direction, step: float) -> float:
    ahead, behind = (loss(Moved(weights, names, direction, sign * step)) for sign in (1, -1))
    return (ahead - behind) / (2 * step)


def _size(array: Array) -> float:
    """Return a parameter's root mean square; 1 where it is 0, so that a zeroed parameter moves too."""
    return math.sqrt(float(np.mean(np.square(array, dtype=np.float64)))) or 1.0


def _detail(expected: float, found: float) -> str:
    return f"the witness's difference quotient is {expected:.9g}, torch's gradient gives {found:.9g}"


def _check(name: str, layer: str, figure: float, bound: float, detail: str) -> Check:
    passed = figure <= bound and math.isfinite(figure)
    return Check(name=name, layer=layer, figure=figure, bound=bound, detail=detail, passed=passed)
