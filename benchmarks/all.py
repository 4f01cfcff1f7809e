"""Record the ratios of all benchmarks, each with its target and every value. Takes about 30 minutes.

The machine should have nothing else to do. What became worse than it ever was in the run recorded before is said, and
is the exit code's 1; the new record is written all the same.

Usage: all.py [OUT, by default docs/benchmarks.json]
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import timing

SCRIPTS = ("startup.py", "conversion.py", "read.py", "gate.py", "evaluate.py", "train_step.py")
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else timing.HERE.parent / "docs" / "benchmarks.json"

machine = timing.machine()
before = {ratio.what: ratio for ratio in timing.recorded(OUT)[1]} if OUT.exists() else {}
ratios = []
for script in SCRIPTS:
    environment = {**os.environ, **timing.ENVIRONMENT, timing.AS_JSON: "1"}
    run = subprocess.run(
        [sys.executable, str(timing.HERE / script)], check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    ratios += [timing.Ratio(**found) for found in json.loads(run.stdout.splitlines()[-1])]
    print(f"{script} done", file=sys.stderr, flush=True)
data = {"machine": machine, "ratios": [asdict(ratio) for ratio in ratios]}
OUT.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
print(f"{machine}\n\n{timing.table(ratios)}")
worse = [ratio for ratio in ratios if ratio.what in before and ratio.worse_than(before[ratio.what])]
for ratio in worse:
    was = timing.spread(before[ratio.what].values)
    print(f"worse than before: {ratio.what}, {timing.spread(ratio.values)}; was {was}")
sys.exit(bool(worse))
