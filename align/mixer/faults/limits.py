"""What no gate can see because it is smaller than rounding or rarer than the runs: each a fault of variable size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.faults.fault import Fault, Planted
from align.faults.front import layer_of, put_in_front
from align.mixer.faults.numerics import epsilon_off, scaled
from align.mixer.faults.places import channels_fc2, in_front, mixer_fault, whole_model
from align.mixer.faults.state import counts_up_to
from convert.mixer.variants import MixerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A fault of variable size, a size at which it is too small to be seen, and one at which it has to be seen."""

    what: str
    fault_of: Callable[[float], Fault]
    unseen: float
    seen: float


def stochastic_depth(chance: float) -> Fault:
    """Return the fault that replaces the output of a branch's last Linear by 0 in this share of the runs, seeded."""

    def plant(config: MixerConfig) -> Planted:
        def model(model: Any) -> None:
            rng = np.random.default_rng(0)

            def change(_: Any, forward: Callable[[Any], Any], x: Any) -> Any:
                return forward(x) * (0.0 if rng.random() < chance else 1.0)

            put_in_front(layer_of(model, channels_fc2(config)), change)

        return Planted(layer=channels_fc2(config), model=model)

    return mixer_fault("state", f"a branch left out in {chance:.0e} of the runs", plant)


def counter(frequency: float) -> Fault:
    """Return the fault of a model that returns another result from call number 1 / frequency on."""
    calls = round(1 / frequency)
    return in_front("state", f"another result from call {calls} on", whole_model, counts_up_to(calls))


def capped(inverse: float) -> Fault:
    """Return the fault of a Linear whose outputs are capped at 1 / inverse, on both sides of 0."""
    limit = 1 / inverse
    return in_front(
        "values", f"outputs capped at {limit:.0e}", channels_fc2, lambda _, forward, x: forward(x).clip(-limit, limit)
    )


LIMITS: tuple[Limit, ...] = (
    Limit(what="one layer's output, relative", fault_of=scaled, unseen=1e-14, seen=1e-11),
    Limit(
        what="one layer's output, relative, float32 only",
        fault_of=lambda by: scaled(by, float32_only=True),
        unseen=1e-7,
        seen=1e-5,
    ),
    Limit(what="LayerNorm epsilon, relative", fault_of=epsilon_off, unseen=1e-12, seen=1e-5),
    Limit(what="stochastic depth, share of the runs", fault_of=stochastic_depth, unseen=1e-6, seen=0.1),
    Limit(what="a counter, one over the call that it acts from", fault_of=counter, unseen=1e-3, seen=0.2),
    Limit(what="outputs capped, one over the cap", fault_of=capped, unseen=1e-12, seen=1.0),
)
"""Why each `seen` is seen: float64's bound is 1e-12, and large values lie beside small ones; 32 ulp are 4e-6; an
epsilon of 1e-6 beside variances of about 1, if it is off by 1e-5 of itself, moves the output by 5e-12 of itself."""
