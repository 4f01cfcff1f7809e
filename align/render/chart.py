"""The figures of all layers as the geometry of a chart: a column per layer, a lane per figure, on a logarithmic scale.

Horizontal positions are in per cent of the width, so that the chart fits any screen; vertical ones are in pixels, so
that its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from align.render.data import PRECISIONS, Data, compared, failing_layer, failure_of, number, ratio, worst_ratio

FIGURES = ("introduced", "inherited")
READOUT = 116
"""Height in pixels of the text on top, the figures of the column pointed at, with room for the pointer."""

HEADING = 22
LANE = 64
AXIS = 42
SMALLEST = 1e-18
"""Least value that the scale reaches down to, however small the figures are."""

HEAT = ((1e-3, "h0"), (1e-2, "h1"), (1e-1, "h2"), (0.5, "h3"), (1.0, "h4"))
"""Greatest share of the bound, inclusive, for each CSS class of a bar."""

MOST_LABELS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One figure of one layer. y and height are pixels; bound_y is None where there is no bound."""

    y: float
    height: float
    heat: str
    bound_y: float | None
    text: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One layer; x is in per cent."""

    x: float
    name: str
    failed: bool
    marked: bool
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One figure of every layer: a strip from y (its top, in pixels) with lines at some powers of ten."""

    name: str
    y: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What the page draws; width is a column's, in per cent, and height the whole chart's, in pixels.

    shown is the column whose figures are displayed until another is pointed at: the marked one, else the worst.
    """

    columns: tuple[Column, ...]
    shown: Column | None
    lanes: tuple[Lane, ...]
    blocks: tuple[tuple[float, str], ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A logarithmic scale over the height of a lane; low and high are exponents of ten."""

    low: int
    high: int

    def up(self, value: float) -> float:
        """Return how far above the bottom of its lane a value is drawn, in pixels."""
        if value <= 0:
            return 0.0
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(LANE * min(max(share, 0.0), 1.0), 2)


def chart(data: Data) -> Chart:
    """Return the chart of all layers; it has no columns if no layer was measured."""
    layers = data["layers"]
    scales = {precision: _scale(layers, precision) for precision in PRECISIONS}
    lanes = tuple(
        _lane(index, precision, figure, scales[precision]) for index, (precision, figure) in enumerate(_figures())
    )
    width = 100 / max(len(layers), 1)
    first = failing_layer(data)
    columns = tuple(
        Column(
            x=round(i * width, 3),
            name=layer["name"],
            failed=bool(failure_of(data, layer)),
            marked=layer["name"] == first,
            bars=tuple(_bars(layer, lanes, scales)),
        )
        for i, layer in enumerate(layers)
    )
    return Chart(
        columns=columns,
        shown=_shown(columns, layers),
        lanes=lanes,
        blocks=_blocks(columns),
        width=round(width, 3),
        height=READOUT + len(lanes) * (HEADING + LANE) + AXIS,
    )


def heat_of(share: float) -> str:
    """Return the CSS class of a bar that is this share of its bound; `over` for anything above it, and for NaN."""
    return next((name for most, name in HEAT if share <= most), "over")


def _shown(columns: Sequence[Column], layers: Sequence[Data]) -> Column | None:
    marked = [column for column in columns if column.marked]
    by_ratio = sorted(zip(map(worst_ratio, layers), columns, strict=True), key=lambda pair: pair[0], reverse=True)
    return next(iter([*marked, *(column for _, column in by_ratio)]), None)


def _figures() -> Iterator[tuple[str, str]]:
    for precision in PRECISIONS:
        for figure in FIGURES:
            yield precision, figure


def _scale(layers: Sequence[Data], precision: str) -> Scale:
    """Return the scale that covers every figure and every bound of a precision, down to SMALLEST."""
    diffs = [layer[precision][figure] for layer in layers for figure in FIGURES]
    values = [number(diff[key]) for diff in diffs for key in ("max_abs_diff", "bound")]
    shown = [max(value, SMALLEST) for value in values if value > 0 and math.isfinite(value)] or [1.0]
    low = math.floor(math.log10(min(shown)))
    return Scale(low=low, high=max(math.ceil(math.log10(max(shown))), low + 1))


def _lane(index: int, precision: str, figure: str, scale: Scale) -> Lane:
    y = READOUT + index * (HEADING + LANE) + HEADING
    step = max(1, math.ceil((scale.high - scale.low) / 3))
    powers = range(scale.low, scale.high + 1, step)
    ticks = tuple((round(y + LANE - scale.up(10.0**power), 2), f"1e{power}") for power in powers)
    return Lane(name=f"{precision} {figure}", y=y, ticks=ticks)


def _bars(layer: Data, lanes: Sequence[Lane], scales: dict[str, Scale]) -> Iterator[Bar]:
    for lane, (precision, figure) in zip(lanes, _figures(), strict=True):
        diff = layer[precision][figure]
        value, bound = number(diff["max_abs_diff"]), number(diff["bound"])
        tall = scales[precision].up(value) if math.isfinite(value) else float(LANE)
        tall = max(tall, 2.0)
        limit = round(lane.y + LANE - scales[precision].up(bound), 2) if math.isfinite(bound) else None
        said = compared(diff["max_abs_diff"], diff["bound"], passed=diff["passed"])
        yield Bar(
            y=round(lane.y + LANE - tall, 2),
            height=tall,
            heat=_heat(diff),
            bound_y=limit,
            text=f"{lane.name} {said}",
            passed=diff["passed"],
        )


def _heat(diff: Data) -> str:
    if not diff["passed"]:
        return "over"
    if math.isinf(number(diff["bound"])):
        return "free"
    return heat_of(ratio(diff["max_abs_diff"], diff["bound"]))


def _blocks(columns: Sequence[Column]) -> tuple[tuple[float, str], ...]:
    """Return where the blocks begin, with their numbers; of more than MOST_LABELS blocks, only every so many."""
    begins: dict[str, float] = {}
    for column in columns:
        family, _, rest = column.name.partition(".")
        if family == "blocks":
            begins.setdefault(rest.partition(".")[0], column.x)
    every = math.ceil(len(begins) / MOST_LABELS) or 1
    return tuple((x, number) for index, (number, x) in enumerate(begins.items()) if index % every == 0)
