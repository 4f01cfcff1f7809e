"""What the benchmarks share: commands measured as whole processes, in turn, and their ratios as a Markdown table."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE.parent)}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation compiles once, not in every run
ROWS_ALONE = "BENCHMARKS_ROWS_ALONE"
"""Set by all.py: print the rows of ratios and nothing else."""
HEADERS = "| ratio | target | median | least | greatest |\n| --- | --- | --- | --- | --- |"
PACKAGES = ("numpy", "safetensors", "click", "torch", "timm", "paddlepaddle")


class Run(NamedTuple):
    """A process that ran: wall seconds, seconds of processor time, and greatest memory in MB."""

    seconds: float
    processor: float
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio, one value a round, and what it is to be; an empty target: it is told for its own sake."""

    what: str
    target: str
    values: Sequence[float]

    def row(self) -> str:
        """Return it as a row of the table."""
        return f"| {self.what} | {self.target} | {spread(self.values)} |"


def measured(command: Sequence[str], output: Path | None = None) -> Run:
    """Return what a command took; its output, where it has one, is removed before and after."""
    if output is not None:
        output.unlink(missing_ok=True)
        os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=HERE.parent
    )
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = status
    if status:
        sys.exit(f"{' '.join(command)}: {errors.decode()}")
    if output is not None:
        output.unlink()
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def in_turn(commands: Mapping[str, tuple[Sequence[str], Path | None]], runs: int) -> dict[str, list[Run]]:
    """Return each command's runs; the first round, which warms the caches, is left out, and the order alternates."""
    found: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name in list(commands) if number % 2 else list(reversed(commands)):
            found[name].append(measured(*commands[name]))
    return {name: values[1:] for name, values in found.items()}


def seeded_weights(path: Path, variant: str) -> Path:
    """Return the path, where seeded weights of a variant now lie in the layout that goes with its suffix."""
    layout = "timm" if path.suffix == ".safetensors" else "paddle"
    made = [sys.executable, "-m", "convert.commands.cli", "--variant", variant, "--init", "random", "--dst", layout]
    measured([*made, "--out", str(path)])
    return path


def over(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratios, round by round."""
    return [one / other for one, other in zip(numerators, denominators, strict=True)]


def spread(values: Sequence[float]) -> str:
    """Return the cells of median, least and greatest."""
    return f"{statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f}"


def report(ratios: Sequence[Ratio], details: str = "") -> None:
    """Print the ratios as a table, with the machine and details unless a caller wants the rows alone."""
    rows = "\n".join(ratio.row() for ratio in ratios)
    print(rows if rows_alone() else f"{machine()}\n\n{details}\n\n{HEADERS}\n{rows}\n", flush=True)


def rows_alone() -> bool:
    """Return whether the rows of ratios are wanted without details."""
    return ROWS_ALONE in os.environ


def machine() -> str:
    """Return the processor, its load, the versions and the date in words."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    processor = f"{len(os.sched_getaffinity(0))} cores of {name}, load {os.getloadavg()[0]:.1f}"
    versions = [f"{package} {version(package)}" for package in PACKAGES]
    python = f"Python {sys.version.split()[0]}"
    return ", ".join([processor, python, *versions, datetime.now(tz=UTC).date().isoformat()])
