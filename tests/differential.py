"""Differential fuzzing: what is read here against what the libraries read that own the formats.

python tests/differential.py {pdparams,pth,npz,safetensors} --seconds 600 --seed 0

A difference is a mutated file that is read here as other names, dtypes, shapes or bits than the library reads, or that
the library refuses (but for names that it would have to import). That it is refused here is none. The exit code is then
1, and the file is kept.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pickle
import random
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from mutations import MUTATORS
from reference_reader import FOREIGN, summary

from convert import files
from convert.errors import MixerConvertError

READER = Path(__file__).with_name("reference_reader.py")
BENIGN = Path(__file__).with_name("benign.py")
ANSWER_SECONDS = 20.0
EXCUSES = (
    FOREIGN,
    "No module named '__builtin__'",
    "Unsupported global: GLOBAL",
    "Unsupported operand 66",
    "Unsupported operand 67",
)
"""The reference's: what it would have to import, and bytes as protocol 3 spells them, which weights_only leaves out."""


@dataclass(kw_only=True)
class Outcome:
    """How many files were made, read by both with the same result, and read here but with names that are unknown."""

    executions: int = 0
    agreed: int = 0
    foreign: int = 0
    difference: str = ""
    file: Path | None = None


class Reference:
    """A process that reads files as the library does; it is started again when it crashed or hangs."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, path: Path) -> dict[str, Any]:
        """Return what the library says of a file."""
        process = self._process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        ready: list[object] = [process]
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            ready = select.select([process.stdout], [], [], ANSWER_SECONDS)[0]
            if ready and (line := process.stdout.readline()):
                return dict(json.loads(line))
        self._end()
        return {"refused": "it crashed" if ready else f"it took more than {ANSWER_SECONDS} seconds"}

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", str(READER), self._form]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()
            self._process = None


def fuzz(form: str, seconds: float, seed: int, keep: Path) -> Outcome:
    """Mutate, read and compare for so long, or until a difference is found, whose file is then kept in the folder."""
    dice, outcome, end = random.Random(seed), Outcome(), time.monotonic() + seconds
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, Reference(form) as reference:
        seeds, path = _seeds(form, Path(folder)), Path(folder) / f"x.{form}"
        for content in seeds:
            _compare(content, path, reference, outcome)
        assert outcome.agreed == len(seeds), f"{outcome.difference}: not even what is not mutated is read alike"
        end = max(end, time.monotonic() + seconds)  # the library's import took its time
        while time.monotonic() < end and not outcome.difference:
            content = MUTATORS[form](dice.choice(seeds), dice)
            _compare(content, path, reference, outcome)
        if outcome.difference:
            outcome.file = keep / f"difference-{seed}-{outcome.executions}.{form}"
            outcome.file.write_bytes(path.read_bytes())
    return outcome


def _compare(content: bytes, path: Path, reference: Reference, outcome: Outcome) -> None:
    outcome.executions += 1
    path.write_bytes(content)
    try:
        ours = summary(files.read(path), path.suffix[1:])
    except MixerConvertError:
        return
    theirs = reference.ask(path)
    if "refused" in theirs and any(excuse in theirs["refused"] for excuse in EXCUSES):
        outcome.foreign += 1
    elif ours in theirs.get("mappings", ()) or (not ours and theirs == {"mappings": []}):
        outcome.agreed += 1
    else:
        outcome.difference = f"the library {json.dumps(theirs)[:1000]}, here {json.dumps(ours)[:1000]}"


def _seeds(form: str, folder: Path) -> list[bytes]:
    if form == "pdparams":
        return _pdparams_seeds()
    made = folder / "seeds"
    made.mkdir()
    command = [sys.executable, "-W", "ignore", str(BENIGN), str(made), f".{form}"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return [path.read_bytes() for path in sorted(made.iterdir())]


def _pdparams_seeds() -> list[bytes]:
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3) - 1.5
    plain = {
        "a": numbers,
        "b": numbers[0].astype(np.float16),
        "c": np.array([True, False]),
        "d": np.zeros((0, 2), "i8"),
    }
    more = {"epoch": 3, "lr": 0.1, "best": None, "loss": np.float32(2.5), "names": ["a"], "set": {1, 2}, (0, 1): 2j}
    contents: list[object] = [
        plain,
        {"a": numbers.astype(">f4"), "b": np.arange(3, dtype=">i4"), "c": np.asfortranarray(numbers)},
        {"a": numbers, "tied": numbers, "bfloat16": np.arange(4, dtype=np.uint16)},
        {"model": {key: (f"linear_{key}", array) for key, array in plain.items()}, **more},
        collections.OrderedDict(plain),
    ]
    return [pickle.dumps(content, protocol) for content in contents for protocol in (2, 3, 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what is read here with what the libraries read.")
    parser.add_argument("form", choices=sorted(MUTATORS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcome = fuzz(options.form, options.seconds, options.seed, Path.cwd())
    counts = f"{outcome.executions:,} executions, {outcome.agreed:,} accepted by both and equal"
    print(f"{options.form}: {counts}, {outcome.foreign:,} with names that the library does not import")
    if outcome.difference:
        sys.exit(f"{outcome.file}: {outcome.difference}")


if __name__ == "__main__":
    main()
