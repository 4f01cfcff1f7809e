"""The variant table as rows of text and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from convert.mixer.shapes import parameter_count
from convert.mixer.variants import Rgb, Variant

HEADERS = ("variant", "timm id", "classes", "parameters", "mean", "std", "interpolation", "crop", "note")


def as_row(variant: Variant) -> tuple[str, ...]:
    """Return a variant's row, one text per header."""
    return (
        variant.name,
        variant.timm_id,
        f"{variant.config.num_classes:,}",
        f"{parameter_count(variant.config):,}",
        _rgb(variant.mean),
        _rgb(variant.std),
        variant.interpolation,
        str(variant.crop_pct),
        variant.note,
    )


def as_data(variant: Variant) -> dict[str, Any]:
    """Return a variant as plain data, its parameter count included."""
    return {**asdict(variant), "timm_id": variant.timm_id, "parameters": parameter_count(variant.config)}


def _rgb(values: Rgb) -> str:
    return str(values[0]) if len(set(values)) == 1 else ", ".join(map(str, values))
