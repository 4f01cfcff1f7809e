"""One conversion from end to end: choose the weights, map and check them, write them and their manifest."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from convert import families, files
from convert.disk.atomic import refuse_overwrite
from convert.disk.hashing import EarlyHash
from convert.engine import check_finite
from convert.errors import UsageProblem
from convert.evidence.recorded import manifest_path
from convert.family import Family, Port, Source
from convert.files.sets import TOP, Selection
from convert.output import Destination, write_weights
from convert.request import Request
from convert.sources import from_file, from_hub, from_seed

TORCH_LAYOUTS = ("timm", "torch")
"""Layouts that are written as .safetensors, the only one of our formats that timm and PyTorch read."""


def request_of(
    *, variant: str | None = None, weights_key: str | None = None, ema: bool | None = None, **options: Any
) -> Request:
    """Return the request that options stand for.

    Args:
        variant: A name from `mixer-convert --list`.
        weights_key: Which set of weights, where a checkpoint holds several.
        ema: Whether the averaged or the raw weights are meant, where their names tell.
        options: The other fields of a request, and the config fields that no shape shows.

    Raises:
        UsageProblem: There is no such variant or choice.
    """
    own = {field.name for field in fields(Request)}
    stated = {name: value for name, value in options.items() if name not in own and value is not None}
    return Request(
        variant=families.with_variant(variant)[1] if variant else None,
        selection=Selection(key=weights_key, ema=ema),
        stated=stated,
        **{name: value for name, value in options.items() if name in own},
    )


def choose_source(request: Request, early: EarlyHash | None = None) -> Source:
    """Return the weights that the user asked for; without a checkpoint or a seed, the hub's.

    Raises:
        UsageProblem: Both were given, nothing says which weights are meant, or an option would be ignored.
    """
    if request.pairing is not None:
        return _source_by_pairing(request, request.pairing, early)
    variant = request.variant
    family = families.with_variant(variant.name)[0] if variant is not None else None
    if request.checkpoint is not None and request.init_seed is not None:
        raise UsageProblem("--checkpoint and --init exclude each other. Pass one of them.")
    if request.checkpoint is not None:
        source = from_file(request.checkpoint, request.selection, family=family, early=early)
        _check_src(request, source.family)
        return source
    if request.selection != Selection():
        raise UsageProblem("--weights-key, --ema and --no-ema go with --checkpoint. Leave them out.")
    if family is None or variant is None:
        raise UsageProblem("Nothing to work on. Pass --variant NAME (see mixer-convert --list) or --checkpoint FILE.")
    _check_src(request, family)
    if request.init_seed is not None:
        return from_seed(family, variant, request.init_seed)
    if request.src not in (None, "timm"):
        advice = f"Pass --checkpoint FILE. {family.elsewhere.get(request.src, '')}".rstrip()
        raise UsageProblem(f"--src {request.src}: the hub has no such files. {advice}")
    return from_hub(family, variant)


def _source_by_pairing(request: Request, pairing: Path, early: EarlyHash | None) -> Source:
    """Return the weights of a checkpoint, with a pairing file in the place of a family."""
    from convert.pairing.family import PairedFamily, refuse_others

    refuse_others(request)
    if request.checkpoint is None:
        raise UsageProblem("--pairing goes with --checkpoint. Name the file to convert.")
    family = PairedFamily.of_file(pairing)
    source = from_file(request.checkpoint, request.selection, family=family, early=early)
    return replace(source, pairing=family.described)


def with_layout(source: Source, request: Request) -> Request:
    """Return the request with its layout: the one stated, else Paddle's, or the one that a pairing file leads to."""
    if request.dst is not None:
        return request
    if request.pairing is None:
        return replace(request, dst="paddle")
    from convert.pairing.family import leads_to

    return replace(request, dst=leads_to(source))


