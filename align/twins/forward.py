"""One forward of either model, and the error when it fails."""

from __future__ import annotations

from typing import Any

from align.core.lockstep import ForwardFailed
from align.core.probe import Probe
from align.probes.execution import LayerCall, executed
from convert.arrays import Array
from convert.errors import BadInput


def called(side: str, probe: Probe, model: Any, inputs: Array) -> tuple[LayerCall, ...]:
    """Return the layer calls of one forward of a model.

    Raises:
        BadInput: The forward fails.
    """
    try:
        return executed(probe, model, inputs)
    except ForwardFailed as failed:
        raise refused(side, failed) from failed


def refused(side: str, failed: ForwardFailed) -> BadInput:
    """Return the error for a model whose forward fails on its inputs."""
    said = str(failed).rstrip(".")
    return BadInput(f"the {side}: {said}. Is --input-shape, or [inputs] of the pairing file, what it takes?")
