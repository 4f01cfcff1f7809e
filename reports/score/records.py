"""What a report records about the weights that were used, and about what computed their logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from convert.mixer.variants import MixerConfig

EngineName = Literal["inference", "eager"]
Precision = Literal["float32", "bfloat16"]

AGREEMENT_ATOL = 1e-5
"""Bound on how far the predictor's logits may lie from eager's, per unit of the largest logit (or of 1 if larger)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsIdentity:
    """Everything that is known of weights except the weights themselves; the fields are those of `Weights`."""

    name: str
    sha256: str | None
    fingerprint: str
    dtype: str
    config: MixerConfig
    upstream: str | None
    known_from: str
    weights_key: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBatch:
    """How far the predictor's logits lie from eager's on the first batch, the bound, and how many images it has."""

    max_abs_diff: float
    bound: float
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUse:
    """What computed the logits; first_batch is set if the predictor did, images_per_second if any were computed."""

    name: EngineName
    precision: Precision
    threads: int
    batch_size: int
    processes: int
    images_per_second: float | None
    first_batch: FirstBatch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Where something ran: versions, processor, settings of the arithmetic.

    cpus: how many the process may use. device: the one Paddle ran on. knobs: environment variables that were set.
    """

    versions: Mapping[str, str | None]
    platform: str
    processor: str
    cpus: int | None
    device: str
    arithmetic: Mapping[str, Mapping[str, bool | int | str]]
    knobs: Mapping[str, str]
