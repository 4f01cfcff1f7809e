"""How parts of batches are made: a function by its name, so that another process makes the same ones."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convert.arrays import Array, Shape

Make = Callable[[int, slice], Array]
"""Returns a part of the batch of an index, (n, channels, height, width) float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What makes batches of some images.

    function: `module:function`, which returns a Make when it is called with the images and the settings; its module
        has to import nothing that is slow to. settings: plain data. shape: of the largest batch.
    """

    function: str
    settings: dict[str, Any]
    shape: Shape

    def of(self, images: Array) -> Make:
        """Return what makes the batches of these images, (n, height, width, 3) uint8."""
        make: Make = pkgutil.resolve_name(self.function)(images, **self.settings)
        return make
