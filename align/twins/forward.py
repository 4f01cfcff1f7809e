"""One forward of either twin, and the sentence of one that fails."""

from __future__ import annotations

from typing import Any

from align.core.lockstep import ForwardFailed
from align.core.probe import Probe
from align.probes.execution import LayerCall, executed
from convert.arrays import Array
from convert.errors import BadInput


def called(side: str, probe: Probe, model: Any, inputs: Array) -> tuple[LayerCall, ...]:
    """Return what a model calls in one forward.

    Raises:
        BadInput: The forward fails.
    """
    try:
        return executed(probe, model, inputs)
    except ForwardFailed as failed:
        raise refused(side, failed) from failed


def refused(side: str, failed: ForwardFailed) -> BadInput:
    """Return the error of a model that does not take what it is given."""
    said = str(failed).rstrip(".")
    return BadInput(f"the {side}: {said}. Is --input-shape, or [inputs] of the pairing file, what it takes?")
