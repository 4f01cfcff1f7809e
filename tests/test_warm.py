"""Commands that are forked from a process which has the frameworks loaded behave as those that begin by themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from warm import Warm

SCRIPT = """
import os, sys
print(os.getcwd(), os.environ["ASKED"], sys.argv[1:], sys.path[0], "align" in sys.modules)
print("to the other", file=sys.stderr)
"""


def ended(command: str, folder: Path, *commands: Path) -> tuple[int, str, str]:
    """Return exit code, output and errors, in which the shell names processes by numbers."""
    path = ":".join([*map(str, commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "ASKED": "for"}
    shell = ["bash", "-c", command]
    run = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout, re.sub(r"\s*\b\d{2,}\b\s*", " ", run.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "python script.py a 'b c'",
        "python - a < script.py",
        "echo 'raise SystemExit(3)' | python -",
        "echo 'raise SystemExit(\"a sentence\")' | python -",
        "echo 'import os; os.kill(os.getpid(), 9)' | python -",
        "python -c 'print(1)'",
        "python -m pytest --version",
        "python -m pytest -q script.py > said",
        "mixer-align --variant no_such",
        "mixer-align --help | head -n 1",
        "mixer-report verify absent",
    ],
)
def test_they_say_and_end_as_others_do(command: str, warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    assert ended(command, tmp_path, warm.path) == ended(command, tmp_path)


@pytest.mark.slow
def test_the_frameworks_are_loaded_and_nothing_of_ours(warm: Warm, tmp_path: Path) -> None:
    program = "import sys; print(*({'torch', 'timm', 'paddle', 'align', 'convert', 'reports'} & {*sys.modules}))"
    (tmp_path / "script.py").write_text(program)
    assert {*ended("python script.py", tmp_path, warm.path)[1].split()} == {"torch", "timm", "paddle"}
