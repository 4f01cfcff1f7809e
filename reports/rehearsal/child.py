"""One command in a process of its own, as its script runs it, that does not outlive the process which started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from importlib.metadata import entry_points

PR_SET_PDEATHSIG = 1
"""Source: Linux, include/uapi/linux/prctl.h."""


def main() -> None:
    """Run the command that the arguments are, after the number of the process that started this one."""
    parent, program, *arguments = sys.argv[1:]
    _die_with(int(parent))
    sys.argv = [program, *arguments]
    (command, *_) = entry_points(group="console_scripts", name=program)
    command.load()()


def _die_with(parent: int) -> None:
    """Ask to be killed when the parent ends, where the system can; elsewhere its lock of the folder is kept."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    main()
