"""How parts of batches are made: by a function given by name, so that another process makes the same ones."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convert.arrays import Array, Shape

Make = Callable[[int, slice], Array]
"""A function that returns a part of the batch with an index, (n, channels, height, width) float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How to make batches of images, in a form that another process can be given.

    function: `module:function`, which returns a Make when it is called with the images and the settings; its module
        must not import anything slow. settings: plain data. shape: that of the largest batch.
    """

    function: str
    settings: dict[str, Any]
    shape: Shape

    def of(self, images: Array) -> Make:
        """Return the function that makes the batches of these images, (n, height, width, 3) uint8."""
        make: Make = pkgutil.resolve_name(self.function)(images, **self.settings)
        return make
