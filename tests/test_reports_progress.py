"""What is told of a run's progress where standard error is no terminal, and where it is one."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from convert.commands import progress as shown
from reports.commands import progress


class Clock:
    """A clock that is put on by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(shown, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_an_evaluation_has_a_line_every_so_often(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.evaluating(1000) as show:
        for done in range(10, 1001, 10):
            clock.now += 1
            show(done, done // 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "evaluating 1,000 images",
        "300 of 1,000 images, 50.00 % right, 10.0 images/s, 1 min 10 s left",
        "600 of 1,000 images, 50.00 % right, 10.0 images/s, 40 s left",
        "900 of 1,000 images, 50.00 % right, 10.0 images/s, 10 s left",
        "1,000 of 1,000 images, 50.00 % right, 10.0 images/s",
    ]


def test_a_resumed_training_s_pace_is_its_own(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps 501 and on, of 8 images, one in 40 seconds; the 4,000 images before it were seen another day."""
    with progress.training(10_000, 80_000) as show:
        for step in (501, 502, 503):
            clock.now += 40
            show({"step": step, "loss": 1.5}, step * 8)
    assert capsys.readouterr().err.splitlines() == [
        "training, 10,000 steps, 80,000 images",
        "4,008 of 80,000 images, step 501 of 10,000, loss 1.5000",
        "4,016 of 80,000 images, step 502 of 10,000, loss 1.5000, 0.2 images/s, 105 h 32 min left",
        "4,024 of 80,000 images, step 503 of 10,000, loss 1.5000, 0.2 images/s, 105 h 31 min left",
    ]


def test_what_fails_has_no_last_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress.evaluating(20) as show:
            show(10, 10)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert capsys.readouterr().err == "evaluating 20 images\n"


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("CI", raising=False)  # where it is set, nobody looks at a terminal
    with progress.training(2, 20) as show:
        show({"step": 1, "loss": 2.25}, 10)
    assert "training, 2 steps" not in capsys.readouterr().err
