"""What a checkpoint file holds, before anything in it is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Content:
    """What a file holds.

    tree: mappings and lists in which tensors lie, and whatever else, as data. tool: whose own files are like this, if
    one tool alone writes such. metadata: text by name beside the tensors. foreign: what the file names that other
    readers would execute.
    """

    tree: object
    tool: Literal["torch", "paddle"] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