def check_and_map(source: Source, request: Request) -> Port:
    """Return the source in the requested layout, fully checked.

    Raises:
        BadInput: A key, shape, dtype or value is not that of a checkpoint of this config.
        UsageProblem: The requested layout does not exist for this family, the adaptation is impossible, or what the
            checkpoint says of itself is not what the user says.
    """
    port = _map(source, request)
    check_finite(source.state_dict, source.name)
    return port


def _map(source: Source, request: Request) -> Port:
    """Return the source in the requested layout, as `check_and_map` does, but without checking the values."""
    family, request = source.family, with_layout(source, request)
    if request.dst not in family.naming.layouts:
        raise UsageProblem(f"--dst {request.dst}: there is no {request.dst} layout for {family.name}. Choose another.")
    claims = (*request.claims, family.vocabulary.stated(request.stated))
    return family.port(source, replace(request, claims=claims))


def convert_checkpoint(
    request: Request,
    output: Path | None = None,
    *,
    force: bool,
    command_line: list[str],
    early: EarlyHash | None = None,
) -> dict[str, Any]:
    """Write the requested weights in the requested layout, and their manifest; return the manifest.

    Only a few tensors are in memory at a time, on their way into a temporary file. What was written is read back and
    compared before the file takes its place.

    Args:
        request: What the user asked for.
        output: Where to write it; None: under the default name in the current folder.
        force: Whether to replace existing files.
        command_line: What the manifest says of the command.
        early: May have the hash of the checkpoint already.

    Raises:
        BadInput: The weights are not convertible; nothing is written.
        OutputRefused: The output exists, or is the input.
        UsageProblem: An option would be ignored.
        IntegrityProblem: What was read back is not what was written, or the source changed meanwhile.
    """
    if request.init_seed is not None and request.src not in (None, "timm"):
        raise UsageProblem(f"--src {request.src} has no effect beside --init: random weights are drawn as timm's.")
    source = choose_source(request, early)
    request = with_layout(source, request)
    output = output or default_output(source, request)
    _check_output(output, source, request, force=force)
    port = _map(source, request)
    files.check_dtypes(output, port.conversion.state_dict)
    key = source.provenance.weights_key
    said = source.identity(port.config, request.dst or "", request.variant, None if key == TOP else key)
    destination = Destination(output, said, command_line, force)
    return write_weights(destination, port, early=early)


def default_output(source: Source, request: Request) -> Path:
    """Return the output's default name in the current folder; random and adapted weights never get a published name."""
    variant = request.variant
    if variant is None:
        stem = _stem(request.checkpoint) if request.checkpoint else source.family.name
    elif source.provenance.kind == "random":
        stem = f"{variant.architecture}.random_seed{source.provenance.seed}"
    else:
        stem = variant.timm_id
    adapted = request.adaptation
    stem += f".{adapted.num_classes}classes" if adapted.num_classes is not None else ""
    stem += f".{adapted.in_chans}chan" if adapted.in_chans is not None else ""
    stem += f".{adapted.dtype}" if adapted.dtype is not None else ""
    return Path(f"{stem}.safetensors" if request.dst in TORCH_LAYOUTS else f"{stem}.pdparams")


def _stem(checkpoint: Path) -> str:
    """Return a checkpoint's name without its suffixes; a folder's name as it is."""
    name = checkpoint.resolve().name
    return name if checkpoint.is_dir() else Path(name.removesuffix(".index.json").removesuffix(".tar")).stem


def _check_src(request: Request, family: Family) -> None:
    if request.src is not None and request.src not in family.sources:
        raise UsageProblem(f"src {request.src}: no such source. Known: {', '.join(family.sources)}.")


def _check_output(output: Path, source: Source, request: Request, *, force: bool) -> None:
    files.check_writable(output)
    if request.dst in TORCH_LAYOUTS and output.suffix != ".safetensors":
        raise UsageProblem(f"{output}: {request.dst} reads .safetensors. Choose another --out.")
    inputs = (source.path, *files.shards_of(source.path)) if source.path else ()
    inputs = inputs if request.pairing is None else (*inputs, request.pairing)
    for path in (output, manifest_path(output)):
        refuse_overwrite(path, force=force, inputs=inputs)
