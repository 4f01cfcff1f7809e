"""What a trace of two models keeps because no family defines it, as plain data and read back field by field. Pure."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, get_args, get_type_hints

from align.core.bounds import Accepted
from align.core.drawn import HOW_MANY, Distribution, DrawnTensor
from align.core.inputs import Input
from align.core.point import Item, Tapped
from align.figures.reader import Malformed, Reader
from convert.arrays import Shape
from convert.rules import KeyRule, Transform

MOST_VALUES = 64 << 10
"""Most bytes of tensor values that a trace keeps, over all its tensors."""

MOST_INPUTS = 1 << 26
"""Most elements of a batch, over all its inputs: 256 MiB in float32."""

GREATEST = 2.0**31
"""Greatest magnitude of an input's values, and of a distribution's numbers."""

EXPONENTS = 126
"""Greatest magnitude of the exponent of a power of two that float32 holds in full precision."""

INPUT_DTYPES = get_args(get_type_hints(Input)["dtype"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOrigin:
    """Where one of the candidate's tensors comes from.

    rule: How it follows from the reference's tensor. point: Where it acts. drawn: How the reference's tensor is drawn.
    values: The bytes of a tensor that is not drawn. With neither, its values come from a file or the model itself.
    """

    rule: KeyRule
    point: str
    drawn: DrawnTensor | None = None
    values: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinsRecord:
    """Record of two models of no family: where the candidate shows each point, and where its weights come from.

    headline: The point that the models exist to compute. inputs: How the batch is drawn. tapped: Where the candidate
    shows each point. tensors: Origins, by the candidate's name. left_out: The points that the candidate does not show,
    and why. passed_over: Its tensors without a counterpart in the reference, and why. accepted: Points whose difference
    is accepted.
    """

    headline: str
    inputs: tuple[Input, ...]
    tapped: Mapping[str, Tapped]
    tensors: Mapping[str, TensorOrigin]
    left_out: Mapping[str, str] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, Accepted] = field(default_factory=dict)


def as_data(record: TwinsRecord) -> dict[str, Any]:
    """Return what the record says of the models as a whole, as plain data for JSON."""
    groups: dict[int, dict[str, Any]] = {}
    for point, accepted in record.accepted.items():
        groups.setdefault(id(accepted), {"points": [], **asdict(accepted)})["points"].append(point)
    return {
        "witness": "none",
        "headline": record.headline,
        "inputs": [_input_as_data(one) for one in record.inputs],
        "left_out": dict(record.left_out),
        "passed_over": dict(record.passed_over),
        "accepted": [*groups.values()],
    }


def point_as_data(record: TwinsRecord, point: str) -> dict[str, Any]:
    """Return where the candidate shows a point, as plain data."""
    return {"candidate": asdict(record.tapped[point])}


def tensor_as_data(origin: TensorOrigin) -> dict[str, Any]:
    """Return where one of the candidate's tensors comes from, as plain data."""
    drawn = origin.drawn
    return {
        "source": origin.rule.source,
        "transform": origin.rule.transform.value,
        "point": origin.point,
        "drawn": drawn
        and {
            "name": drawn.name,
            "law": drawn.distribution.law,
            "numbers": list(drawn.distribution.numbers),
            "padding": drawn.padding,
            "exponent": drawn.exponent,
        },
        "values": None if origin.values is None else base64.b64encode(origin.values).decode(),
    }


def _input_as_data(one: Input) -> dict[str, Any]:
    return {**asdict(one), "shape": list(one.shape), "between": one.between and list(one.between)}


def read_twins(content: Reader, batch: int, seed: int | None, shapes: Mapping[str, Shape]) -> TwinsRecord:
    """Return the record of two models from a trace's content, beyond sketches and hashes.

    Args:
        content: The trace's content.
        batch: How many examples a batch has.
        seed: The seed of the drawn weights; None: they are not drawn.
        shapes: The shapes of the candidate's tensors, by name.

    Raises:
        Malformed: A field is not what it has to be.
    """
    said = content.section("twins")
    said.one_of("witness", ("none",))
    points = {row.text("name"): _tapped(row.section("candidate")) for row in content.each("points")}
    tensors = {
        row.text("name"): _origin(row, seed, shapes[row.text("name")], points) for row in content.each("weights")
    }
    if sum(len(one.values or b"") for one in tensors.values()) > MOST_VALUES:
        raise Malformed(f"{content.name}'s weights hold more than {MOST_VALUES} bytes of values")
    if len({one.rule.source for one in tensors.values()}) < len(tensors):
        raise Malformed(f"{content.name}'s weights name a source twice")
    return TwinsRecord(
        headline=said.one_of("headline", points),
        inputs=_inputs(said, batch),
        tapped=points,
        tensors=tensors,
        left_out=said.texts("left_out"),
        passed_over=said.texts("passed_over"),
        accepted=dict(_accepted(said, points)),
    )


