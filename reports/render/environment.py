"""Where and how an audit ran, as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from reports.score.records import Circumstances

ENVIRONMENT_SCHEMA: Final = "mixer-report/environment/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """The commit of our own checkout, and whether there were uncommitted changes."""

    commit: str
    dirty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a rerun needs: paths and layouts as they were given, and the sets of weights that were taken."""

    weights: str
    checkpoint: str
    data: str
    src: str | None
    checkpoint_src: str | None
    weights_key: str | None
    checkpoint_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Circumstances):
    """Where an audit ran, on how many threads, with which seeds, how it was called, and our own commit.

    git: None outside of a checkout.
    """

    schema: Literal["mixer-report/environment/1"]
    threads: int
    seeds: Mapping[str, int]
    command_line: tuple[str, ...]
    inputs: Inputs
    git: GitState | None
