"""The hash that is begun before NumPy is there: given only for the file that was converted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from convert.disk import hashing
from convert.disk.hashing import READ_BYTES, EarlyHash, file_sha256
from convert.disk.unchanged import Snapshot, unchanged


def as_it_is(path: Path) -> tuple[Snapshot, ...]:
    with unchanged(path) as snapshots:
        return snapshots


def test_it_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(np.random.default_rng(0).bytes(3 * READ_BYTES + 1))
    with unchanged(path) as snapshots, EarlyHash(path) as early:
        assert early.among(snapshots) == file_sha256(path)
        assert early.among(()) is None


@pytest.mark.parametrize("change", ["replaced", "written to", "gone"])
def test_one_of_a_file_that_changed_is_not_given(tmp_path: Path, change: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"before")
    with EarlyHash(path) as early:
        assert early.among(as_it_is(path)) is not None
        if change == "written to":
            path.write_bytes(b"after!")
        elif change == "replaced":
            (tmp_path / "y").write_bytes(b"before")
            (tmp_path / "y").replace(path)
        else:
            path.unlink()
            path.touch()
        assert early.among(as_it_is(path)) is None


def test_a_pipe_keeps_what_it_holds(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with EarlyHash(tmp_path / "pipe") as early:
        assert early.among(()) is None


def test_a_conversion_uses_it(
    mixer_convert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    monkeypatch.setattr("convert.sources.file_sha256", lambda _: pytest.fail("hashed a second time"))
    result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.pdparams", "--json", "-")
    assert json.loads(result.stdout)["source"]["sha256"] == file_sha256(checkpoint)


def test_it_needs_no_numpy() -> None:
    code = "import sys, convert.commands.cli, convert.disk.hashing; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only there has a thread a priority of its own")
@pytest.mark.parametrize(("before", "after"), [(0, hashing.NICENESS), (15, 15)])
def test_a_thread_gives_way_and_never_asks_for_more_than_it_has(before: int, after: int) -> None:
    """Whoever runs it under nice may not raise a priority again, and would be refused."""
    found = []

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), before)
        hashing.give_way()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [after]
