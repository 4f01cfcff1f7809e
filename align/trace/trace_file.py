"""A recorded trace's file: JSON, bounded, hashed, and validated before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from align.figures.reader import Malformed, Reader
from align.trace import twins_record
from align.trace.golden import GoldenTrace
from align.trace.result import PointRecord
from align.trace.trace_reader import trace_of_family, trace_of_twins
from convert.disk.atomic import write_atomically
from convert.errors import BadInput, IntegrityProblem, Unreadable
from convert.files import strict_json

SCHEMA, FORMER, TWINS = "mixer-align/trace/2", "mixer-align/trace/1", "mixer-align/trace-of-two-models/1"
FORMER_FAMILY = "mixer"
"""Family of traces in the former schema, which do not name one: there was no other."""

MAX_BYTES = 4 << 20
"""Bytes above which no file is a trace: those of the largest architectures (resmlp_36, l16) stay below 200 KB."""

ADVICE = "Record it again with mixer-align record."


def write(stream: BinaryIO, trace: GoldenTrace) -> None:
    """Write a trace, one line per parameter and per point; the same trace always gives the same bytes.

    Raises:
        BadInput: It would be larger than a trace may be.
    """
    data = _as_data(trace)
    data = {"schema": TWINS if trace.twins else SCHEMA, "sha256": _sha256(data), **data}
    lines = [f"{json.dumps(key)}: {_lines(value)}" for key, value in data.items()]
    content = ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    if len(content) > MAX_BYTES:
        raise BadInput(
            f"{trace.name}: {len(trace.points)} points and {len(trace.weights)} tensors make {len(content)} bytes, and "
            f"a trace has {MAX_BYTES} at most. Leave points out with [left-out] of a pairing file."
        )
    stream.write(content)


def write_whole(path: Path, trace: GoldenTrace, *, force: bool) -> None:
    """Write a trace to a file, whole or not at all, and check it by reading it back.

    Raises:
        BadInput: It would be larger than a trace may be.
        IntegrityProblem: What was read back is not what was written.
        OutputRefused, IOProblem: As `write_atomically` says.
    """
    write_atomically(
        path, lambda stream: write(stream, trace), check=lambda written: _read_back(written, trace), force=force
    )


def read(path: Path) -> GoldenTrace:
    """Return the trace in a file.

    Raises:
        Unreadable: It is not a trace, or not one that its config implies.
        IntegrityProblem: It was changed after it was written.
    """
    data = _json(path)
    if not isinstance(data, dict) or data.get("schema") not in (SCHEMA, FORMER, TWINS):
        found = str(data.get("schema", "none"))[:40] if isinstance(data, dict) else "none"
        raise Unreadable(path, f"its schema is {found}, not {SCHEMA}", ADVICE)
    content = {key: value for key, value in data.items() if key not in ("schema", "sha256")}
    try:
        if data.get("sha256") != _sha256(content):
            raise IntegrityProblem(f"{path}: its content does not match its hash: it was changed or damaged. {ADVICE}")
        family = {"family": FORMER_FAMILY} if data["schema"] == FORMER else {}
        reader = Reader({**content, **family}, "the trace")
        return trace_of_twins(reader) if data["schema"] == TWINS else trace_of_family(reader)
    except Malformed as error:
        raise Unreadable(path, str(error), ADVICE) from error


def _read_back(path: Path, trace: GoldenTrace) -> None:
    if read(path) != trace:
        raise IntegrityProblem(f"{path}: what was read back is not what was written. Check the disk.")


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
    """Return the SHA-256 of the content in one fixed JSON form; Python's floats survive JSON bit for bit."""
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
    data: dict[str, Any] = {
        "name": trace.name,
        "family": trace.family,
        "reference": trace.reference,
        "config": asdict(trace.config) if trace.twins is None else None,
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
    if (twins := trace.twins) is None:
        return data
    del data["family"], data["config"]
    of_tensors = [twins_record.tensor_as_data(twins.tensors[tensor.name]) for tensor in trace.weights]
    of_points = [twins_record.point_as_data(twins, point.sketch.name) for point in trace.points]
    return {
        **data,
        "weights": [row | more for row, more in zip(data["weights"], of_tensors, strict=True)],
        "points": [row | more for row, more in zip(data["points"], of_points, strict=True)],
        "twins": twins_record.as_data(twins),
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
