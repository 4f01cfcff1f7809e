"""Record the ratios of all benchmarks, each with its target and every value. Takes about 25 minutes.

The machine should be otherwise idle. A ratio whose median is worse than every value of the previous record is printed,
and makes the exit code 1; the new record is written all the same.

Usage: all.py [SCRIPT …], such as read.py: only these, and what is recorded of the others stays
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import timing

SCRIPTS = ("startup.py", "conversion.py", "read.py", "gate.py", "evaluate.py", "train_step.py")

machine = timing.machine()
before = timing.recorded()[1] if timing.RECORD.exists() else {}
found = dict(before)
for script in sys.argv[1:] or SCRIPTS:
    environment = {**os.environ, **timing.ENVIRONMENT, timing.AS_JSON: "1"}
    run = subprocess.run(
        [sys.executable, str(timing.HERE / script)], check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    found[script] = [timing.Ratio(**ratio) for ratio in json.loads(run.stdout.splitlines()[-1])]
    print(f"{script} done", file=sys.stderr, flush=True)
ratios = {script: [asdict(ratio) for ratio in found[script]] for script in SCRIPTS if script in found}
timing.RECORD.write_text(json.dumps({"machine": machine, "ratios": ratios}, indent=1) + "\n", encoding="utf-8")
print(f"{machine}\n\n{timing.table([ratio for script in SCRIPTS for ratio in found.get(script, ())])}")
known = {ratio.what: ratio for ratios in before.values() for ratio in ratios}
now = [ratio for ratios in found.values() for ratio in ratios]
worse = [ratio for ratio in now if ratio.what in known and ratio.worse_than(known[ratio.what])]
for ratio in worse:
    was = timing.spread(known[ratio.what].values)
    print(f"worse than before: {ratio.what}, {timing.spread(ratio.values)}; was {was}")
sys.exit(bool(worse))
