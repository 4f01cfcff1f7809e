"""Batches made by other processes: the same bits as in this one, and no process that is left, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from convert.errors import IOProblem
from reports.data.making import Making
from reports.data.preprocess import imagenet
from reports.data.workers import SLOTS, made_batches
from reports.train.augment import AUGMENTATIONS, Augmentation

SIZES = [16, 40, 120]
"""Images of a batch, images to train on, images in all: seven batches of 16 and one of 8."""
PARTS = [(step, slice(0, 16 if step < 7 else 8)) for step in range(8)]


def making(augmentation: Augmentation = "inception_and_flip", function: str = "step_maker") -> Making:
    settings = {"preprocessing": asdict(imagenet(20, "")), "augmentation": augmentation, "seed": 3, "sizes": SIZES}
    return Making(function=f"reports.train.augment:{function}", settings=settings, shape=(16, 3, 20, 20))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def children(of: int) -> list[int]:
    """Return the processes that a process started and that still are, zombies left out."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == of and state != "Z":
            found.append(int(status.parent.name))
    return found


def workers_of(process: int) -> list[int]:
    command = [(pid, Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in children(process)]
    return [pid for pid, line in command if b"reports.data.worker" in line]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def within(seconds: float, happens: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_any_number_of_processes_makes_the_same(pixels: np.ndarray, augmentation: Augmentation) -> None:
    """A part of a batch is what a process of several gets; one of a single image leaves a worker idle."""
    parts = [*PARTS[:3], (3, slice(5, 6)), (4, slice(2, 15)), *PARTS[5:]]
    made = {
        count: [(p, batch.copy()) for p, batch in made_batches(making(augmentation), pixels, parts, workers=count)]
        for count in (0, 1, 2)
    }
    for found in made.values():
        assert [part for part, _ in found] == parts
        for (_, batch), (part, expected) in zip(found, made[0], strict=True):
            assert len(batch) == part[1].stop - part[1].start
            np.testing.assert_array_equal(batch, expected)
    assert len(parts) > 2 * SLOTS
    assert workers_of(os.getpid()) == []


def test_a_worker_imports_no_framework() -> None:
    program = (
        "import sys, reports.data.worker, reports.train.augment\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = {name for name in run.stdout.split() if not name.startswith("__")}
    assert found <= {"PIL", "_distutils_hack", "convert", "numpy", "reports", "sitecustomize"}


def test_a_worker_that_dies_is_said(pixels: np.ndarray) -> None:
    made = made_batches(making(), pixels, PARTS, workers=2)
    next(made)
    os.kill(workers_of(os.getpid())[1], signal.SIGKILL)
    with pytest.raises(IOProblem, match=r"failed \(ended by SIGKILL\). Is there enough memory\?"):
        list(made)
    assert workers_of(os.getpid()) == []


def test_a_worker_that_fails_says_why(pixels: np.ndarray) -> None:
    settings = {**making().settings, "preprocessing": {**asdict(imagenet(20, "")), "interpolation": "none"}}
    wrong = Making(function=making().function, settings=settings, shape=making().shape)
    with pytest.raises(IOProblem, match=r"failed \(KeyError: 'none'\)"):
        next(made_batches(wrong, pixels, PARTS, workers=1))


def test_one_that_cannot_be_started_is_said(pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = subprocess.Popen, []

    def refuse(*given: object, **options: object) -> object:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(1)
        return real(*given, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(IOProblem, match="could not be started"):
        next(made_batches(making(), pixels, PARTS, workers=2))
    assert workers_of(os.getpid()) == []


def test_signals_to_the_whole_group_leave_workers_to_their_parent(pixels: np.ndarray) -> None:
    made = made_batches(making(), pixels, PARTS, workers=1)
    next(made)
    (worker,) = workers_of(os.getpid())
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker, number)
    assert len(list(made)) == len(PARTS) - 1


def test_no_worker_outlives_a_killed_parent() -> None:
    program = (
        "import os, sys, time, numpy as np\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_reports_workers import PARTS, making, workers_of\n"
        "from reports.data.workers import made_batches\n"
        "made = made_batches(making(), np.zeros((40, 32, 32, 3), np.uint8), PARTS, workers=2)\n"
        "next(made)\n"
        "print(*workers_of(os.getpid()), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_there, workers))
        parent.kill()
    assert within(10, lambda: not any(map(is_there, workers)))
