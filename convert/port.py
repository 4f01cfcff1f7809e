"""One conversion from end to end: choose the weights, check and map them, write the output, then the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convert import files
from convert.adapt import Adaptation, adapt, refuse_image_size
from convert.arrays import Shape, StateDict
from convert.errors import BadInput, KeyMismatch, UsageProblem
from convert.files.atomic import refuse_overwrite
from convert.hashing import EarlyHash
from convert.layouts import SOURCES, account, config_of, hint_at, nearest_layout
from convert.manifest import build_manifest, manifest_path
from convert.mapping import Conversion, check_finite, convert_state_dict
from convert.output import Written, write_weights
from convert.rules import Layout, covers, route
from convert.sources import Source, from_file, from_hub, from_seed
from convert.variants import Gelu, MixerConfig, Variant

GOOGLE_FILES = "https://console.cloud.google.com/storage/mixer_models"
TANH_NOTE = "Google trained these weights with the tanh GELU; build the model with it"
ERF_NOTE = (
    "Google trained these weights with the tanh GELU; with erf the model is another function, whose logits lie about "
    "1e-4 away on B/16 with random weights"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. None: the default, which depends on the weights."""

    variant: Variant | None = None
    checkpoint: Path | None = None
    init_seed: int | None = None
    src: str = "timm"
    dst: Layout = "paddle"
    gelu: Gelu | None = None
    ema: bool | None = None
    image_size: int | None = None
    adaptation: Adaptation = field(default_factory=Adaptation)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Port:
    """A source that is checked and mapped: its config and layout, the weights in the layout wanted, and a remark."""

    source: Source
    config: MixerConfig
    layout: Layout
    conversion: Conversion
    note: str = ""


def choose_source(request: Request) -> Source:
    """Return the weights that the user asked for; without a checkpoint or a seed, the hub's.

    Raises:
        UsageProblem: Both or neither were given where one is needed.
    """
    if request.checkpoint is not None and request.init_seed is not None:
        raise UsageProblem("--checkpoint and --init exclude each other. Pass one of them.")
    if request.src not in SOURCES:
        raise UsageProblem(f"src {request.src}: no such source. Known: {', '.join(SOURCES)}.")
    if request.checkpoint is not None:
        if request.checkpoint.suffix == ".pdparams" and request.src != "paddle":
            raise UsageProblem(f"{request.checkpoint}: a .pdparams has Paddle's layout. Pass --src paddle.")
        return from_file(request.checkpoint, ema=request.ema)
    if request.ema is not None:
        raise UsageProblem("--ema and --no-ema go with --checkpoint. Leave them out.")
    if request.variant is None:
        raise UsageProblem("Nothing to work on. Pass --variant NAME (see mixer-convert --list) or --checkpoint FILE.")
    if request.init_seed is not None:
        return from_seed(request.variant.config, request.init_seed)
    if request.src != "timm":
        where = f" Google's files are at {GOOGLE_FILES}." if request.src == "google" else ""
        raise UsageProblem(f"--src {request.src}: the hub has no such files. Pass --checkpoint FILE.{where}")
    return from_hub(request.variant)


def check_and_map(source: Source, request: Request) -> Port:
    """Return the source in the layout wanted, fully checked.

    Raises:
        BadInput: A key, shape, dtype or value that a checkpoint of this config does not have.
        UsageProblem: The layout wanted does not exist for this family, or the adaptation is impossible.
    """
    port = _map(source, request)
    check_finite(source.state_dict, source.name)
    return port


def _map(source: Source, request: Request) -> Port:
    """Return the source in the layout wanted, as `check_and_map` does, but without a look at the values."""
    layout, config = _layout_and_config(source, request)
    if not covers(request.dst, config.family):
        raise UsageProblem(
            f"--dst {request.dst}: there is no {request.dst} layout for {config.family}. Choose another."
        )
    in_timm = _in_timm_layout(source, request, layout, config)
    if request.image_size is not None:
        refuse_image_size(config, request.image_size)
    adapted, config = adapt(in_timm, config, request.adaptation)
    there = convert_state_dict(adapted, config, src="timm", dst=request.dst)
    changes = request.adaptation.changes
    conversion = Conversion(
        state_dict=there.state_dict,
        renames=route(layout, request.dst, config),
        adapted={rule.target: changes[rule.source] for rule in there.renames if rule.source in changes},
    )
    note = "" if layout != "google" else TANH_NOTE if config.gelu == "tanh" else ERF_NOTE
    return Port(source=source, config=config, layout=layout, conversion=conversion, note=note)


