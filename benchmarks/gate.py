"""Print the wall time of the whole b16_in21k gate relative to the bare script, run in turn as whole processes.

Also print what a second candidate adds in the same process, relative to the first.

Usage: gate.py [RUNS]
"""

import shutil
import sys
import tempfile
from pathlib import Path

import timing

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
ALIGN = [sys.executable, "-m", "align.commands.cli", "--variant", "b16_in21k"]

with tempfile.TemporaryDirectory() as name:
    first = timing.seeded_weights(Path(name) / "first.pdparams", "b16_in21k")
    second = shutil.copy(first, Path(name) / "second.pdparams")
    found = timing.in_turn(
        {
            "gate": (ALIGN, None),
            "bare script": ([sys.executable, str(timing.HERE / "bare_forward.py")], None),
            "one candidate": ([*ALIGN, "--candidate", str(first)], None),
            "two candidates": ([*ALIGN, "--candidate", str(first), "--candidate", str(second)], None),
        },
        RUNS,
    )
seconds = {name: [run.seconds for run in runs] for name, runs in found.items()}
rows = "\n".join(f"| {name}, s | {timing.spread(values)} |" for name, values in seconds.items())
both, one = seconds["two candidates"], seconds["one candidate"]
timing.report(
    [
        timing.Ratio(
            what="gate / bare script", target="≤ 2", values=timing.over(seconds["gate"], seconds["bare script"])
        ),
        timing.Ratio(
            what="gate, a second candidate in the same process / the first",
            target="≤ 0.75",
            values=timing.over([two - alone for two, alone in zip(both, one, strict=True)], one),
        ),
    ],
    f"{RUNS} alternating rounds after a warm-up\n\n| | median | least | greatest |\n| --- | --- | --- | --- |\n{rows}",
)
