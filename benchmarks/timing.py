"""What the benchmarks share: commands measured as whole processes, in turn, and their ratios, as a table or JSON."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
RECORD = HERE.parent / "docs" / "benchmarks.json"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE.parent)}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation compiles once, not in every run
AS_JSON = "BENCHMARKS_AS_JSON"
"""Environment variable that all.py sets to have the ratios printed as JSON and nothing else."""
HEADERS = "| ratio | target | median | least | greatest |\n| --- | --- | --- | --- | --- |"
PACKAGES = ("numpy", "safetensors", "click", "torch", "timm", "paddlepaddle")


class Run(NamedTuple):
    """A process that ran: wall-clock seconds, seconds of processor time, and peak memory in MB."""

    seconds: float
    processor: float
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio, with one value per round, and its target; with an empty target it is only reported."""

    what: str
    target: str
    values: Sequence[float]

    def row(self) -> str:
        """Return the ratio as a row of the table."""
        return f"| {self.what} | {self.target} | {spread(self.values)} |"

    @property
    def missed(self) -> bool:
        """Whether there is a target, and the median is on the wrong side of it."""
        if not self.target:
            return False
        now, bound = statistics.median(self.values), float(self.target[1:])
        return not (now <= bound if self.target[0] == "≤" else now >= bound)

    def worse_than(self, before: "Ratio") -> bool:
        """Return whether the median is worse than every value before; the target's sign says which way is worse."""
        now = statistics.median(self.values)
        return {"≤": now > max(before.values), "≥": now < min(before.values)}.get(self.target[:1], False)


def measured(command: Sequence[str], output: Path | None = None) -> Run:
    """Run a command and return what it took; its output file, if any, is removed before and after."""
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
    """Run the commands in rounds, in alternating order; return each one's runs after the first round, a warm-up."""
    found: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name in list(commands) if number % 2 else list(reversed(commands)):
            found[name].append(measured(*commands[name]))
    return {name: values[1:] for name, values in found.items()}


def seeded_weights(path: Path, variant: str) -> Path:
    """Write seeded weights of a variant to a path, in the layout that goes with its suffix; return the path."""
    layout = "timm" if path.suffix == ".safetensors" else "paddle"
    made = [sys.executable, "-m", "convert.commands.cli", "--variant", variant, "--init", "random", "--dst", layout]
    measured([*made, "--out", str(path)])
    return path


def over(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratios, round by round."""
    return [one / other for one, other in zip(numerators, denominators, strict=True)]


def spread(values: Sequence[float]) -> str:
    """Return the median, least and greatest value as table cells."""
    return f"{statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f}"


def report(ratios: Sequence[Ratio], details: str = "") -> None:
    """Print the ratios as a table, with the machine and details, or as JSON if the caller asked for it."""
    if as_json():
        print(json.dumps([asdict(ratio) for ratio in ratios]), flush=True)
    else:
        print(f"{machine()}\n\n{details}\n\n{table(ratios)}\n", flush=True)


def table(ratios: Sequence[Ratio]) -> str:
    """Return the ratios as a table."""
    return "\n".join([HEADERS, *(ratio.row() for ratio in ratios)])


def as_json() -> bool:
    """Return whether the ratios are wanted as JSON, without details."""
    return AS_JSON in os.environ


def recorded() -> tuple[str, dict[str, list[Ratio]]]:
    """Return the machine and the ratios, by script, that all.py wrote."""
    data = json.loads(RECORD.read_text(encoding="utf-8"))
    return data["machine"], {name: [Ratio(**ratio) for ratio in ratios] for name, ratios in data["ratios"].items()}


def machine() -> str:
    """Return the processor, its load, the versions and the date in words."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    processor = f"{len(os.sched_getaffinity(0))} cores of {name}, load {os.getloadavg()[0]:.1f}"
    versions = [f"{package} {version(package)}" for package in PACKAGES]
    python = f"Python {sys.version.split()[0]}"
    return ", ".join([processor, python, *versions, datetime.now(tz=UTC).date().isoformat()])
