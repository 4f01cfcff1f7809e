"""The recorded trace: what a reference computed on one seeded batch, as it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.core.inputs import Kind
from align.trace.result import PointRecord
from align.trace.twins_record import TwinsRecord
from convert.arrays import Array, Shape

RECORDED_LOGITS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRecord:
    """One parameter in Paddle's layout: its dtype, shape and canonical SHA-256."""

    name: str
    dtype: str
    shape: Shape
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenTrace:
    """What a reference computed on one seeded batch, small enough to commit beside the code it guards.

    family, config: As the family has it; of two models that no family knows "" and None, and twins says more.
    reference: What computed it. source says where the weights are from; source_fingerprint is theirs by the
    reference's names. logits are those that `logits_kept` keeps, in float64.
    """

    name: str
    family: str
    config: Any
    reference: str
    source: Mapping[str, Any]
    source_fingerprint: str
    batch: int
    input_seed: int
    inputs: Kind
    input_sha256: str
    versions: Mapping[str, str | None]
    logits: tuple[float, ...]
    weights: tuple[TensorRecord, ...]
    points: tuple[PointRecord, ...]
    twins: TwinsRecord | None = None

    @property
    def witnessed(self) -> bool:
        """Whether a witness showed the same as the reference."""
        return all(point.float64_noise is not None for point in self.points)


def logits_kept(logits: Array) -> Array:
    """Return the logits that a trace keeps: all of them up to RECORDED_LOGITS, else so many, evenly spread."""
    flat = logits.reshape(-1)
    count = min(flat.size, RECORDED_LOGITS)
    return flat[[i * flat.size // count for i in range(count)]]
