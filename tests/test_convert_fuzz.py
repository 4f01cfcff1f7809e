"""A short run of the fuzzing of each reader; `python tests/fuzz_readers.py FORMAT` runs as long as it is let."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZER = Path(__file__).with_name("fuzz_readers.py")
SECONDS = 3
ANEW = ("sh", "-c", '"$@"; exit $?', "sh")
"""A process of its own between: to the child of a process the kernel ascribes its parent's greatest memory too."""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pdparams", "pth", "npz", "safetensors"])
def test_fuzzing_finds_nothing(tmp_path: Path, form: str) -> None:
    pytest.importorskip("atheris", reason="needs atheris, which is not here")
    command = [*ANEW, sys.executable, FUZZER, form, f"-max_total_time={SECONDS}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    executions = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert executions
    assert int(executions[1]) > 10
    assert list(tmp_path.iterdir()) == []
