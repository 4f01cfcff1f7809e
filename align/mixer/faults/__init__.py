"""Faults that a port can have, each planted on purpose, so that the gate proves its own sensitivity."""

from __future__ import annotations

from align.faults.fault import Fault, Kind, Planted
from align.faults.harness import HARNESS
from align.mixer.faults.numerics import NUMERICS, epsilon_off, scaled
from align.mixer.faults.structure import STRUCTURE
from align.mixer.faults.weights import WEIGHTS

CATALOGUE: tuple[Fault, ...] = (*WEIGHTS, *STRUCTURE, *NUMERICS, *HARNESS)

__all__ = [
    "CATALOGUE",
    "HARNESS",
    "NUMERICS",
    "STRUCTURE",
    "WEIGHTS",
    "Fault",
    "Kind",
    "Planted",
    "epsilon_off",
    "scaled",
]
