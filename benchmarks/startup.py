"""Print the processor time of the installed commands' --help and --version relative to `import click` alone.

Usage: startup.py [RUNS]
"""

import sys
from pathlib import Path

import timing

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
BIN = Path(sys.executable).parent
COMMANDS = [(name, option) for name in ("convert", "align", "report") for option in ("--help", "--version")]

commands = {"click": ([sys.executable, "-c", "import click"], None)}
commands |= {f"mixer-{name} {option}": ([str(BIN / f"mixer-{name}"), option], None) for name, option in COMMANDS}
found = timing.in_turn(commands, RUNS)
processor = {name: [run.processor for run in runs] for name, runs in found.items()}
base = processor.pop("click")
timing.report(
    [
        timing.Ratio(what=f"{name} / import click, processor time", target="≤ 1.5", values=timing.over(times, base))
        for name, times in processor.items()
    ],
    f"{RUNS} alternating runs after a warm-up; `python -c 'import click'`: {timing.spread(base)} s",
)
