"""Runs of mixer-convert forked from a process that has everything imported, so that fifty of them take a second.

Run as a script, it answers requests, a line of JSON each. Tests use `Forker`, which is the other end.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
STEPS = {"open", "os.rename", "os.link", "os.remove", "os.scandir", "fcntl.flock"}
"""Audit events: what a conversion asks of the file system, a step each."""
WARM = [
    "convert.commands.cli",
    "convert.job",
    "convert.checks.integrity",
    "convert.files.pdparams",
    "convert.files.safetensors",
]
WARM += ["convert.checks.installed", "convert.checks.verify", "convert.commands.progress", "convert.files.hints"]
WARM += ["convert.files.sharded", "convert.mixer.adapt", "convert.mixer.identity", "convert.mixer.layouts"]
WARM += ["convert.mixer.listing", "convert.mixer.porting", "convert.mixer.recognition", "convert.mixer.rule_tables"]
WARM += ["ctypes", "email.parser", "safetensors", "importlib.metadata", "json"]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


class Forker:
    """A warmed-up process that forks a child for each run. To be used in a `with`.

    Args:
        mount: What to mount in a mount namespace of its own, which ends with the process: arguments of mount(8).
    """

    def __init__(self, *mount: str) -> None:
        run = [sys.executable, str(Path(__file__).resolve())]
        if mount:
            run = [*NAMESPACE, "sh", "-c", 'mount "$@" && exec "$0" "$RUN"', sys.executable, *mount]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RUN": str(Path(__file__).resolve())}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            run, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    @staticmethod
    def can_mount() -> bool:
        """Return whether this user may mount in a namespace of its own."""
        if shutil.which("unshare") is None:
            return False
        probe = [*NAMESPACE, "sh", "-c", "mount -t tmpfs none /mnt"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    def together(self, *runs: dict[str, Any]) -> list[dict[str, Any]]:
        """Start runs at the same moment and return, for each, its exit status, output and seconds."""
        return self._ask({"runs": runs})

    def run(self, *argv: object, **how: Any) -> dict[str, Any]:
        """Return exit status (negative: the signal), output and seconds of one run.

        Args:
            argv: The command's arguments.
            how: limit (RLIMIT_FSIZE, bytes), kill_after (seconds), die_at (step), cut (file, bytes, step). A step is
                a number, or a part of the name of the file that is asked for.
        """
        return self.together({"argv": [str(a) for a in argv], **how})[0]

    def leave(self, filler: Path, free: int) -> None:
        """Write a file that leaves that many bytes free on its file system, as seen by the process."""
        self._ask({"fill": str(filler), "free": free})

    def look(self, folder: Path) -> dict[str, str]:
        """Return the SHA-256 of each file of a folder, as seen by the process."""
        return self._ask({"look": str(folder)})

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


def serve() -> None:
    """Answer requests until the input ends."""
    from convert import families

    for module in WARM:
        importlib.import_module(module)
    families.installed()  # the metadata of all packages, of which no step is a conversion's own
    for line in sys.stdin:
        request = json.loads(line)
        if "runs" in request:
            answer: Any = together(request["runs"])
        elif "fill" in request:
            answer = leave(Path(request["fill"]), request["free"])
        else:
            answer = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(request["look"]).iterdir()}
        print(json.dumps(answer), flush=True)


def leave(filler: Path, free: int) -> int:
    filler.write_bytes(b"")
    found = os.statvfs(filler)
    return filler.write_bytes(bytes(max(found.f_bavail * found.f_frsize - free, 0)))


def together(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fork a child for each run, let them go at once, and wait for all."""
    gate, opener = os.pipe()
    children = [start(run, gate, opener) for run in runs]
    os.close(gate)
    os.close(opener)
    began = time.perf_counter()
    return [finish(run, pid, output, began) for run, (pid, output) in zip(runs, children, strict=True)]


def start(run: dict[str, Any], gate: int, opener: int) -> tuple[int, int]:
    """Fork; return the child's id and its output."""
    output, end = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(opener)
        os.dup2(end, 1)
        os.dup2(end, 2)
        os.read(gate, 1)
        os._exit(child(run))
    os.close(end)
    return pid, output


def finish(run: dict[str, Any], pid: int, output: int, began: float) -> dict[str, Any]:
    if run.get("kill_after") is not None:
        time.sleep(run["kill_after"])
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(output, "rb") as stream:
        said = stream.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, "said": said, "seconds": time.perf_counter() - began}


def child(run: dict[str, Any]) -> int:
    from convert.commands.cli import main

    if run.get("limit") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (run["limit"], run["limit"]))
    if run.get("die_at") is not None:
        at_step(run["die_at"], lambda: os.kill(os.getpid(), signal.SIGKILL))
    if run.get("cut") is not None:
        path, size, step = run["cut"]
        at_step(step, lambda: os.truncate(path, size))
    code: Any = 99
    try:
        main(run["argv"])
    except SystemExit as end:
        code = end.code or 0
    except Exception:  # noqa: BLE001  # a defect, which the status shows
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def at_step(step: int | str, act: Callable[[], object]) -> None:
    """Do something, once, before the file system is asked for the step-th time, or for a file of such a name."""
    seen, done = 0, False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen, done
        if event in STEPS and not done:
            seen += 1
            if seen == step or (isinstance(step, str) and step in str(arguments[0])):
                done = True
                act()

    sys.addaudithook(watch)


if __name__ == "__main__":
    serve()
