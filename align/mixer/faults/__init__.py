"""Faults that a port of a vision MLP can have, each planted on purpose, so that the gate proves its own sensitivity."""

from __future__ import annotations

from align.faults.fault import Fault
from align.faults.harness import HARNESS
from align.mixer.faults.loading import LOADING
from align.mixer.faults.numerics import NUMERICS, epsilon_off, scaled
from align.mixer.faults.structure import STRUCTURE
from align.mixer.faults.weights import WEIGHTS

CATALOGUE: tuple[Fault, ...] = (*WEIGHTS, *STRUCTURE, *NUMERICS, *LOADING, *HARNESS)

__all__ = ["CATALOGUE", "HARNESS", "NUMERICS", "STRUCTURE", "WEIGHTS", "epsilon_off", "scaled"]
