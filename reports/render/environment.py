"""Where and how an audit ran, as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

ENVIRONMENT_SCHEMA: Final = "mixer-report/environment/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """The commit of our own checkout, and whether there were uncommitted changes."""

    commit: str
    dirty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a rerun needs: paths as they were given, the layout said and the set of weights taken."""

    weights: str
    checkpoint: str
    data: str
    src: str | None
    checkpoint_src: str | None
    weights_key: str | None
    checkpoint_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Versions, processor, settings of the arithmetic, threads, seeds, command line, inputs, and our own commit.

    cpus: of the machine; threads: those that were used. device: what Paddle ran on. knobs: those that were set. git:
    None outside of a checkout.
    """

    schema: Literal["mixer-report/environment/1"]
    versions: Mapping[str, str | None]
    platform: str
    processor: str
    cpus: int | None
    device: str
    arithmetic: Mapping[str, Mapping[str, bool | int | str]]
    knobs: Mapping[str, str]
    threads: int
    seeds: Mapping[str, int]
    command_line: tuple[str, ...]
    inputs: Inputs
    git: GitState | None
