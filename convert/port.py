"""One conversion from end to end: choose the weights, check and map them, write the output, then the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert import files
from convert.disk.atomic import refuse_overwrite
from convert.disk.hashing import EarlyHash
from convert.errors import UsageProblem
from convert.evidence.manifest import Written, build_manifest
from convert.evidence.recorded import manifest_path
from convert.files.sets import TOP, Selection
from convert.mixer.adapt import adapt, refuse_image_size
from convert.mixer.identity import OPTIONS, Claim, as_metadata, identity, unsaid
from convert.mixer.layouts import ORIGIN, SOURCES
from convert.mixer.mapping import Conversion, check_finite, check_one_dtype, convert_state_dict
from convert.mixer.recognition import in_timm_layout, layout_and_config
from convert.mixer.rules import Layout, covers, route
from convert.mixer.variants import MixerConfig
from convert.output import Destination, write_weights
from convert.request import Request
from convert.sources import Source, from_file, from_hub, from_seed

GOOGLE_FILES = "https://console.cloud.google.com/storage/mixer_models"
TANH_NOTE = "Google trained these weights with the tanh GELU; build the model with it"
ERF_NOTE = (
    "Google trained these weights with the tanh GELU; with erf the model is another function, whose logits lie about "
    "1e-4 away on B/16 with random weights"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Port:
    """A source that is checked and mapped: its config and layout, the weights in the layout wanted, and remarks.

    assumed: in a sentence, what of the config nobody says.
    """

    source: Source
    config: MixerConfig
    layout: Layout
    conversion: Conversion
    notes: tuple[str, ...] = ()
    assumed: str = ""


def choose_source(request: Request, early: EarlyHash | None = None) -> Source:
    """Return the weights that the user asked for; without a checkpoint or a seed, the hub's.

    Raises:
        UsageProblem: Both or neither were given where one is needed, or an option that would be ignored.
    """
    if request.checkpoint is not None and request.init_seed is not None:
        raise UsageProblem("--checkpoint and --init exclude each other. Pass one of them.")
    if request.src is not None and request.src not in SOURCES:
        raise UsageProblem(f"src {request.src}: no such source. Known: {', '.join(SOURCES)}.")
    if request.checkpoint is not None:
        return from_file(request.checkpoint, request.selection, early=early)
    if request.selection != Selection():
        raise UsageProblem("--weights-key, --ema and --no-ema go with --checkpoint. Leave them out.")
    if request.variant is None:
        raise UsageProblem("Nothing to work on. Pass --variant NAME (see mixer-convert --list) or --checkpoint FILE.")
    if request.init_seed is not None:
        return from_seed(request.variant.config, request.init_seed)
    if request.src not in (None, "timm"):
        where = f" Google's files are at {GOOGLE_FILES}." if request.src == "google" else ""
        raise UsageProblem(f"--src {request.src}: the hub has no such files. Pass --checkpoint FILE.{where}")
    return from_hub(request.variant)


def check_and_map(source: Source, request: Request) -> Port:
    """Return the source in the layout wanted, fully checked.

    Raises:
        BadInput: A key, shape, dtype or value that a checkpoint of this config does not have.
        UsageProblem: The layout wanted does not exist for this family, the adaptation is impossible, or what the
            checkpoint says of itself is not what the user says.
    """
    port = _map(source, request)
    check_finite(source.state_dict, source.name)
    return port


def _map(source: Source, request: Request) -> Port:
    """Return the source in the layout wanted, as `check_and_map` does, but without a look at the values."""
    layout, own = layout_and_config(source, request)
    if not covers(request.dst, own.family):
        raise UsageProblem(f"--dst {request.dst}: there is no {request.dst} layout for {own.family}. Choose another.")
    if request.image_size is not None:
        refuse_image_size(own, request.image_size)
    wanted = request.adaptation
    kept = own if wanted.keeps_head(own) else replace(own, num_classes=0)
    in_timm, dropped = in_timm_layout(source, request, layout, kept)
    adapted = adapt(in_timm, kept, wanted)
    check_one_dtype(adapted.state_dict, source.name)
    there = convert_state_dict(adapted.state_dict, adapted.config, src="timm", dst=request.dst)
    renames = route(layout, request.dst, kept)
    filled = {rule.target for rule in renames}
    conversion = Conversion(
        state_dict=there.state_dict,
        renames=renames,
        adapted={rule.target: adapted.changes[rule.source] for rule in there.renames if rule.source in adapted.changes},
        added=tuple(rule.target for rule in there.renames if rule.target not in filled),
        dropped=dropped,
    )
    assumed = _assumed(source, request, layout, own)
    notes = (*_notes(source, request, layout, own, dropped), *([assumed] if assumed else []))
    return Port(
        source=source, config=adapted.config, layout=layout, conversion=conversion, notes=notes, assumed=assumed
    )


def _notes(
    source: Source, request: Request, layout: Layout, config: MixerConfig, dropped: tuple[str, ...]
) -> Iterator[str]:
    """Yield what the user should know of how the weights were taken."""
    yield from source.notes
    if source.provenance.stripped_prefix:
        yield f"the prefix {source.provenance.stripped_prefix} was stripped from every name"
    if layout == "google":
        yield TANH_NOTE if config.gelu == "tanh" else ERF_NOTE
    elif choices := ORIGIN.get(layout):
        said = " and ".join(f"{choice} {getattr(config, choice)}" for choice in choices)
        yield f"models in {layout} layout have {said}; build this one with it"
    if dropped:
        yield f"its own head is left out ({', '.join(dropped)})"
    elif request.adaptation.num_classes is not None and config.num_classes:
        yield f"it has {config.num_classes} classes already, so its own head is kept"


def _assumed(source: Source, request: Request, layout: Layout, config: MixerConfig) -> str:
    """Return what nobody says of the config, in a sentence; layouts but Paddle's say it by where they are from."""
    unknown = unsaid((*source.claims, *request.said))
    if not unknown or layout not in SOURCES["paddle"] or source.path is None:
        return ""
    values = " and ".join(f"{choice} {getattr(config, choice)}" for choice in unknown)
    options = " or ".join(OPTIONS[choice] for choice in unknown)
    return (
        f"nothing says which {' and '.join(unknown)} {source.name} is for: timm's, {values}, assumed ({options} says)"
    )


