"""The peak memory of a conversion, which is that of its largest tensor and not of the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

COMMAND = """
from pathlib import Path
from convert.commands.cli import main
main({arguments!r}, standalone_mode=False)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_memory_is_that_of_a_tensor(tmp_path: Path, mixer_convert: Run, record_property: Any) -> None:
    """b16_in21k has 304 MB, its head 67; measured in a process of its own."""
    source, out = tmp_path / "x.safetensors", tmp_path / "x.pdparams"
    made = mixer_convert("--variant", "b16_in21k", "--init", "random", "--dst", "timm", "--out", source)
    assert made.exit_code == 0, made.output
    code = COMMAND.format(arguments=["--checkpoint", str(source), "--out", str(out)])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak = 1024 * int(run.stdout.split()[-1])
    record_property("peak RSS of a b16_in21k conversion, bytes", peak)
    assert out.stat().st_size > 300e6
    assert peak <= 160e6
