"""The recorded trace and its file: JSON, bounded, hashed, and validated against its own config before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from align.core.inputs import DRAW, Kind
from align.core.result import Reference
from align.core.sketch import LABEL, PROJECTIONS, Sketch
from align.mixer.points import layers_of
from align.trace.result import PointRecord
from align.trace.schema import Malformed, Reader, check_config
from convert.arrays import Array, Shape
from convert.engine import WEIGHT_DTYPES
from convert.errors import IntegrityProblem, Unreadable
from convert.files import strict_json
from convert.mixer.rule_tables import layout_shapes
from convert.mixer.variants import MixerConfig

SCHEMA = LABEL
MAX_BYTES = 4 << 20
"""Above any trace: the largest architecture's (resmlp_36, l16) stay below 200 KB."""

RECORDED_LOGITS = 256
ADVICE = "Record it again with mixer-align record."
SOURCE_KINDS = ("random", "file", "hub")
_SHA256 = 64


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

    source says where the weights are from; source_fingerprint is theirs in timm's layout. logits are those at
    `logit_indices`, in float64.
    """

    name: str
    config: MixerConfig
    reference: Reference
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


def logits_kept(logits: Array) -> Array:
    """Return the logits that a trace keeps: all of them up to RECORDED_LOGITS, else so many, evenly spread."""
    flat = logits.reshape(-1)
    count = min(flat.size, RECORDED_LOGITS)
    return flat[[i * flat.size // count for i in range(count)]]


def write(stream: BinaryIO, trace: GoldenTrace) -> None:
    """Write a trace; the same trace gives the same bytes, a line for each parameter and each point."""
    data = _as_data(trace)
    data = {"schema": SCHEMA, "sha256": _sha256(data), **data}
    lines = [f"{json.dumps(key)}: {_lines(value)}" for key, value in data.items()]
    stream.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read(path: Path) -> GoldenTrace:
    """Return the trace of a file.

    Raises:
        Unreadable: It is no trace, or not one that a config implies.
        IntegrityProblem: It was changed after it was written.
    """
    data = _json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = str(data.get("schema", "none"))[:40] if isinstance(data, dict) else "none"
        raise Unreadable(path, f"its schema is {found}, not {SCHEMA}", ADVICE)
    content = {key: value for key, value in data.items() if key not in ("schema", "sha256")}
    try:
        if data.get("sha256") != _sha256(content):
            raise IntegrityProblem(f"{path}: its content does not match its hash: it was changed or damaged. {ADVICE}")
        return _trace(Reader(content, "the trace"))
    except Malformed as error:
        raise Unreadable(path, str(error), ADVICE) from error


def _json(path: Path) -> Any:
    if path.exists() and not path.is_file():
        raise Unreadable(path, "it is not a regular file", "Name a trace.")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise Unreadable(path, f"it has more than {MAX_BYTES} bytes, which no trace has", ADVICE)
    try:
        return strict_json.parse(content)
    except ValueError as error:
        raise Unreadable(path, f"it is truncated, damaged or no JSON ({str(error)[:80]})", ADVICE) from error


def _sha256(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content in one fixed form; Python's floats survive JSON bit for bit."""
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise Malformed("it holds a number that is not finite") from error
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"
    return json.dumps(value)


def _as_data(trace: GoldenTrace) -> dict[str, Any]:
    return {
        "name": trace.name,
        "reference": trace.reference,
        "config": asdict(trace.config),
        "source": {**trace.source, "fingerprint": trace.source_fingerprint},
        "inputs": {
            "kind": trace.inputs,
            "batch": trace.batch,
            "seed": trace.input_seed,
            "sha256": trace.input_sha256,
        },
        "versions": dict(trace.versions),
        "logits": list(trace.logits),
        "weights": [{**asdict(tensor), "shape": list(tensor.shape)} for tensor in trace.weights],
        "points": [_point_as_data(point) for point in trace.points],
    }


def _point_as_data(point: PointRecord) -> dict[str, Any]:
    kept = point.sketch
    return {
        "name": kept.name,
        "shape": list(kept.shape),
        "minimum": kept.minimum,
        "maximum": kept.maximum,
        "rms": kept.rms,
        "float64_noise": point.float64_noise,
        "float32_noise": point.float32_noise,
        "projections": list(kept.projections),
    }


def _trace(content: Reader) -> GoldenTrace:
    """Return the trace that the content describes; its config fixes every name and shape that may follow."""
    config = MixerConfig(**content.section("config").fields_of(MixerConfig))
    inputs, source = content.section("inputs"), content.section("source")
    batch = inputs.integer("batch", 1)
    check_config(config, batch)
    kind = source.one_of("kind", SOURCE_KINDS)
    origin = {key: source.text_or_none(key) for key in ("file", "sha256", "repo_id", "revision")}
    seed = source.integer("seed", 0, most=1 << 63) if kind == "random" else None
    versions = content.section("versions")
    logits = content.numbers("logits", min(batch * config.num_classes, RECORDED_LOGITS))
    return GoldenTrace(
        name=content.text("name"),
        config=config,
        reference="flax" if content.one_of("reference", ("timm", "flax")) == "flax" else "timm",
        source={"kind": kind, "seed": seed, **origin},
        source_fingerprint=source.hexadecimal("fingerprint", _SHA256),
        batch=batch,
        input_seed=inputs.integer("seed", 0, most=1 << 63),
        inputs=cast("Kind", inputs.one_of("kind", tuple(DRAW))),
        input_sha256=inputs.hexadecimal("sha256", _SHA256),
        versions={key: versions.text_or_none(key) for key in versions.data},
        logits=logits,
        weights=_weights(content, config),
        points=_points(content, config, batch),
    )


def _weights(content: Reader, config: MixerConfig) -> tuple[TensorRecord, ...]:
    shapes = layout_shapes(config, "paddle")
    rows = zip(content.sections("weights", len(shapes)), shapes.items(), strict=True)
    return tuple(
        TensorRecord(
            name=row.one_of("name", (name,)),
            dtype=row.one_of("dtype", WEIGHT_DTYPES),
            shape=row.shape("shape", shape),
            sha256=row.hexadecimal("sha256", _SHA256),
        )
        for row, (name, shape) in rows
    )


def _points(content: Reader, config: MixerConfig, batch: int) -> tuple[PointRecord, ...]:
    layers = layers_of(config, batch)
    rows = zip(content.sections("points", len(layers)), layers, strict=True)
    return tuple(
        PointRecord(
            sketch=Sketch(
                name=row.one_of("name", (layer.name,)),
                shape=row.shape("shape", layer.shape),
                minimum=row.number("minimum"),
                maximum=row.number("maximum"),
                rms=row.number("rms"),
                projections=row.numbers("projections", PROJECTIONS),
            ),
            float64_noise=row.number("float64_noise"),
            float32_noise=row.number("float32_noise"),
        )
        for row, layer in rows
    )
