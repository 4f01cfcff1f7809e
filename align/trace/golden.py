"""The recorded trace: what a reference computed on one seeded batch, as it is stored."""

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

    family, config: The family's name and config; "" and None for two models of no family, which twins describes.
    reference: The implementation that computed it. source: Where the weights come from. source_fingerprint: Their
    fingerprint, by the reference's names. logits: Those that `logits_kept` selects, in float64.
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
        """Whether a witness confirmed the reference when it was recorded."""
        return all(point.float64_noise is not None for point in self.points)


def logits_kept(logits: Array) -> Array:
    """Return the logits that a trace keeps: all if there are at most RECORDED_LOGITS, else that many, evenly spread."""
    flat = logits.reshape(-1)
    count = min(flat.size, RECORDED_LOGITS)
    return flat[[i * flat.size // count for i in range(count)]]
