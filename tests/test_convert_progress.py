"""What is shown of a run that takes its time, where, and that it is nothing elsewhere."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rich.progress  # noqa: F401  # which takes a while, at first
from conftest import Run

from align.core.case import Settings
from align.mixer.case import Subject, case_of
from align.run import align
from align.trace import gate
from align.underway import CHECK, RECORD, of_alignment
from convert.arrays import StateDict
from convert.commands import progress
from convert.commands.progress import Course, display, staged
from convert.disk.underway import telling
from convert.hub.watch import POLL, Watch
from convert.mixer.variants import MixerConfig, get_variant

COLOUR = re.compile(r"\x1b\[(3|4|9|10)\d")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal that somebody looks at; the test makes it standard error, which pytest sets before."""
    for name in ("CI", "JPY_PARENT_PID", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


def run_a_second(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO) -> None:
    """Go through some stages, shown as if they took longer."""
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(progress, "AFTER", 0.05)
    with staged({"one": (1, 2), "two": (2, 1)}) as told:
        for stage in ("one: [/red] a", "one: b", "two"):
            told(stage)
            time.sleep(0.25)


class TestTerminal:
    def test_it_shows_what_runs_and_the_time_left(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_a_second(monkeypatch, terminal)
        shown = terminal.getvalue()
        assert "one: [/red] a" in shown, "as it is written"
        assert re.search(r"two.* s left", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown))
        assert COLOUR.search(shown)
        assert capsys.readouterr().out == ""

    def test_without_colour_where_none_is_wanted(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        run_a_second(monkeypatch, terminal)
        assert "two" in terminal.getvalue()
        assert not COLOUR.search(terminal.getvalue())

    def test_nothing_is_shown_of_what_is_soon_over(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", terminal)
        with staged({"one": (1, 1)}) as told:
            told("one")
            time.sleep(0.1)
        assert terminal.getvalue() == ""

    def test_what_is_printed_meanwhile_stays_where_it_was_printed_to(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(progress, "AFTER", 0.01)
        with display() as update:
            update("one", 0.5)
            time.sleep(0.3)
            print("a result")
        assert capsys.readouterr().out == "a result\n"
        assert "a result" not in terminal.getvalue()

    @pytest.mark.parametrize(
        "elsewhere", [{"CI": "true"}, {"TERM": "dumb"}, {"JPY_PARENT_PID": "1"}], ids=lambda one: next(iter(one))
    )
    def test_nothing_where_nobody_looks(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, str]
    ) -> None:
        for name, value in elsewhere.items():
            monkeypatch.setenv(name, value)
        run_a_second(monkeypatch, terminal)
        assert terminal.getvalue() == ""

    def test_nothing_in_a_pipe(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        pipe = io.StringIO()
        run_a_second(monkeypatch, pipe)
        assert pipe.getvalue() == ""

    def test_one_that_has_nothing_to_say_yet_leaves_the_line_to_another(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(progress, "AFTER", 0.01)
        with display() as outer:
            with display() as inner:
                inner("inside", None)
                time.sleep(0.2)
            assert terminal.getvalue().count("\x1b[?25l") == 1
            outer("around", None)
            time.sleep(0.2)
        assert terminal.getvalue().count("\x1b[?25l") == 2

    def test_a_failure_takes_it_away(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(progress, "AFTER", 0.01)

        def fail() -> None:
            with display() as update:
                update("one", None)
                time.sleep(0.2)
                raise OSError("full")

        with pytest.raises(OSError, match="full"):
            fail()
        assert terminal.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K"), "the cursor is back, on an empty line"
        before = terminal.getvalue()
        time.sleep(0.3)
        assert terminal.getvalue() == before


class TestCourse:
    def test_the_share_done_when_a_stage_or_a_part_begins(self) -> None:
        course = Course({"build": (2, 1), "run": (6, 3), "end": (2, 1)})
        told = ("build", "run: a", "run: b", "run: c", "run: d", "end", "unforeseen")
        *shares, unknown = [course.share(text) for text in told]
        assert shares == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8])
        assert unknown is None


class TestForeseen:
    """Every stage that is told is one that was foreseen, and the share never falls."""

    @pytest.fixture
    def subject(self, config: MixerConfig, source: StateDict) -> Subject:
        return Subject(source=source, config=config, name="small")

    def check(self, stages: Any, run: Callable[[Callable[[str], None]], object]) -> None:
        course, shares = Course(stages), [-1.0]

        def note(text: str) -> None:
            share = course.share(text)
            assert share is not None, text
            assert share >= shares[-1], text
            shares.append(share)

        run(note)
        assert len(shares) > 3
        assert shares[-1] >= 0.5

    def test_of_an_alignment(self, frameworks: None, one_thread: None, subject: Subject) -> None:
        settings = Settings(batch=1, backward=True, train_steps=1)
        case = case_of(subject, settings)
        self.check(of_alignment(case, settings), lambda note: align(case, settings, progress=note))

    def test_of_a_record_and_of_a_check(self, frameworks: None, subject: Subject) -> None:
        case, traces = case_of(subject), []
        self.check(RECORD, lambda note: traces.append(gate.record(case, Settings(), progress=note)))
        self.check(CHECK, lambda note: gate.check(traces[0], case, progress=note))


class TestTold:
    def test_a_conversion_tells_the_bytes_written(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        import convert

        told: list[tuple[str, float | None]] = []
        with telling(lambda text, share: told.append((text, share))):
            convert.convert_file(checkpoint, tmp_path / "out.pdparams", progress=False)
        assert told == []  # it shows nothing of its own, and tells nobody else
        from convert.job import convert_checkpoint, request_of

        with telling(lambda text, share: told.append((text, share))):
            convert_checkpoint(request_of(checkpoint=checkpoint), tmp_path / "b.pdparams", force=False, command_line=[])
        shares = [share for _, share in told if share is not None]
        assert len(shares) == len(told) == 54
        assert shares[0] == 0
        assert shares == sorted(shares)
        assert 0.9 < shares[-1] < 1
        assert told[0][0].startswith("writing b.pdparams, 0 of ")

    def test_a_download_tells_how_much_came(self) -> None:
        watch = Watch(get_variant("b16_in21k"))
        watch._body, watch._total, watch._moved = SimpleNamespace(num_bytes_downloaded=5e6), 10**7, time.monotonic()
        told: list[tuple[str, float | None]] = []
        with telling(lambda text, share: told.append((text, share))):
            watch.run(lambda: time.sleep(3 * POLL))
        assert set(told) == {("downloading timm/mixer_b16_224.goog_in21k, 5 of 10 MB", 0.5)}


@pytest.mark.slow
def test_a_notebook_shows_it_and_takes_it_away() -> None:
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    shown: list[dict[str, str]] = []

    class Client(NotebookClient):
        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                shown.append(msg["content"]["data"])
            return super().process_message(msg, cell, cell_index)

    cell = """
        import time
        from convert.commands.progress import staged
        with staged({"a<b": (1, 4)}) as told:
            for part in range(4):
                told(f"a<b: {part}")
                time.sleep(0.6)
    """
    book = new_notebook(cells=[new_code_cell("\n".join(line[8:] for line in cell.splitlines()))])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    Client(book, timeout=60).execute()
    assert [one["text/plain"].partition(",")[0] for one in shown] == ["a<b: 2", "a<b: 3", ""]
    assert re.fullmatch(r'<progress value="0.500"></progress> a&lt;b: 2, 1 s left', shown[0]["text/html"])
    (output,) = book.cells[0].outputs
    assert output.data == {"text/plain": "", "text/html": ""}
