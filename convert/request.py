"""What a user asks for: which weights, and what is to become of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from convert.adapt import Adaptation
from convert.files.sets import Selection
from convert.identity import Claim, stated
from convert.rules import Layout
from convert.variants import Gelu, Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. None: the default, which depends on the weights."""

    variant: Variant | None = None
    checkpoint: Path | None = None
    selection: Selection = field(default_factory=Selection)
    init_seed: int | None = None
    src: str | None = None
    dst: Layout = "paddle"
    gelu: Gelu | None = None
    layer_norm_eps: float | None = None
    image_size: int | None = None
    adaptation: Adaptation = field(default_factory=Adaptation)

    @property
    def stated(self) -> Claim:
        """What the user says of the config that no shape tells."""
        return stated(self.gelu, self.layer_norm_eps)
