"""What the pages of an audit and of an evaluation have in common: no network, no script, and the same parts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.render.interval_plot import interval_plot
from reports.render.words import MEANINGS, statistics

Data = dict[str, Any]
BANNERS = {"consistent with": "aligned", "above": "aligned", "below": "diverged", "not comparable": "inconclusive"}
"""The alignment page's banner that a verdict looks like."""
HEATS = 9


def page(template: str, report: Data, **values: Any) -> bytes:
    """Return a page; the same data gives the same bytes. Text of any origin is escaped, and only images may load.

    Args:
        template: Its file.
        report: Plain data: verdict, sentence, limits, finding, accuracy, published, timm and uncertain, as an audit's.
        values: What the template has beside it.
    """
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader("reports.render"), PackageLoader("align.render")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = "".join(
        _text(package, name) for package, name in (("align.render", "report.css"), ("reports.render", "audit.css"))
    )
    text = jinja.get_template(template).render(
        report=report,
        banner=BANNERS[report["verdict"]],
        meaning=MEANINGS[report["verdict"]],
        plot=interval_plot(report["finding"]),
        statistics=list(statistics(report)),
        confusion=list(_confusion(report)),
        classes=report["accuracy"]["classes"],
        style=Markup(style),  # noqa: S704  # our own files, without markup
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        **values,
    )
    return text.encode(errors="backslashreplace")


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")


def _confusion(report: Data) -> Iterator[Data]:
    """Yield a row per class: its cells with their heat (a class of the style), and how many were right."""
    classes = report["accuracy"]["classes"]
    for label, row in enumerate(report["accuracy"]["confusion"]):
        total = sum(row)
        cells = [(count, _heat(count, total), "hit" if label == other else "miss") for other, count in enumerate(row)]
        yield {"name": classes[label], "cells": cells, "right": f"{100 * row[label] / total:.1f} %" if total else "–"}


def _heat(count: int, total: int) -> int:
    """Return 0 for none, else 1 to HEATS by the share of the row."""
    return 0 if not count else 1 + min(HEATS - 1, HEATS * count // total)
