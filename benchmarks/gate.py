"""Print the wall time of the whole b16_in21k gate over that of the bare script, run in turn as whole processes.

Usage: gate.py [RUNS]
"""

import sys

import timing

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 7

found = timing.in_turn(
    {
        "gate": ([sys.executable, "-m", "align.commands.cli", "--variant", "b16_in21k"], None),
        "bare script": ([sys.executable, str(timing.HERE / "bare_forward.py")], None),
    },
    RUNS,
)
seconds = {name: [run.seconds for run in runs] for name, runs in found.items()}
rows = "\n".join(f"| {name}, s | {timing.spread(values)} |" for name, values in seconds.items())
timing.report(
    [
        timing.Ratio(
            what="gate / bare script", target="≤ 2", values=timing.over(seconds["gate"], seconds["bare script"])
        )
    ],
    f"{RUNS} alternating pairs after a warm-up\n\n| | median | least | greatest |\n| --- | --- | --- | --- |\n{rows}",
)
