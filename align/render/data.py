"""One result as the plain data that JSON takes, and what every renderer needs to know of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import resources
from typing import Any

from align.core.result import FIGURES, AlignmentResult
from align.render.fold import share
from align.render.text import NO_WITNESS, verdict_line

SCHEMA = "mixer-align/result/3"
PRECISIONS = ("float64", "float32")
OUTCOMES = {True: "passed", False: "failed", None: "not run"}

Data = dict[str, Any]


def as_data(result: AlignmentResult) -> Data:
    """Return the result as JSON takes it; NaN and infinities, which JSON lacks, become the strings `nan` and `inf`."""
    data: Data = {"schema": SCHEMA, "sentence": verdict_line(result), **finite(result)}
    del data["accept_rounding"]  # it decides what bool(result) is, and is not a finding
    for section, found in zip(data["sections"], result.sections, strict=True):
        section["checks"] = [{"name": check.name, **finite(check)} for check in found.checks]
    return data


def schema_text() -> str:
    """Return the JSON Schema (draft 2020-12) that `as_data` keeps to."""
    return resources.files("align.render").joinpath("result.schema.json").read_text(encoding="utf-8")


def number(figure: float | str | None) -> float:
    """Return a figure of the data as a number again; a missing bound is infinite."""
    return math.inf if figure is None else float(figure)


def ratio(figure: float | str, bound: float | str | None) -> float:
    """Return a figure in units of its bound, NaN counting as infinite; 0 where there is no bound."""
    return share(number(figure), number(bound))


def compared(figure: float | str, bound: float | str | None, *, passed: bool) -> str:
    """Return a figure against its bound, as the sentences write it: `2.0e-15 ≤ 1.0e-12`."""
    limit = number(bound)
    if math.isinf(limit):
        return f"{number(figure):.2e}" + ("" if passed else ", not finite")
    return f"{number(figure):.2e} {'≤' if passed else 'exceeds'} {limit:.1e}"


def is_judged(found: Data) -> bool:
    """Return whether a check or a difference is held against a bound, or fails without one, as NaN does."""
    return not found["passed"] or not math.isinf(number(found["bound"]))


def outcome(found: Data) -> bool | None:
    """Return whether a check or a difference passed, None where it is not judged."""
    return bool(found["passed"]) if is_judged(found) else None


def diffs(layer: Data) -> Iterator[tuple[str, str, Data]]:
    """Yield (precision, figure, difference) for a layer: eight with a witness, the introduced ones first."""
    for figure in ("introduced", *(name for name in FIGURES if name != "introduced")):
        for precision in PRECISIONS:
            if layer[precision][figure] is not None:
                yield precision, figure, layer[precision][figure]


def figure_name(data: Data, precision: str, figure: str) -> str:
    """Return the name of a figure; without a witness the truth is the reference in float64."""
    named = figure.replace("_", " ")
    truth = "witness" if has_witness(data) else "float64 reference"
    return f"{precision} {named.replace('witness', truth)}"


def has_witness(data: Data) -> bool:
    """Return whether there was a witness; older results do not say, and always had one."""
    return bool(data.get("sides", {}).get("witness", True))


def without_witness(data: Data) -> str:
    """Return what a report says if there was no witness, or an empty string."""
    if has_witness(data):
        return ""
    sides = data["sides"]
    return f"{NO_WITNESS}: float64 is compared between {sides['reference']} and {sides['candidate']} alone"


def accepted_rows(data: Data) -> list[tuple[str, str, str]]:
    """Return point, bound and reason of each difference that is accepted; older results have none."""
    accepted = data.get("accepted", {})
    return [(name, f"{one['bound']:.1e}", one["reason"]) for name, one in accepted.items()]


def worst_ratio(layer: Data) -> float:
    """Return the layer's worst figure in units of its bound."""
    return max(ratio(diff["max_abs_diff"], diff["bound"]) for _, _, diff in diffs(layer))


def failing_layer(data: Data) -> str:
    """Return the name of the first layer at fault, or an empty string."""
    return str((data["first_divergence"] or {}).get("layer", ""))


def failure_of(data: Data, layer: Data) -> str:
    """Return what is wrong at a layer in one sentence, or an empty string."""
    if layer["name"] == failing_layer(data):
        return str(data["first_divergence"]["sentence"])
    for precision, figure, diff in diffs(layer):
        if not diff["passed"]:
            said = compared(diff["max_abs_diff"], diff["bound"], passed=False)
            named = figure_name(data, "", figure).strip()
            return f"{layer['name']}: {named} {precision} difference {said}"
    return ""


def finite(value: Any) -> Any:
    """Return records as plain data in which NaN and infinities are strings, as JSON lacks them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [finite(item) for item in value]
    return {name: finite(getattr(value, name)) for name in _names(value.__class__)} if is_dataclass(value) else value


@cache
def _names(record: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))
