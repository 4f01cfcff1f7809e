"""One result as a single HTML page that needs no network and no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from align.render import chart as geometry
from align.render.data import (
    OUTCOMES,
    Data,
    accepted_rows,
    compared,
    diffs,
    failing_layer,
    failure_of,
    figure_name,
    is_judged,
    without_witness,
)

VERDICTS = {
    "aligned": "The port is the same function.",
    "rounding": "The port is the same function; its float32 logits are too large for the bound.",
    "diverged": "The port is not the same function.",
    "inconclusive": "Nothing is proved either way.",
}


def html(data: Data) -> bytes:
    """Return the page, all text escaped; its content security policy admits only its own style and data: images."""
    style = style_text()
    page = render(
        "report.html.j2",
        data,
        compared_files=_files(data),
        figures=[figure_name(data, precision, figure) for precision, figure, _ in _diffs_of_first(data)],
        layers=[_layer(data, layer) for layer in data["layers"]],
        accepted=accepted_rows(data),
        sections=[(section["gate"], [_check(check) for check in section["checks"]]) for section in data["sections"]],
        facts=list(_facts(data)),
        style=Markup(style),  # noqa: S704  # our own file, without markup
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page.encode(errors="backslashreplace")


def style_text() -> str:
    """Return the page's style: its colours in two blocks for `:root`, light and dark, then its rules."""
    return resources.files("align.render").joinpath("templates", "report.css").read_text(encoding="utf-8")


def render(template: str, data: Data, **values: Any) -> str:
    """Return a template filled with a result, every text escaped.

    Args:
        template: The template's file name.
        data: The result.
        values: What the template needs besides what the verdict, the gates and the chart need.
    """
    found = _templates().get_template(template)
    return found.render(
        data=data,
        meaning=VERDICTS[data["verdict"]],
        where=failing_layer(data),
        witness=without_witness(data),
        outcomes=OUTCOMES,
        chart=geometry.chart(data),
        size=geometry,
        **values,
    )


@cache
def _templates() -> Environment:
    """Return the templates; each is compiled once per process, as that takes as long as filling it."""
    return Environment(
        loader=PackageLoader("align.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _files(data: Data) -> str:
    """Return the names of the reference's and the candidate's files, to tell a tab or a bookmark by."""
    settings = data["settings"]
    weights = settings.get("weights", {})
    seeded = f"random weights (seed {weights['seed']})" if weights.get("seed") is not None else "random weights"
    reference = weights.get("file") or settings.get("reference_model") or seeded
    candidate = weights.get("candidate") or settings.get("candidate_model") or "its conversion in memory"
    return f"{reference} → {candidate}"


def _diffs_of_first(data: Data) -> Iterator[tuple[str, str, Data]]:
    for layer in data["layers"][:1]:
        yield from diffs(layer)


def _layer(data: Data, layer: Data) -> dict[str, Any]:
    return {
        "name": layer["name"],
        "shape": "×".join(map(str, layer["float32"]["inherited"]["shape"])),
        "cells": [
            (compared(d["max_abs_diff"], d["bound"], passed=d["passed"]), d["passed"]) for _, _, d in diffs(layer)
        ],
        "failed": bool(failure_of(data, layer)),
    }


def _check(check: Data) -> dict[str, Any]:
    return {
        **check,
        "said": compared(check["figure"], check["bound"], passed=check["passed"]),
        "outcome": OUTCOMES[check["passed"]] if is_judged(check) else "not judged",
    }


def _facts(data: Data) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each fact about the batch, the settings and the environment."""
    yield "batch SHA-256", data["input_sha256"]
    yield from _flat(data["settings"])
    yield from _flat(data["environment"])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif value is not None:
            yield name, str(value)
