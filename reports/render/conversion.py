"""A bundle's manifests of conversions as records; the fields are those of `convert.evidence.manifest`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from convert.arrays import fingerprint
from convert.mixer.variants import MixerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedVariant:
    """A variant as a manifest names it."""

    name: str
    timm_id: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor before and after a conversion; source is None for one that was drawn at random."""

    source: str | None
    target: str
    transform: str | None
    adapted: str | None
    dtype: str
    source_dtype: str | None
    source_shape: tuple[int, ...] | None
    target_shape: tuple[int, ...]
    source_sha256: str | None
    target_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layouts:
    """The layouts before and after a conversion."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The file that was converted."""

    name: str
    sha256: str | None
    weights_key: str | None
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The result of a conversion; file is None for one in memory."""

    file: str | None
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedConversion:
    """A conversion in memory, as its manifest describes it."""

    schema: Literal["mixer-convert/manifest/2"]
    variant: StatedVariant | None
    config: MixerConfig
    random: bool
    weights_key: str | None
    layouts: Layouts
    notes: tuple[str, ...]
    source: Converted
    output: Output
    tensors: tuple[Tensor, ...]
    versions: Mapping[str, str | None]
    command_line: tuple[str, ...]

    @property
    def fingerprints(self) -> tuple[str, str]:
        """The fingerprints before and after, from the tensors' hashes."""
        before = {tensor.source: str(tensor.source_sha256) for tensor in self.tensors if tensor.source is not None}
        return fingerprint(before), fingerprint({tensor.target: tensor.target_sha256 for tensor in self.tensors})


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """What the fine-tuned weights were made from, as far as it is recorded."""

    kind: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOutput:
    """The fine-tuned weights."""

    fingerprint: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestTensor:
    """A tensor of the fine-tuned weights."""

    target: str
    target_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The manifest beside the fine-tuned file, whoever wrote it: a conversion's or a training run's."""

    output: ManifestOutput
    config: Mapping[str, object] = field(default_factory=dict)
    source: ManifestSource | None = None
    variant: StatedVariant | None = None
    tensors: tuple[ManifestTensor, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the tensors it lists."""
        return fingerprint({tensor.target: tensor.target_sha256 for tensor in self.tensors})

    @property
    def source_fingerprint(self) -> str | None:
        """The fingerprint of the weights it was made from."""
        return self.source.fingerprint if self.source else None
