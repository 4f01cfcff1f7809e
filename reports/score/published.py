"""The published accuracies on CIFAR-10, each with its source, locator and protocol, from published.toml."""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any

from convert.errors import BadInput, UsageProblem
from convert.mixer.variants import VARIANTS, Gelu, Rgb
from reports.data.preprocess import INTERPOLATIONS, Interpolation, Preprocessing

SPLIT_IMAGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """One published accuracy; the fields are those of published.toml, where they are explained."""

    id: str
    percent: float
    upstream: str
    model: str
    pretrained_on: str
    dataset: str
    source: str
    locator: str
    counted: int
    of: int
    image_size: int
    interpolation: Interpolation
    mean: Rgb
    std: Rgb
    gelu: Gelu
    recipe: str
    protocol_source: str
    remark: str

    @property
    def preprocessing(self) -> Preprocessing:
        """What was done to the images that the figure was measured on."""
        return Preprocessing(
            image_size=self.image_size,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            reason=f"the protocol of {self.id}",
        )


@functools.cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """Return the published accuracies on CIFAR-10, each with its source, locator and protocol.

    Each has `percent`, `upstream` (a name of `mixer-convert --list`), `counted` and `of` (images), `image_size`
    (pixels), `mean`, `std` and `interpolation`, `source` and `protocol_source` (URLs), `locator`, `recipe`, `remark`.

    Example:
        >>> [figure.percent for figure in reports.published_figures() if figure.upstream == "b16_in21k"][:1]
        [96.82]
    """
    return parse(files("reports.score").joinpath("published.toml").read_text(encoding="utf-8"))


def parse(text: str) -> tuple[PublishedFigure, ...]:
    """Return the figures of a TOML text.

    Raises:
        BadInput: It is not TOML, or a row lacks a field, has one too many, or one of the wrong type or range.
    """
    try:
        rows = tomllib.loads(text).get("figure", [])
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"published.toml: it is no TOML ({error}). Mend it.") from error
    figures = tuple(_figure(number, row) for number, row in enumerate(rows, 1))
    ids = [figure.id for figure in figures]
    if not figures or len(set(ids)) != len(ids):
        raise BadInput(f"published.toml: {'an id stands twice' if figures else 'it has no [[figure]]'}. Mend it.")
    return figures


def figure_of(upstream: str) -> PublishedFigure | None:
    """Return the figure that an upstream is judged by: its first one in the file, which is its authors' own."""
    return next((figure for figure in published_figures() if figure.upstream == upstream), None)


def figure_by_id(name: str) -> PublishedFigure:
    """Return the figure with an id.

    Raises:
        UsageProblem: There is none.
    """
    known = {figure.id: figure for figure in published_figures()}
    if name not in known:
        raise UsageProblem(f"--figure {name}: no such figure. Known: {', '.join(known)}.")
    return known[name]


def _figure(number: int, row: dict[str, Any]) -> PublishedFigure:
    where = f"published.toml: figure {number} ({row.get('id', 'no id')})"
    names = {field.name for field in fields(PublishedFigure)}
    for label, wrong in (("lacks", names - row.keys()), ("has the unknown", row.keys() - names)):
        if wrong:
            raise BadInput(f"{where}: it {label} {', '.join(sorted(wrong))}. Mend it.")
    for name, valid in _checks(row).items():
        if not valid:
            raise BadInput(f"{where}: {name} = {row[name]!r} is not valid. Mend it.")
    return PublishedFigure(**{**row, "mean": tuple(row["mean"]), "std": tuple(row["std"])})


def _checks(row: dict[str, Any]) -> dict[str, bool]:
    """Return, for each field, whether its value is valid."""
    numbers = {"percent", "counted", "of", "image_size", "mean", "std"}
    texts = {name: isinstance(value, str) and bool(value.strip()) for name, value in row.items() if name not in numbers}
    return {
        **texts,
        "percent": _between(row["percent"], 0, 100),
        "of": row["of"] == SPLIT_IMAGES,
        "counted": isinstance(row["counted"], int) and _between(row["counted"], 1, SPLIT_IMAGES),
        "image_size": isinstance(row["image_size"], int) and _between(row["image_size"], 1, 2**12),
        "mean": _rgb(row["mean"], least=0.0),
        "std": _rgb(row["std"], least=1e-3),
        "interpolation": row["interpolation"] in INTERPOLATIONS,
        "gelu": row["gelu"] in ("erf", "tanh"),
        "source": str(row["source"]).startswith("https://"),
        "protocol_source": str(row["protocol_source"]).startswith("https://"),
        "upstream": row["upstream"] in {variant.name for variant in VARIANTS if variant.pretrained},
    }


def _rgb(values: Any, least: float) -> bool:
    return isinstance(values, list) and len(values) == 3 and all(_between(value, least, 1) for value in values)


def _between(value: Any, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and least <= value <= most
