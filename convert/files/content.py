"""What a checkpoint file holds, before anything in it is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Content:
    """What a file holds.

    tree: the tensors, in mappings and lists, and everything else, as data. tool: the framework that alone writes such
    files, if there is one. metadata: text by name, stored beside the tensors. foreign: names in the file that other
    readers would execute.
    """

    tree: object
    tool: Literal["torch", "paddle"] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
