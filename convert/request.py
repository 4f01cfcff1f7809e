"""What a user asks for: which weights, and what is to become of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.engine import WEIGHT_DTYPES
from convert.errors import UsageProblem
from convert.files.sets import Selection
from convert.identity import Claim, NamedVariant


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """What to change in the weights; None leaves them as they are. dtype is one of WEIGHT_DTYPES."""

    num_classes: int | None = None
    in_chans: int | None = None
    head_seed: int = 0
    dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. None: the default, which depends on the weights.

    stated: config fields that no shape shows, by name, for the family to check. claims: what the weights have to agree
    with, such as those of other weights that they are compared with. pairing: a file that says what becomes of the
    weights of any model.
    """

    variant: NamedVariant | None = None
    checkpoint: Path | None = None
    pairing: Path | None = None
    selection: Selection = field(default_factory=Selection)
    init_seed: int | None = None
    src: str | None = None
    dst: str | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    adaptation: Adaptation = field(default_factory=Adaptation)
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        """Check the dtype, which a caller from Python may have got wrong; the command line checks it before.

        Raises:
            UsageProblem: There is no such dtype.
        """
        if self.adaptation.dtype not in (None, *WEIGHT_DTYPES):
            raise UsageProblem(f"dtype {self.adaptation.dtype!r}: weights have {', '.join(WEIGHT_DTYPES)}.")
