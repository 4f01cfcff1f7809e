"""Compare the pairs of models that packages bring, each in a process of its own, and plant faults in the aligned ones.

A pair is compared by its names, or else by the pairing that mixer-align propose writes. Where the sides differ in a
known way, the difference is accepted or mended, and they are compared again.

Usage: zoo.py [--only NAME …] [--faults [NAME …]] [--jobs N] [--out FILE.json]. Exits with 1 where a fault is missed or
misplaced, or a pair has no result.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from pairs.compared import entry_of
from pairs.listed import PAIRS, Pair, pair_named
from pairs.planted import faults_of
from pairs.record import GOOD, NO_RESULT, OUTCOMES, SCHEMA, SKIPPED, Compared, Entry, Fault, Outcome

from align.probes import environment, paddle_probe
from align.probes.knobs import compute_quickly
from align.twins.case import Twins

HERE = Path(__file__).resolve().parent
LIMIT, LIMIT_WITH_FAULTS = 1800, 7200
"""Seconds that a pair's process may take, without and with faults."""
DISTRIBUTIONS = ("torch", "torchvision", "timm", "transformers", "paddlepaddle", "paddleclas", "paddlenlp", "numpy")


def run_here(pair: Pair, *, faults: bool) -> Iterator[Entry]:
    """Yield a pair's entry as far as it is known: first without faults, then with one more fault each time."""
    started = time.monotonic()
    paddle_probe.imported()
    try:
        models = [side.build() for side in (pair.reference, pair.candidate)]
    except ImportError as error:
        yield without(pair, SKIPPED, str(error))
        return
    twins = Twins(reference=models[0], candidate=models[1], inputs=pair.inputs, name=pair.name)
    entry, run = entry_of(pair, twins)
    yield entry
    found: tuple[Fault, ...] = ()
    for fault in faults_of(run) if faults and run.compared.outcome in GOOD else ():
        found = (*found, fault)
        yield replace(entry, faults=found, seconds=round(time.monotonic() - started, 1))


def without(pair: Pair, outcome: Outcome, because: str) -> Entry:
    """Return the entry of a pair that was not compared."""
    return Entry(
        pair=pair.name,
        reference=str(pair.reference),
        candidate=str(pair.candidate),
        inputs=tuple(one.shape for one in pair.inputs),
        first=Compared(outcome=outcome, because=because),
    )


