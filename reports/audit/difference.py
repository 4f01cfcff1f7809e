"""The first place at which two trees of plain data differ. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

RTOL = 1e-9
"""Relative tolerance for statistics that another NumPy or SciPy may round differently; counts have to be equal."""


def difference(expected: Any, found: Any, where: str = "", rtol: float = RTOL) -> str | None:
    """Return the first place at which plain data is not as expected, or None; floats may differ by rtol."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        if expected.keys() != found.keys():
            return where or "its list of entries"
        return _first(difference(expected[key], found[key], f"{where}.{key}".lstrip("."), rtol) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return where
        pairs = enumerate(zip(expected, found, strict=True))
        return _first(difference(a, b, f"{where}[{i}]", rtol) for i, (a, b) in pairs)
    if isinstance(expected, float) and type(found) in (float, int):
        return None if math.isclose(expected, found, rel_tol=rtol) else where
    return None if type(expected) is type(found) and expected == found else where


def _first(found: Iterable[str | None]) -> str | None:
    return next((where for where in found if where is not None), None)