def _layout_and_config(source: Source, request: Request) -> tuple[Layout, MixerConfig]:
    """Return the source's layout, told by its names among those that --src allows, and its config."""
    shapes = {key: array.shape for key, array in source.state_dict.items()}
    layouts = SOURCES["timm" if source.provenance.kind == "random" else request.src]
    gelu: Gelu = request.gelu or ("tanh" if request.src == "google" else "erf")
    if request.variant is None:
        layout = nearest_layout(shapes, layouts)
        return layout, replace(_infer(shapes, layout, source, request.src), gelu=gelu)
    config = replace(request.variant.config, gelu=gelu)
    possible = [layout for layout in layouts if covers(layout, config.family)]
    if not possible:
        raise UsageProblem(f"--src {request.src}: there is no such layout for {config.family}. Is --variant right?")
    return nearest_layout(shapes, possible), config


def _in_timm_layout(source: Source, request: Request, layout: Layout, config: MixerConfig) -> StateDict:
    expected = request.variant.name if request.variant else f"{config.family} in {layout} layout"
    state_dict = source.state_dict
    try:
        return convert_state_dict(
            state_dict, config, src=layout, dst="timm", name=source.name, expected=expected
        ).state_dict
    except KeyMismatch as error:
        shapes = {key: array.shape for key, array in state_dict.items()}
        hint = hint_at(shapes, source.name, request.src, (layout, config.family))
        raise KeyMismatch(source.name, error.missing, error.unexpected, expected, hint) from error


def _infer(shapes: Mapping[str, Shape], layout: Layout, source: Source, src: str) -> MixerConfig:
    """Return the config that the shapes imply; where names are lacking, say which are missing or unexpected."""
    try:
        return config_of(shapes, layout, source.name)
    except BadInput as error:
        family, missing, unexpected = account(shapes, layout)
        if not missing and not unexpected:
            raise
        hint = hint_at(shapes, source.name, src, (layout, family))
        raise KeyMismatch(source.name, missing, unexpected, f"{family} in {layout} layout", hint) from error


def default_output(source: Source, request: Request) -> Path:
    """Return the output's name in the current folder; random and adapted weights never get a published one's."""
    variant = request.variant
    if variant is None:
        stem = Path(source.path.name.removesuffix(".index.json")).stem if source.path else "mixer"
    elif source.provenance.kind == "random":
        stem = f"{variant.architecture}.random_seed{source.provenance.seed}"
    else:
        stem = variant.timm_id
    adapted = request.adaptation
    stem += f".{adapted.num_classes}classes" if adapted.num_classes is not None else ""
    stem += f".{adapted.in_chans}chan" if adapted.in_chans is not None else ""
    return Path(f"{stem}.safetensors" if request.dst == "timm" else f"{stem}.pdparams")


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
    source = choose_source(request)
    output = output or default_output(source, request)
    _check_output(output, source, request.dst, force=force)
    port = _map(source, request)

    def describe(written: Written) -> dict[str, Any]:
        return build_manifest(
            source=written.source,
            conversion=port.conversion,
            config=port.config,
            layouts=(port.layout, request.dst),
            variant=request.variant,
            note=port.note,
            source_sha256s=written.source_sha256s,
            target_sha256s=written.target_sha256s,
            output=written.described,
            command_line=command_line,
        )

    return write_weights(output, source, port.conversion, describe, force=force, early=early)


def _check_output(output: Path, source: Source, dst: Layout, *, force: bool) -> None:
    files.check_writable(output)
    if dst == "timm" and output.suffix != ".safetensors":
        raise UsageProblem(f"{output}: timm reads .safetensors. Choose another --out.")
    inputs = (source.path, *files.shards_of(source.path)) if source.path else ()
    for path in (output, manifest_path(output)):
        refuse_overwrite(path, force=force, inputs=inputs)
