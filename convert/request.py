"""What a user asks for: which weights, and what is to become of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from convert.errors import UsageProblem
from convert.files.sets import Selection
from convert.mixer.adapt import Adaptation
from convert.mixer.identity import EPSILON_LIMIT, Claim, is_epsilon, stated
from convert.mixer.mapping import WEIGHT_DTYPES
from convert.mixer.rules import Layout
from convert.mixer.variants import Gelu, Variant, get_variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. None: the default, which depends on the weights.

    claims: what the weights have to agree with, such as other weights that they are compared with.
    """

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
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        """Check what a caller may have got wrong; the command line checks it before.

        Raises:
            UsageProblem: A GELU, an epsilon or a dtype that there is not.
        """
        if self.gelu not in (None, *get_args(Gelu)):
            raise UsageProblem(f"gelu {self.gelu!r}: there is none. Known: {', '.join(get_args(Gelu))}.")
        if self.layer_norm_eps is not None and not is_epsilon(self.layer_norm_eps):
            raise UsageProblem(f"layer_norm_eps {self.layer_norm_eps!r}: Paddle takes 0 to {EPSILON_LIMIT}, without 0.")
        if self.adaptation.dtype not in (None, *WEIGHT_DTYPES):
            raise UsageProblem(f"dtype {self.adaptation.dtype!r}: weights have {', '.join(WEIGHT_DTYPES)}.")

    @property
    def said(self) -> tuple[Claim, ...]:
        """What the user, and what the weights have to agree with, say of the config that no shape tells."""
        return (*self.claims, stated(self.gelu, self.layer_norm_eps))


def request_of(
    *, variant: str | None = None, weights_key: str | None = None, ema: bool | None = None, **fields: Any
) -> Request:
    """Return the request that options stand for.

    Args:
        variant: A name of `mixer-convert --list`.
        weights_key: Which set of weights, where a checkpoint holds several.
        ema: The averaged or the raw ones, where their names say so.
        fields: The other fields of a request.

    Raises:
        UsageProblem: No such variant, or a choice that is none.
    """
    chosen = get_variant(variant) if variant else None
    return Request(variant=chosen, selection=Selection(key=weights_key, ema=ema), **fields)
