"""Where and how an audit ran: versions, processor, threads, knobs, seeds, command line, inputs, and our own commit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from align.probes.environment import environment
from align.probes.knobs import usual_threads
from convert.evidence.manifest import versions
from reports.render.environment import ENVIRONMENT_SCHEMA, Environment, GitState, Inputs

PACKAGES = ("scipy", "pillow", "jinja2")


def environment_of(*, device: str, input_seed: int, command_line: Sequence[str], inputs: Inputs) -> Environment:
    """Return the environment of an audit, without a time stamp.

    Args:
        device: The device Paddle ran on.
        input_seed: Seed of the images of the alignment's gates.
        command_line: As the command was called.
        inputs: What a rerun needs.
    """
    found = environment()
    return Environment(
        schema=ENVIRONMENT_SCHEMA,
        **found
        | {
            "versions": {**found["versions"], **versions(PACKAGES)},
            "device": device,
            "threads": usual_threads(),
            "seeds": {"alignment_images": input_seed},
            "command_line": tuple(command_line),
            "inputs": inputs,
            "git": git_state(Path(__file__).resolve()),
        },
    )


def git_state(file: Path) -> GitState | None:
    """Return the commit and dirty flag of the checkout that tracks a file; None if there is none, or no git."""
    if _git(file, "ls-files", "--error-unmatch", file.name) is None:
        return None
    commit, status = _git(file, "rev-parse", "HEAD"), _git(file, "status", "--porcelain", "--untracked-files=no")
    if commit is None or status is None:
        return None
    return GitState(commit=commit.strip(), dirty=bool(status.strip()))


def _git(file: Path, *arguments: str) -> str | None:
    """Return git's output for the file's folder, or None if it fails; GIT_DIR and the like could name another one."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        run = subprocess.run(  # noqa: S603  # the arguments are our own
            ["git", *arguments],  # noqa: S607  # the user's git, wherever it is
            cwd=file.parent,
            env=clean,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout if run.returncode == 0 else None
