"""One command, run as its console script would run it, in a process that does not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from importlib.metadata import entry_points

PR_SET_PDEATHSIG = 1
"""Source: Linux, include/uapi/linux/prctl.h."""


def main() -> None:
    """Run the command given by the arguments, the first of which is the process ID of the parent."""
    parent, program, *arguments = sys.argv[1:]
    _die_with(int(parent))
    sys.argv = [program, *arguments]
    (command, *_) = entry_points(group="console_scripts", name=program)
    command.load()()


def _die_with(parent: int) -> None:
    """Ask to be killed when the parent ends; where that is impossible, this process keeps the folder locked."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    main()
