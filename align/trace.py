"""The values that one side showed at the comparison points, checked against the points expected."""

from __future__ import annotations

from collections.abc import Sequence

from align.compare import LayerDiff, Tolerance, compare, largest
from align.layers import Layer
from align.result import Finding
from convert.arrays import Array, Shape


class Points:
    """The points that one side showed so far: names, shapes and dtypes, in order."""

    def __init__(self, expected: Sequence[Layer], side: str, dtype: str) -> None:
        self._expected = [(layer.name, layer.shape, dtype) for layer in expected]
        self._side = side
        self._shown: list[tuple[str, Shape, str]] = []

    def show(self, name: str, value: Array) -> None:
        """Note a point."""
        self._shown.append((name, value.shape, value.dtype.name))

    def findings(self) -> list[Finding]:
        """Return the first place where what was shown is not what was expected; nothing when all is well."""
        for wanted, shown in zip(self._expected, self._shown, strict=False):
            if wanted != shown:
                return [Finding(layer=wanted[0], sentence=f"{self._side} shows {_text(shown)}, not {_text(wanted)}")]
        missing, extra = self._expected[len(self._shown) :], self._shown[len(self._expected) :]
        for point in missing:
            return [Finding(layer=point[0], sentence=f"{self._side} never shows {point[0]}")]
        for point in extra:
            return [Finding(layer=point[0], sentence=f"{self._side} shows {point[0]} after its last point")]
        return []


class Trace:
    """Recorded values by point, to compare others with."""

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}
        self._scales: dict[str, float] = {}

    def record(self, name: str, value: Array) -> None:
        """Keep a point's value."""
        self.values[name] = value
        self._scales[name] = largest(value)

    def compare(self, name: str, value: Array, tolerance: Tolerance) -> LayerDiff:
        """Return how far a value lies from the recorded one, which is the reference."""
        return compare(name, self.values[name], value, tolerance, self._scales[name])


def _text(point: tuple[str, Shape, str]) -> str:
    name, shape, dtype = point
    return f"{name} {dtype} {shape}"