def _tapped(row: Reader) -> Tapped:
    return Tapped(
        module=row.text("module"),
        where=cast('Literal["input", "output"]', row.one_of("where", ("input", "output"))),
        call=row.integer("call", 0),
        item=_item(row),
    )


def _item(row: Reader) -> Item:
    item = row.data.get("item")
    if isinstance(item, list) and len(item) > 1 and all(type(step) in (int, str) for step in item):
        return tuple(item)
    return row.integer("item", 0) if type(item) is int else row.text_or_none("item")


def _origin(row: Reader, seed: int | None, shape: Shape, points: Collection[str]) -> TensorOrigin:
    name, source = row.text("name"), row.text("source")
    transform = Transform(row.one_of("transform", [one.value for one in Transform]))
    if not transform.inverse.takes(shape):
        raise Malformed(f"{row.name}'s transform is {transform.value}, which does not lead to {list(shape)}")
    drawn = None if row.data.get("drawn", "") is None else row.section("drawn")
    if drawn is not None and seed is None:
        raise Malformed(f"{row.name}'s drawn is said of weights that are from a file")
    return TensorOrigin(
        rule=KeyRule(source=source, target=name, transform=transform),
        point=row.one_of("point", points),
        drawn=None if drawn is None else _drawn(drawn, seed or 0, transform.inverse.shape(shape)),
        values=_values(row),
    )


def _drawn(row: Reader, seed: int, shape: Shape) -> DrawnTensor:
    law = next(law for law in HOW_MANY if law == row.one_of("law", HOW_MANY))
    numbers = row.numbers("numbers", HOW_MANY[law])
    in_order = law == "normal" or (numbers[0] in (0, 1) if law == "fan-in" else numbers[0] < numbers[1])
    if not in_order or max(map(abs, numbers)) > GREATEST:
        raise Malformed(f"{row.name}'s numbers are {list(numbers)}, which {law} does not take")
    has_rows = row.data.get("padding", "") is not None
    return DrawnTensor(
        name=row.text("name"),
        seed=seed,
        shape=shape,
        distribution=Distribution(law=law, numbers=numbers),
        padding=row.integer("padding", 0, most=(*shape, 0)[0] - 1) if has_rows else None,
        exponent=row.integer("exponent", -EXPONENTS, most=EXPONENTS),
    )


def _values(row: Reader) -> bytes | None:
    text = row.text_or_none("values")
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{row.name}'s values are no base64") from error


def _inputs(said: Reader, batch: int) -> tuple[Input, ...]:
    found = tuple(_input(row) for row in said.each("inputs"))
    names = [one.name for one in found]
    if len(set(names)) < len(names) or (len(names) > 1 and "" in names):
        raise Malformed(f"{said.name}'s inputs are called {names}, where each needs a name of its own")
    if sum(batch * math.prod(one.shape) for one in found) > MOST_INPUTS:
        raise Malformed(f"{said.name}'s inputs have more than {MOST_INPUTS} elements")
    return found


def _input(row: Reader) -> Input:
    dtype = row.one_of("dtype", INPUT_DTYPES)
    between = None if row.data.get("between", "") is None else row.numbers("between", 2)
    if between is not None:
        low, high = between if dtype == "float32" else map(math.ceil, between)
        if not -GREATEST <= low < high <= GREATEST:
            raise Malformed(f"{row.name}'s between is {list(between)}, which is no range")
    if between is None and dtype.startswith("int"):
        raise Malformed(f"{row.name}'s between is null, which whole numbers need")
    ends = None if between is None else (between[0], between[1])
    return Input(name=row.text("name"), shape=row.sizes("shape"), dtype=cast("Any", dtype), between=ends)


def _accepted(said: Reader, points: Collection[str]) -> Iterator[tuple[str, Accepted]]:
    """Yield each point with its accepted difference; points of one entry share the same object."""
    if said.data.get("accepted") == []:
        return
    for row in said.each("accepted"):
        accepted, names = Accepted(bound=row.number("bound"), reason=row.text("reason")), row.data.get("points")
        if accepted.bound < 0 or not isinstance(names, list) or not all(name in [*points] for name in names):
            raise Malformed(f"{row.name}: it has to be about points of the trace, with a bound from 0")
        yield from ((name, accepted) for name in names)
