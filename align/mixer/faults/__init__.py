"""Faults that a port of a vision MLP can have, each planted on purpose, so that the gate proves its own sensitivity."""

from __future__ import annotations

from align.faults.fault import Fault
from align.faults.harness import HARNESS
from align.mixer.faults.dependence import DEPENDENCE
from align.mixer.faults.limits import LIMITS
from align.mixer.faults.mistakes import MISTAKES
from align.mixer.faults.numerics import NUMERICS
from align.mixer.faults.outputs import OUTPUTS
from align.mixer.faults.parameters import LOADING, PARAMETERS
from align.mixer.faults.state import STATE
from align.mixer.faults.structure import STRUCTURE
from align.mixer.faults.trivial import TRIVIAL
from align.mixer.faults.values import VALUES
from align.mixer.faults.weights import WEIGHTS

CATALOGUE: tuple[Fault, ...] = (
    *WEIGHTS,
    *PARAMETERS,
    *STRUCTURE,
    *MISTAKES,
    *NUMERICS,
    *VALUES,
    *STATE,
    *OUTPUTS,
    *DEPENDENCE,
    *TRIVIAL,
    *LOADING,
    *HARNESS,
)

__all__ = [
    "CATALOGUE",
    "DEPENDENCE",
    "HARNESS",
    "LIMITS",
    "MISTAKES",
    "NUMERICS",
    "OUTPUTS",
    "PARAMETERS",
    "STATE",
    "STRUCTURE",
    "TRIVIAL",
    "VALUES",
    "WEIGHTS",
]
