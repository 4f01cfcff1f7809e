"""Fine-tuned weights from a file: checked, in Paddle's or timm's layout, with what is known of where they come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from align.weights import in_float32
from convert.arrays import StateDict
from convert.errors import BadInput, IntegrityProblem, UsageProblem
from convert.files import strict_json
from convert.fingerprint import fingerprint, tensor_sha256s
from convert.layouts import SOURCES, recognise
from convert.manifest import manifest_path
from convert.port import Port, Request, check_and_map
from convert.rules import Layout
from convert.sources import Source, from_file, with_sha256
from convert.variants import Gelu, MixerConfig, Variant, get_variant

SIZES = tuple(
    field.name for field in fields(MixerConfig) if field.name not in ("num_classes", "gelu", "layer_norm_eps")
)
"""What a fine-tuned model has in common with its upstream: everything but the head, and what no shape tells."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Weights in float32, their config, and their origin.

    fingerprint is that of the file's tensors in the layout asked for, in their own dtype, so it is the same for every
    file format. upstream is the variant that was fine-tuned, known from --variant or from the manifest beside the file.
    port holds the file's own tensors; manifest is what lies beside the file, checked against it.
    """

    state_dict: StateDict
    config: MixerConfig
    name: str
    sha256: str | None
    fingerprint: str
    dtype: str
    upstream: Variant | None
    known_from: str
    port: Port | None = None
    manifest: dict[str, Any] | None = None

    def as_data(self) -> dict[str, Any]:
        """Return everything but the weights themselves."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "fingerprint": self.fingerprint,
            "dtype": self.dtype,
            "config": asdict(self.config),
            "upstream": self.upstream.name if self.upstream else None,
            "known_from": self.known_from,
        }


def read_weights(
    path: Path,
    *,
    dst: Layout = "paddle",
    src: str | None = None,
    variant: Variant | None = None,
    gelu: Gelu | None = None,
    ema: bool | None = None,
) -> Weights:
    """Return a checkpoint's weights, with a head of any number of classes.

    Args:
        path: Anything that mixer-convert reads.
        dst: The layout wanted.
        src: timm, google or paddle; None: told from the file.
        variant: The upstream, as the user states it.
        gelu: None: the manifest's, else that of src.
        ema: Averaged or raw weights of a training checkpoint that has both.

    Raises:
        BadInput: No vision MLP, or not of the variant's sizes.
        UsageProblem: Its layout cannot be told, or --variant is not what the manifest says.
        IntegrityProblem: The manifest beside it is about other weights.
    """
    source = with_sha256(from_file(path, ema=ema))
    manifest = _manifest(path)
    src = src or _src(source, path)
    said = manifest.get("config", {}).get("gelu") if manifest else None
    port = check_and_map(source, Request(checkpoint=path, src=src, dst=dst, gelu=gelu or said, ema=ema))
    _check_manifest(path, manifest, source)
    upstream, known_from = _upstream(path, variant, manifest)
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
        port=port,
        manifest=manifest,
    )


def check_classes(weights: Weights, classes: int) -> None:
    """Check that a model can be evaluated on so many classes.

    Raises:
        BadInput: Its head is for another number.
    """
    if weights.config.num_classes != classes:
        raise BadInput(
            f"head.weight: {weights.name} has {weights.config.num_classes} classes, CIFAR-10 has {classes}. "
            "Fine-tune it first."
        )


def _src(source: Source, path: Path) -> str:
    """Return the --src that a file is for, by its suffix or else by its layout."""
    if path.suffix in (".pdparams", ".npz"):
        return "paddle" if path.suffix == ".pdparams" else "google"
    _, layouts = recognise(source.state_dict, path.name) or (None, frozenset[Layout]())
    possible = [src for src, known in SOURCES.items() if layouts & set(known)]
    if len(possible) > 1:
        raise UsageProblem(f"{path}: its layout could be {' or '.join(possible)}. Pass --src to say which.")
    return possible[0] if possible else "timm"


def _manifest(path: Path) -> dict[str, Any] | None:
    beside = manifest_path(path)
    if not beside.is_file():
        return None
    try:
        manifest = strict_json.parse(beside.read_bytes())
    except ValueError as error:
        raise BadInput(f"{beside}: it is no JSON ({error}). Restore it, or move it away.") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("output"), dict):
        raise BadInput(f"{beside}: it is no manifest of a checkpoint. Restore it, or move it away.")
    return manifest


def _check_manifest(path: Path, manifest: dict[str, Any] | None, source: Source) -> None:
    if manifest is None:
        return
    found = fingerprint(tensor_sha256s(source.state_dict))
    if manifest["output"].get("fingerprint") != found:
        raise IntegrityProblem(
            f"{manifest_path(path)}: it is about weights with another fingerprint than {path.name} has "
            f"({found[:16]}…). Restore the file, or move the manifest away."
        )


def _upstream(path: Path, stated: Variant | None, manifest: dict[str, Any] | None) -> tuple[Variant | None, str]:
    if ((manifest or {}).get("source") or {}).get("kind") == "random":
        return None, f"random weights, says {manifest_path(path).name}"
    named = ((manifest or {}).get("variant") or {}).get("name")
    recorded = get_variant(named) if named else None
    if stated and recorded and stated != recorded:
        raise UsageProblem(
            f"--variant {stated.name}: the manifest of {path.name} says {recorded.name}. Leave --variant out."
        )
    if recorded:
        return recorded, manifest_path(path).name
    return stated, "--variant" if stated else "nothing"


def _check_sizes(path: Path, config: MixerConfig, upstream: Variant | None) -> None:
    if upstream is None:
        return
    for name in SIZES:
        found, expected = getattr(config, name), getattr(upstream.config, name)
        if found != expected:
            raise BadInput(f"{path}: {name} is {found}, {upstream.name} has {expected}. Is --variant right?")
