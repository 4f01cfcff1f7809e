"""Put thousands of right ports through the gates; record whether any fails, and how near any came to each bound.

The list is seeded: every family meets every extreme in a covering design over the sizes, and all else is dealt like
cards, so that a list of any length is spread over everything. Environment variables, which a library reads when it is
imported, choose the kernels; hence a process for each arithmetic.

Usage: right_ports.py [--count N] [--out FILE.json] [--only NAME]. Exits with 1 where a right port is failed.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ports import ARITHMETICS, FLAGS, Port, drawn, outcome_of

from align.probes import environment, paddle_probe
from align.probes.knobs import compute_quickly

SCHEMA = "mixer-align/right-ports/1"
COUNT = 2016
AT_ONCE = 2
"""Processes that run at a time."""

HERE = Path(__file__).resolve().parent


def run_here(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield each port's outcome on the arithmetic of this process, then the environment."""
    yield from (outcome_of(Port.named(name)) for name in names)
    yield {"environment": environment.environment()}


def run_in_child(names: Sequence[str], arithmetic: str) -> Iterator[dict[str, Any]]:
    """Yield the same from a child process, whose libraries read the arithmetic's variables when they load."""
    command = [sys.executable, "-W", "ignore", __file__, "--child"]
    env = {**os.environ, "PYTHONPATH": str(HERE.parent), **ARITHMETICS[arithmetic]}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command, env=env, **pipes) as child:
        with contextlib.suppress(BrokenPipeError), child.stdin:  # how the child ended is reported below
            child.stdin.write("\n".join(names))
        yield from map(json.loads, child.stdout)
    if child.returncode:
        sys.exit(
            f"{arithmetic}: its process ended with {child.returncode}. Run its {len(names)} ports one by one by --only."
        )


def run(ports: Sequence[Port]) -> dict[str, Any]:
    """Return the record of these ports, arithmetic by arithmetic."""
    started, outcomes, environments, skipped = time.monotonic(), [], {}, {}
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split() if Path("/proc/cpuinfo").exists() else []
    names = {one: [port.name for port in ports if port.arithmetic == one] for one in ARITHMETICS}
    for arithmetic in [one for one in names if FLAGS.get(one, "") not in ["", *flags]]:
        skipped[arithmetic] = f"this processor has no {FLAGS[arithmetic]}"
        names.pop(arithmetic)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        several = pool.map(lambda one: [*run_in_child(names[one], one)] if names[one] else [], names)
        for arithmetic, found in zip(names, several, strict=True):
            for outcome in found:
                if "environment" in outcome:
                    environments[arithmetic] = outcome["environment"]
                    continue
                outcomes.append(outcome)
                if is_false_alarm(outcome):
                    print(f"{outcome['port']}: {outcome['verdict']}: {outcome['sentence']}", file=sys.stderr)
            seconds = time.monotonic() - started
            print(f"{len(outcomes)} of {len(ports)} ports, {seconds:.0f} s", file=sys.stderr, flush=True)
    return {
        **record(outcomes),
        "arithmetics": ARITHMETICS,
        "skipped": skipped,
        "environments": environments,
        "seconds": round(time.monotonic() - started),
    }


def is_false_alarm(outcome: Mapping[str, Any]) -> bool:
    """Return whether a right port failed; `rounding` is no failure, as it says that the function is the right one."""
    return outcome["verdict"] not in ("aligned", "rounding")


def record(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts, the false alarms, and how near any port came to each bound."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for outcome in outcomes:
        port = Port.named(outcome["port"])
        counts.setdefault(port.arithmetic, {}).setdefault(port.family, Counter())[outcome["verdict"]] += 1
    told = ("port", "verdict", "gates", "sentence")
    alarms = [{key: outcome[key] for key in told} for outcome in outcomes if is_false_alarm(outcome)]
    return {
        "schema": SCHEMA,
        "ports": len(outcomes),
        "verdicts": counts,
        "false_alarms": alarms,
        "closest": closest(outcomes),
    }


def closest(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, by bound, the greatest ratio of a figure to it and its port; None: not finite, which JSON cannot hold."""
    found: dict[str, tuple[float, str]] = {}
    for outcome in outcomes:
        for bound, ratio in outcome["closeness"].items():
            found[bound] = max(found.get(bound, (0.0, "")), (ratio, outcome["port"]))
    return {
        bound: {"ratio": ratio if math.isfinite(ratio) else None, "port": port}
        for bound, (ratio, port) in found.items()
    }


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, print the figures, and return the exit code."""
    options = _options(arguments)
    compute_quickly()  # for the child processes: here NumPy is imported already
    if options.child:
        paddle_probe.threads = environment.threads = _threads  # it would take every processor, and report that
        for outcome in run_here(sys.stdin.read().splitlines()):
            print(json.dumps(outcome), flush=True)
        return 0
    found = run([Port.named(options.only)] if options.only else drawn(options.count))
    if options.out:
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
        options.out.write_text(text + "\n", encoding="utf-8")
    for bound, nearest in found["closest"].items():
        print(f"{bound}: {nearest['ratio']} of the bound ({nearest['port']})")
    print(f"right ports: {found['ports']}, false alarms: {len(found['false_alarms'])}, {found['seconds']} s")
    return 1 if found["false_alarms"] or not found["ports"] else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=COUNT, help="how many ports (default: %(default)s)")
    parser.add_argument("--only", metavar="NAME", help="the one port of this name, as a record has it")
    parser.add_argument("--out", type=Path, help="write the record to this file")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count {options.count}: there is nothing to run. Give 1 or more.")
    if options.out and not options.out.parent.is_dir():
        parser.error(f"--out {options.out}: {options.out.parent} is no folder. Make it first.")
    return options


if __name__ == "__main__":
    sys.exit(main())
