"""Fine-tuned weights from a file: checked, in Paddle's or timm's layout, with what is known of their origin."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from align.core.weights import in_float32
from convert.arrays import StateDict, fingerprint, tensor_sha256s
from convert.errors import BadInput
from convert.evidence.recorded import manifest_path, read_manifest
from convert.family import Port, Source
from convert.files.sets import Selection
from convert.identity import Claim
from convert.job import check_and_map
from convert.mixer.identity import CHOICES, check_variant
from convert.mixer.variants import MixerConfig, Variant, get_variant
from convert.request import Request
from convert.sources import from_file, with_sha256
from reports.score.records import WeightsIdentity

CHANNELS = 3
SIZES = tuple(
    field.name for field in fields(MixerConfig) if field.name not in ("num_classes", "gelu", "layer_norm_eps")
)
"""Config fields that a fine-tuned model shares with its upstream: all but the head's and those that no shape tells."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Weights in float32, their config, and their origin.

    fingerprint is that of the file's tensors in the layout asked for, in their own dtype, so it is the same for every
    file format. weights_key is the set of weights that was taken from the file. upstream is the variant that was
    fine-tuned, known from --variant or from the manifest beside the file. port holds the file's own tensors; manifest
    is what lies beside the file, checked against it.
    """

    state_dict: StateDict
    config: MixerConfig
    name: str
    sha256: str | None
    fingerprint: str
    dtype: str
    upstream: Variant | None
    known_from: str
    weights_key: str | None = None
    port: Port | None = None
    manifest: dict[str, Any] | None = None

    @property
    def identity(self) -> WeightsIdentity:
        """Everything but the weights themselves."""
        return WeightsIdentity(
            name=self.name,
            sha256=self.sha256,
            fingerprint=self.fingerprint,
            dtype=self.dtype,
            config=self.config,
            upstream=self.upstream.name if self.upstream else None,
            known_from=self.known_from,
            weights_key=self.weights_key,
            notes=self.notes,
        )

    def as_data(self) -> dict[str, Any]:
        """Return the identity as plain data."""
        return asdict(self.identity)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about how the weights were taken from the file."""
        return self.port.notes if self.port else ()


def read_weights(request: Request) -> Weights:
    """Return a checkpoint's weights, with a head of any number of classes.

    Args:
        request: The checkpoint, the layout wanted, and what the user says. Its variant is the upstream.

    Raises:
        BadInput: It is not a vision MLP, or not of the variant's sizes.
        UsageProblem: Its layout cannot be detected, or what the user says contradicts the file or its manifest.
        IntegrityProblem: The manifest beside it is about another file.
    """
    if request.checkpoint is None:
        raise ValueError("a request without a checkpoint")
    source = with_sha256(from_file(request.checkpoint, request.selection))
    path = source.path or request.checkpoint
    port = check_and_map(source, replace(request, variant=None))
    beside = manifest_path(path)
    manifest = read_manifest(beside) if beside.is_file() else None
    if manifest is not None and manifest["output"].get("sha256") != source.provenance.sha256:
        manifest = None  # it is about another file, and is ignored
    stated = get_variant(request.variant.name) if request.variant else None
    upstream, known_from = _upstream(source, stated)
    _check_sizes(path, port.config, upstream)
    state_dict = port.conversion.state_dict
    return Weights(
        state_dict=in_float32(state_dict),
        config=port.config,
        name=path.name,
        sha256=source.provenance.sha256,
        fingerprint=fingerprint(tensor_sha256s(state_dict)),
        dtype=", ".join(sorted({array.dtype.name for array in state_dict.values()})),
        upstream=upstream,
        known_from=known_from,
        weights_key=source.provenance.weights_key,
        port=port,
        manifest=manifest,
    )


def reference_of(weights: Weights, checkpoint: Path, key: str | None, *, option: str) -> Request:
    """Return the request for a checkpoint, for timm to run, that has to be the same function as some weights.

    Args:
        weights: The weights it is compared with.
        checkpoint: The checkpoint's path.
        key: Which set of weights, if it holds several.
        option: The option that chooses the key, for error messages.
    """
    config = {choice: getattr(weights.config, choice) for choice in CHOICES}
    alike = Claim(place=weights.name, config=config)
    selection = Selection(key=key, option=option, by_name=False)
    return Request(checkpoint=checkpoint, selection=selection, dst="timm", claims=(alike,))


def check_classes(weights: Weights, classes: int) -> None:
    """Check that a model's head has this number of classes.

    Raises:
        BadInput: It has another number.
    """
    if weights.config.num_classes != classes:
        raise BadInput(
            f"head.weight: {weights.name} has {weights.config.num_classes} classes, CIFAR-10 has {classes}. "
            "Fine-tune it first."
        )


def check_channels(weights: Weights) -> None:
    """Check that a model takes images of three channels, as CIFAR-10's are.

    Raises:
        BadInput: It takes another number.
    """
    if weights.config.in_chans != CHANNELS:
        raise BadInput(
            f"stem.proj.weight: {weights.name} takes images of {weights.config.in_chans} channel(s), CIFAR-10's have "
            f"{CHANNELS}. Is it the right file?"
        )


def _upstream(source: Source, stated: Variant | None) -> tuple[Variant | None, str]:
    """Return the variant that was fine-tuned, and where that is known from."""
    drawn = next((one for one in source.claims if one.random), None)
    if drawn is not None:
        return None, f"random weights, says {drawn.place}"
    check_variant(source.name, source.claims, stated)
    for one in source.claims:
        if one.variant is not None:
            return get_variant(one.variant), one.place
    return stated, "--variant" if stated else "nothing"


def _check_sizes(path: Path, config: MixerConfig, upstream: Variant | None) -> None:
    if upstream is None:
        return
    for name in SIZES:
        found, expected = getattr(config, name), getattr(upstream.config, name)
        if found != expected:
            raise BadInput(f"{path}: {name} is {found}, {upstream.name} has {expected}. Is --variant right?")
