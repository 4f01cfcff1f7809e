"""Print the ratios of all benchmarks as one Markdown table, each with its target and spread. Takes about 20 minutes.

The machine should have nothing else to do.
"""

import os
import subprocess
import sys

import timing

SCRIPTS = ("startup.py", "conversion.py", "read.py", "gate.py", "evaluate.py")

print(f"{timing.machine()}\n\n{timing.HEADERS}", flush=True)
for script in SCRIPTS:
    environment = {**os.environ, **timing.ENVIRONMENT, timing.ROWS_ALONE: "1"}
    subprocess.run([sys.executable, str(timing.HERE / script)], check=True, env=environment)
