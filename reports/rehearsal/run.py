"""Run the steps of a rehearsal one after another, each in its own process as its command line would run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from convert.errors import MixerConvertError
from convert.files import strict_json
from reports.rehearsal.record import Record
from reports.rehearsal.steps import BUNDLE, Step
from reports.train.signals import BY_SIGNAL, Stop, stop_on_signals

LOOK = 0.1
"""Seconds between checks for a signal."""
PROVED = ("aligned", "rounding")


class StepFailed(MixerConvertError):
    """A step did not end as it should; the exit code is its own, or 1."""

    def __init__(self, step: Step, code: int, why: str) -> None:
        super().__init__(f"{step.name}: {why}. Mend that, and go on with --resume.")
        self.exit_code = code  # type: ignore[misc]  # the class's is a default


class Stopped(MixerConvertError):
    """A signal ended the rehearsal."""

    def __init__(self, number: int, step: Step) -> None:
        super().__init__(f"stopped by signal {number} in {step.name}; --resume goes on.")
        self.exit_code = BY_SIGNAL + number  # type: ignore[misc]  # as above


def rehearse(
    record: Record, steps: tuple[Step, ...], lock: int, *, say: Callable[[str], None], output: TextIO | None = None
) -> dict[str, Any]:
    """Run the steps that are not finished yet; return the report of the bundle that they produce.

    Args:
        record: The record of the folder that the steps run in.
        steps: The steps, in order. Once one is run, those after it are too.
        lock: The descriptor of the folder's lock, for the steps to inherit.
        say: Called with each command line before it runs, and with what is not repeated.
        output: Where the steps' standard output goes; None: to ours.

    Raises:
        StepFailed: A step did not end as it should.
        Stopped: SIGTERM or SIGINT came; it was passed on to the running step, and finetune has saved a checkpoint.
    """
    again = False
    with stop_on_signals() as stop:
        for number, step in enumerate(steps, 1):
            say(f"\n[{number}/{len(steps)}] {step.name}; in the real run: {step.for_real}")
            say(f"$ {step.line}")
            again = again or not record.holds(step) or not step.leaves
            if not again:
                say("finished before, and all that it left is as it left it: not repeated.")
                continue
            record.forget(step)
            _run(record, step, lock, stop, output)
            record.add(step)
    return _concluded(record.folder, steps[-1])


def _run(record: Record, step: Step, lock: int, stop: Stop, output: TextIO | None) -> None:
    goes_on = step.resumable is not None and (record.folder / step.resumable).is_file()
    command = [*step.command, *(["--resume"] if goes_on else [])]
    child = subprocess.Popen(  # noqa: S603  # a command of ours
        [sys.executable, "-P", "-m", "reports.rehearsal.child", str(os.getpid()), *command],
        cwd=record.folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        pass_fds=(lock,),
        process_group=0,  # Ctrl-C reaches us alone, and we pass it on
    )
    code = _awaited(child, stop)
    if stop.signal is not None:
        raise Stopped(stop.signal, step)
    if code != step.exit_code:
        raise StepFailed(step, code if code > 0 else 1, f"it ended with exit code {code}, not {step.exit_code}")


def _awaited(child: subprocess.Popen[bytes], stop: Stop) -> int:
    """Wait for the child and return its exit code; pass on a signal that comes meanwhile, once."""
    told = False
    while True:
        if stop.signal is not None and not told:
            child.send_signal(stop.signal)
            told = True
        try:
            return child.wait(LOOK)
        except subprocess.TimeoutExpired:
            continue


def _concluded(folder: Path, last: Step) -> dict[str, Any]:
    """Return the bundle's report, checked to prove both ports and to have a rehearsal's verdict."""
    report: dict[str, Any] = strict_json.parse((folder / BUNDLE / "report.json").read_bytes())
    for subject, found in report["alignments"].items():
        if found["verdict"] not in PROVED:
            raise StepFailed(last, 1, f"the port of {subject} is {found['verdict']}")
    if report["verdict"] != "not comparable":
        raise StepFailed(last, 1, f"the verdict is {report['verdict']}, which no rehearsal can give")
    return report