def default_output(source: Source, request: Request) -> Path:
    """Return the output's name in the current folder; random and adapted weights never get a published one's."""
    variant = request.variant
    if variant is None:
        stem = _stem(request.checkpoint) if request.checkpoint else "mixer"
    elif source.provenance.kind == "random":
        stem = f"{variant.architecture}.random_seed{source.provenance.seed}"
    else:
        stem = variant.timm_id
    adapted = request.adaptation
    stem += f".{adapted.num_classes}classes" if adapted.num_classes is not None else ""
    stem += f".{adapted.in_chans}chan" if adapted.in_chans is not None else ""
    stem += f".{adapted.dtype}" if adapted.dtype is not None else ""
    return Path(f"{stem}.safetensors" if request.dst == "timm" else f"{stem}.pdparams")


def _stem(checkpoint: Path) -> str:
    """Return a checkpoint's name without its suffixes; a folder's name as it is."""
    name = checkpoint.resolve().name
    return name if checkpoint.is_dir() else Path(name.removesuffix(".index.json").removesuffix(".tar")).stem


def convert_checkpoint(
    request: Request,
    output: Path | None = None,
    *,
    force: bool,
    command_line: list[str],
    early: EarlyHash | None = None,
) -> dict[str, Any]:
    """Write the weights asked for in the layout asked for and their manifest, and return the manifest.

    A few tensors are in memory at a time, on their way into a temporary file. What was written is read back and
    compared before the file takes its place.

    Args:
        request: What is wanted.
        output: Where to; None: under the default name in the current folder.
        force: Whether to replace what is there.
        command_line: For the manifest.
        early: May know the hash of the checkpoint already.

    Raises:
        BadInput: The weights are not convertible; nothing is written.
        OutputRefused: The output exists, or is the input.
        IntegrityProblem: What was read back is not what was written, or the source changed meanwhile.
    """
    source = choose_source(request, early)
    output = output or default_output(source, request)
    _check_output(output, source, request.dst, force=force)
    port = _map(source, request)
    said = _identity(port, request)

    def describe(written: Written) -> dict[str, Any]:
        return build_manifest(
            written, port.conversion, layout=port.layout, said=said, notes=port.notes, command_line=command_line
        )

    return write_weights(
        Destination(output, as_metadata(said), force=force), source, port.conversion, describe, early=early
    )


def _check_output(output: Path, source: Source, dst: Layout, *, force: bool) -> None:
    files.check_writable(output)
    if dst == "timm" and output.suffix != ".safetensors":
        raise UsageProblem(f"{output}: timm reads .safetensors. Choose another --out.")
    inputs = (source.path, *files.shards_of(source.path)) if source.path else ()
    for path in (output, manifest_path(output)):
        refuse_overwrite(path, force=force, inputs=inputs)


def _identity(port: Port, request: Request) -> dict[str, Any]:
    """Return what is to be written down of the output."""
    provenance, claims = port.source.provenance, port.source.claims
    if provenance.kind == "random":
        claims = (Claim(place="the seed", random=True),)
    key = None if provenance.weights_key == TOP else provenance.weights_key
    return identity(port.config, request.dst, request.variant, claims, key)
