"""A trace read back from plain data, validated field by field: against its config, or against itself. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from align.alignment import Alignment, alignment_named
from align.core.case import Settings
from align.core.inputs import DRAW, Kind
from align.core.sketch import PROJECTIONS, Sketch
from align.figures.reader import Malformed, Reader
from align.trace.golden import RECORDED_LOGITS, GoldenTrace, TensorRecord
from align.trace.result import PointRecord
from align.trace.twins_record import read_twins
from convert.arrays import Shape
from convert.errors import UsageProblem

DTYPES = ("float32", "float16", "bfloat16")
TWINS_DTYPES = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")
SOURCE_KINDS = ("random", "file", "hub")
TWINS_SOURCES = ("random", "file", "own")
_SHA256 = 64


def trace_of_family(content: Reader) -> GoldenTrace:
    """Return the trace that the content describes; its config fixes every name and shape that may follow.

    Raises:
        Malformed: A field is not what it has to be.
    """
    alignment, batch = _alignment(content), _batch(content)
    config = alignment.read_config(content.section("config"), batch)
    case = alignment.case_of_config(config, Settings(batch=batch), source=None, candidate=None)
    tensors = zip(content.sections("weights", len(case.expected)), case.expected.items(), strict=True)
    points = zip(content.sections("points", len(case.points)), case.points, strict=True)
    return replace(
        _common(content, SOURCE_KINDS),
        family=content.text("family"),
        config=config,
        reference=content.one_of("reference", alignment.references),
        logits=content.numbers("logits", min(batch * case.classes, RECORDED_LOGITS)),
        weights=tuple(_tensor(row, name, row.shape("shape", array.shape), DTYPES) for row, (name, array) in tensors),
        points=tuple(_point(row, point.name, row.shape("shape", point.shape)) for row, point in points),
    )


def trace_of_twins(content: Reader) -> GoldenTrace:
    """Return the trace of two models of no family, validated against itself: nothing else says what they show.

    Raises:
        Malformed: A field is not what it has to be.
    """
    trace = _common(content, TWINS_SOURCES)
    weights = [_tensor(row, row.text("name"), row.sizes("shape"), TWINS_DTYPES) for row in content.each("weights")]
    points = [_point(row, row.text("name"), row.sizes("shape")) for row in content.each("points")]
    shapes = {tensor.name: tensor.shape for tensor in weights}
    if len(shapes) < len(weights) or len({point.sketch.name for point in points}) < len(points):
        raise Malformed(f"{content.name} has a tensor or a point twice")
    twins = read_twins(content, trace.batch, trace.source["seed"], shapes)
    elements = next(math.prod(point.sketch.shape) for point in points if point.sketch.name == twins.headline)
    return replace(
        trace,
        reference=content.one_of("reference", ("torch",)),
        logits=content.numbers("logits", min(elements, RECORDED_LOGITS)),
        weights=tuple(weights),
        points=tuple(points),
        twins=twins,
    )


def _batch(content: Reader) -> int:
    return content.section("inputs").integer("batch", 1)


def _common(content: Reader, kinds: Sequence[str]) -> GoldenTrace:
    """Return a trace with the fields that all traces share, such as where weights and inputs come from."""
    inputs, source, versions = content.section("inputs"), content.section("source"), content.section("versions")
    kind = source.one_of("kind", kinds)
    origin = {key: source.text_or_none(key) for key in ("file", "sha256", "repo_id", "revision")}
    seed = source.integer("seed", 0, most=1 << 63) if kind == "random" else None
    return GoldenTrace(
        name=content.text("name"),
        family="",
        config=None,
        reference="",
        source={"kind": kind, "seed": seed, **origin},
        source_fingerprint=source.hexadecimal("fingerprint", _SHA256),
        batch=_batch(content),
        input_seed=inputs.integer("seed", 0, most=1 << 63),
        inputs=cast("Kind", inputs.one_of("kind", tuple(DRAW))),
        input_sha256=inputs.hexadecimal("sha256", _SHA256),
        versions={key: versions.text_or_none(key) for key in versions.data},
        logits=(),
        weights=(),
        points=(),
    )


def _alignment(content: Reader) -> Alignment:
    try:
        return alignment_named(content.text("family"))
    except UsageProblem as error:
        raise Malformed(str(error)) from error


def _tensor(row: Reader, name: str, shape: Shape, dtypes: Sequence[str]) -> TensorRecord:
    return TensorRecord(
        name=row.one_of("name", (name,)),
        dtype=row.one_of("dtype", dtypes),
        shape=shape,
        sha256=row.hexadecimal("sha256", _SHA256),
    )


def _point(row: Reader, name: str, shape: Shape) -> PointRecord:
    return PointRecord(
        sketch=Sketch(
            name=row.one_of("name", (name,)),
            shape=shape,
            minimum=row.number("minimum"),
            maximum=row.number("maximum"),
            rms=row.number("rms"),
            projections=row.numbers("projections", PROJECTIONS),
        ),
        float64_noise=row.number_or_none("float64_noise"),
        float32_noise=row.number("float32_noise"),
    )
