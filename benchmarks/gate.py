"""Print the wall time of the whole b16_in21k gate over that of the bare script, run in turn as whole processes."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BARE = [sys.executable, str(HERE / "bare_forward.py")]
GATE = [sys.executable, "-m", "align.cli", "--variant", "b16_in21k"]
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 7


def seconds(command: list[str]) -> float:
    """Return the wall seconds of one run, in the project's folder."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    subprocess.run(command, check=True, capture_output=True, cwd=HERE.parent, env=environment)
    return time.perf_counter() - start


def summary(name: str, values: list[float]) -> str:
    """Return a Markdown row of median, least and greatest."""
    return f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |"


seconds(BARE)
pairs = [(seconds(GATE), seconds(BARE)) for _ in range(RUNS)]
print(f"{RUNS} alternating pairs after a warm-up, load {os.getloadavg()[0]:.1f}\n")
print("| | median | least | greatest |\n| --- | --- | --- | --- |")
print(summary("gate, s", [gate for gate, _ in pairs]))
print(summary("bare script, s", [bare for _, bare in pairs]))
print(summary("gate / bare", [gate / bare for gate, bare in pairs]))