def run_in_child(pair: Pair, *, faults: bool, limit: float | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a pair's entry as plain data, and the environment, from a process of its own.

    If the process dies or takes too long, the entry holds what was found until then, and says so.
    """
    limit = limit or (LIMIT_WITH_FAULTS if faults else LIMIT)
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder, "entry.json"), Path(folder, "errors.txt")
        command = [sys.executable, "-W", "ignore", __file__, "--child", str(out), "--only", pair.name]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE.parent), os.getenv("PYTHONPATH"))))}
        with errors.open("wb") as told:
            try:
                ended = subprocess.run(
                    [*command, *(["--faults"] if faults else [])],
                    check=False,
                    env=env,
                    stdout=told,
                    stderr=told,
                    timeout=limit,
                )
                why = f"its process ended with {ended.returncode}" if ended.returncode else ""
            except subprocess.TimeoutExpired:
                why = f"it took more than {limit:.0f} s"
        last = (errors.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]
        why = f"{why}: {last}" if why and last else why
        if out.exists():
            told_of = json.loads(out.read_text(encoding="utf-8"))
            return {**told_of["entry"], "broke_off": why}, told_of["environment"]
        return _as_data(without(pair, NO_RESULT, why or "it left no record")), {}


def child(pair: Pair, out: Path, *, faults: bool) -> int:
    """Write a pair's entry to a file, again whenever more of it is known; return the exit code."""
    for entry in run_here(pair, faults=faults):
        text = json.dumps({"entry": _as_data(entry), "environment": environment.environment()}, allow_nan=False)
        beside = out.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(out)
    return 0


def run(pairs: Sequence[Pair], *, faults: Collection[str], jobs: int = 1) -> Iterator[dict[str, Any]]:
    """Yield the record of these pairs so far, once after each of them, and print a line for each.

    Args:
        pairs: The pairs to compare.
        faults: The names of those in which faults are planted.
        jobs: How many run at a time.
    """
    started, entries, found_in = time.monotonic(), [], dict[str, Any]()
    with ThreadPoolExecutor(jobs) as pool:
        for entry, found in pool.map(lambda pair: run_in_child(pair, faults=pair.name in faults), pairs):
            entries.append(entry)
            found_in = found or found_in
            print(line(entry), flush=True)
            for sentence in complaints(entry):
                print(f"  {sentence}", file=sys.stderr, flush=True)
            yield _record(entries, found_in, time.monotonic() - started)


def _record(entries: Sequence[Mapping[str, Any]], found_in: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "versions": {name: version for name in DISTRIBUTIONS if (version := _version(name))},
        "environment": dict(found_in),
        "counts": {name: count for name in OUTCOMES if (count := Counter(map(_last, entries))[name])},
        "faults": _counted([fault for entry in entries for fault in entry["faults"]]),
        "pairs": [*entries],
        "seconds": round(seconds),
    }


def line(entry: Mapping[str, Any]) -> str:
    """Return a pair's line of the table."""
    one = entry["after"] or entry["first"]
    figures = " ".join("-" if one[name] is None else f"{one[name]:.0e}" for name in ("float64", "float32"))
    planted = _counted(entry["faults"])
    faults = f", faults {planted['placed']} of {planted['planted']} placed" if planted["planted"] else ""
    first = "" if entry["after"] is None else f"{entry['first']['outcome']}; after ({entry['changed']}): "
    because = f", because {one['because']}" if one["because"] else ""
    by = f"{one['points']} points by {one['paired_by']}" if one["paired_by"] else "-"
    said = f"{first}{one['outcome']}{because}"
    return f"{entry['pair']:36} {by:42} {figures:12} {entry['seconds']:5.0f} s  {said}{faults}"


def complaints(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield in sentences what makes the run fail."""
    if entry["broke_off"]:
        yield f"{entry['pair']}: {entry['broke_off']}"
    if entry["first"]["outcome"] == NO_RESULT:
        yield f"{entry['pair']}: {entry['first']['because']}"
    for fault in entry["faults"]:
        if not fault["skipped"] and not (fault["caught"] and fault["placed"]):
            where = f"at {fault['found']} in place of {' or '.join(fault['expected'])}" if fault["caught"] else "missed"
            yield f"{entry['pair']}: {fault['kind']} ({fault['layer']}: {fault['what']}): {where}"


def _counted(faults: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    planted = [fault for fault in faults if not fault["skipped"]]
    return {
        "planted": len(planted),
        "caught": sum(bool(fault["caught"]) for fault in planted),
        "placed": sum(bool(fault["caught"] and fault["placed"]) for fault in planted),
        "skipped": len(faults) - len(planted),
    }


def _last(entry: Mapping[str, Any]) -> str:
    return str((entry["after"] or entry["first"])["outcome"])


def _as_data(entry: Entry) -> dict[str, Any]:
    return dict(json.loads(json.dumps(asdict(entry))))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, print the table, and return the exit code."""
    options = _options(arguments)
    compute_quickly()  # for the child processes: here NumPy is imported already
    pairs = [pair_named(name) for name in options.only] if options.only else PAIRS
    if options.child:
        return child(pairs[0], options.child, faults=options.faults is not None)
    names = [pair.name for pair in pairs] if options.faults == [] else options.faults or []
    for found in run(pairs, faults=names, jobs=options.jobs):
        if options.out:
            text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
            options.out.write_text(text + "\n", encoding="utf-8")
    counts = ", ".join(f"{count} {name}" for name, count in found["counts"].items())
    planted = found["faults"]
    print(f"pairs: {len(found['pairs'])} ({counts}), {found['seconds']} s")
    if names:
        print(", ".join(f"{name} {count}" for name, count in planted.items()))
    return 1 if any(True for entry in found["pairs"] for _ in complaints(entry)) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", metavar="NAME", nargs="+", help="the pairs of these names")
    parser.add_argument(
        "--faults", metavar="NAME", nargs="*", help="plant a dozen faults in these that are aligned, or all"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many pairs run at a time")
    parser.add_argument("--out", type=Path, help="write the record to this file")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    names = [pair.name for pair in PAIRS]
    for option in ("only", "faults"):
        for name in getattr(options, option) or ():
            if name not in names:
                parser.error(f"--{option} {name}: there is no such pair. There are {', '.join(names)}.")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: at least one runs at a time.")
    if options.out and not options.out.parent.is_dir():
        parser.error(f"--out {options.out}: {options.out.parent} is no folder. Make it first.")
    return options


if __name__ == "__main__":
    sys.exit(main())
