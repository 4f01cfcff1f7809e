"""One conversion from end to end: choose the weights, check and map them, write the output, then the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

from convert import files
from convert.errors import IntegrityProblem, UsageProblem
from convert.files.atomic import refuse_overwrite, write_atomically
from convert.fingerprint import tensor_sha256s
from convert.manifest import build_manifest, describe_output, manifest_path
from convert.mapping import Conversion, check_finite, convert_state_dict
from convert.rules import TIMM_TO_PADDLE
from convert.shapes import infer_config
from convert.sources import Source, from_file, from_hub, from_seed
from convert.variants import MixerConfig, Variant


def choose_source(variant: Variant | None, checkpoint: Path | None, init_seed: int | None) -> Source:
    """Return the weights that the user asked for; without a checkpoint or a seed, the hub's.

    Raises:
        UsageProblem: Both or neither were given where one is needed.
    """
    if checkpoint is not None and init_seed is not None:
        raise UsageProblem("--checkpoint and --init exclude each other. Pass one of them.")
    if checkpoint is not None:
        return from_file(checkpoint)
    if variant is None:
        raise UsageProblem("Nothing to work on. Pass --variant NAME (see mixer-convert --list) or --checkpoint FILE.")
    return from_hub(variant) if init_seed is None else from_seed(variant.config, init_seed)


def check_and_map(source: Source, variant: Variant | None) -> tuple[MixerConfig, Conversion]:
    """Return the config (the variant's, or read from the shapes) and the source in Paddle's layout, fully checked.

    Raises:
        BadInput: A key, shape, dtype or value that a checkpoint of this config does not have.
    """
    shapes = {key: array.shape for key, array in source.state_dict.items()}
    config = variant.config if variant else infer_config(shapes, source.name)
    expected = variant.name if variant else "a timm MLP-Mixer of its size"
    conversion = convert_state_dict(source.state_dict, TIMM_TO_PADDLE, config, name=source.name, expected=expected)
    check_finite(source.state_dict, source.name)
    return config, conversion


def default_output(source: Source, variant: Variant | None) -> Path:
    """Return the output's name in the current folder; random weights never get the name of a published checkpoint."""
    if variant is None:
        stem = source.path.stem if source.path else "mixer"
    elif source.provenance.kind == "random":
        stem = f"{variant.architecture}.random_seed{source.provenance.seed}"
    else:
        stem = variant.timm_id
    return Path(f"{stem}.pdparams")


def convert_checkpoint(
    source: Source, variant: Variant | None, output: Path, *, force: bool, command_line: list[str]
) -> dict[str, Any]:
    """Write the source in Paddle's layout and its manifest, and return the manifest.

    The written file is read back and every tensor's hash compared before it takes its place.

    Raises:
        BadInput: The weights are not convertible; nothing is written.
        OutputRefused: The output exists, or is the input.
        IntegrityProblem: What was read back is not what was written.
    """
    files.check_writable(output)
    inputs = (source.path,) if source.path else ()
    for path in (output, manifest_path(output)):
        refuse_overwrite(path, force=force, inputs=inputs)
    config, conversion = check_and_map(source, variant)
    state_dict = conversion.state_dict
    sha256s = tensor_sha256s(state_dict)
    described: dict[str, Any] = {}

    def check(written: Path) -> None:
        if tensor_sha256s(files.read(written)) != sha256s:
            raise IntegrityProblem(f"{output}: what was read back is not what was written. Check the disk.")
        described.update(describe_output(output, written, sha256s, state_dict))

    write_atomically(output, lambda stream: files.write(output, stream, state_dict), check)
    manifest = build_manifest(
        source=source,
        conversion=conversion,
        config=config,
        variant=variant,
        target_sha256s=sha256s,
        output=described,
        command_line=command_line,
    )
    text = json.dumps(manifest, indent=1).encode() + b"\n"
    write_atomically(manifest_path(output), lambda stream: _write(stream, text))
    return manifest


def _write(stream: BinaryIO, text: bytes) -> None:
    stream.write(text)
