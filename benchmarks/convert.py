"""Print the time and the peak memory of conversions, over copying the file and over the common way: Markdown tables.

Every command is measured as a whole process, in turn with the others. Arguments: --runs N (7), --variants NAME ...
(b16_in21k l16_in21k) for the ratios, --sizes NAME ... for the cost per byte; the inputs are made in a temporary folder.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
CONVERT = [sys.executable, "-m", "convert.cli"]
TINY = "image_size=16, patch_size=4, num_blocks=1, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=16, num_classes=5"
SAVE_TINY = f"""
import sys
from pathlib import Path
from convert import files
from convert.init import init_state_dict
from convert.variants import MixerConfig
path = Path(sys.argv[1])
with path.open("wb") as stream:
    files.write(path, stream, init_state_dict(MixerConfig({TINY}), 0))
"""
SAVE_PTH = "import sys, torch; from safetensors.torch import load_file; torch.save(load_file(sys.argv[1]), sys.argv[2])"
COPY = 'cp "$1" "$2" && sync "$2"'
PACKAGES = ("numpy", "safetensors", "torch", "paddlepaddle")


def measured(command: list[str], output: Path | None = None) -> tuple[float, float]:
    """Return the wall seconds and the peak memory in MB of a command; its output is removed before and after."""
    if output is not None:
        output.unlink(missing_ok=True)
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(command)}: {errors.decode()}")
    if output is not None:
        output.unlink()
    return seconds, usage.ru_maxrss * 1024 / 1e6


def in_turn(commands: dict[str, tuple[list[str], Path]], runs: int) -> dict[str, list[tuple[float, float]]]:
    """Return each command's measurements; the first, which warms the caches, is left out, and the order alternates."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name in list(commands) if number % 2 else list(reversed(commands)):
            found[name].append(measured(*commands[name]))
    return {name: values[1:] for name, values in found.items()}


def conversion(source: Path) -> tuple[list[str], Path]:
    """Return the command that converts a file, and its output."""
    output = source.with_suffix(".pdparams")
    return [*CONVERT, "--checkpoint", str(source), "--out", str(output), "--force"], output


def made(folder: Path, variant: str) -> Path:
    """Return a checkpoint of seeded weights of a variant in timm's layout."""
    path = folder / f"{variant}.safetensors"
    measured([*CONVERT, "--variant", variant, "--init", "random", "--dst", "timm", "--out", str(path)])
    return path


def spread(values: list[float]) -> str:
    """Return the cells of median, least and greatest."""
    return f"{statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f}"


def print_ratios(folder: Path, variant: str, runs: int) -> None:
    """Print the table of one variant."""
    source = made(folder, variant)
    pth, common, copy = source.with_suffix(".pth"), folder / "common.pdparams", folder / "copy.safetensors"
    measured([sys.executable, "-c", SAVE_PTH, str(source), str(pth)])
    commands = {
        "mixer-convert": conversion(source),
        "cp and fsync": (["sh", "-c", COPY, "sh", str(source), str(copy)], copy),
        "the common way": ([sys.executable, str(HERE / "common_way.py"), str(pth), str(common)], common),
    }
    found = in_turn(commands, runs)
    size = source.stat().st_size / 1e6
    print(f"\n{variant}, {size:.0f} MB, {runs} alternating runs after a warm-up, {load()}\n")
    print("| | median | least | greatest |\n| --- | --- | --- | --- |")
    for name, values in found.items():
        print(f"| {name}, s | {spread([seconds for seconds, _ in values])} |")
    for name in ("mixer-convert", "the common way"):
        print(f"| {name}, peak MB | {spread([peak for _, peak in found[name]])} |")
    for what, over, under, figure in (
        ("mixer-convert / cp and fsync", "mixer-convert", "cp and fsync", 0),
        ("the common way / mixer-convert, time", "the common way", "mixer-convert", 0),
        ("the common way / mixer-convert, peak", "the common way", "mixer-convert", 1),
    ):
        pairs = zip(found[over], found[under], strict=True)
        print(f"| {what} | {spread([one[figure] / other[figure] for one, other in pairs])} |")
    for path in (source, pth):
        path.unlink()


def print_sizes(folder: Path, variants: list[str], runs: int) -> None:
    """Print what a byte costs, by size; start-up is the same command on a Mixer of a few kilobytes."""
    tiny = folder / "tiny.safetensors"
    measured([sys.executable, "-c", SAVE_TINY, str(tiny)])
    sources = {name: made(folder, name) for name in variants}
    found = in_turn({name: conversion(path) for name, path in ({"start-up": tiny} | sources).items()}, runs)
    start_up = statistics.median(seconds for seconds, _ in found["start-up"])
    print(f"\n{runs} alternating runs after a warm-up, {load()}; start-up {start_up:.2f} s\n")
    print("| | MB | s, median | least | greatest | ns a byte | ns a byte without start-up | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, path in sources.items():
        size, seconds = path.stat().st_size, [seconds for seconds, _ in found[name]]
        costs = [1e9 * cost / size for cost in (statistics.median(seconds), statistics.median(seconds) - start_up)]
        peak = max(peak for _, peak in found[name])
        print(f"| {name} | {size / 1e6:.0f} | {spread(seconds)} | {costs[0]:.2f} | {costs[1]:.2f} | {peak:.0f} |")


def load() -> str:
    """Return the load of the machine in words."""
    return f"load {os.getloadavg()[0]:.1f}"


def machine() -> str:
    """Return the processor, the versions and the date in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    versions = [f"{package} {version(package)}" for package in PACKAGES]
    cores = len(os.sched_getaffinity(0))
    return ", ".join([f"{cores} cores of {name}", f"Python {sys.version.split()[0]}", *versions, f"{date.today()}"])


ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE.parent)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--variants", nargs="*", default=["b16_in21k", "l16_in21k"])
    parser.add_argument("--sizes", nargs="*", default=["s32", "b32", "b16_in1k", "l32", "l16_in1k"])
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made: on the disk to measure")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        for variant in arguments.variants:
            print_ratios(Path(name), variant, arguments.runs)
        if arguments.sizes:
            print_sizes(Path(name), arguments.sizes, arguments.runs)
