from __future__ import annotations

import sys

import pytest

from convert.commands.tables import markdown, plain, print_table

HEADERS, ROWS = ("name", "n"), [("a", "1"), ("longer", "22")]


def test_plain_is_aligned() -> None:
    assert plain(HEADERS, ROWS).splitlines() == ["name    n", "a       1", "longer  22"]


def test_markdown() -> None:
    assert markdown(HEADERS, ROWS).splitlines() == ["| name | n |", "| --- | --- |", "| a | 1 |", "| longer | 22 |"]


def test_a_terminal_gets_a_rich_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_table(HEADERS, ROWS, title="a title")
    shown = capsys.readouterr().out
    assert "━" in shown
    assert "a title" in shown


def test_a_terminal_too_narrow_gets_plain_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "12")
    print_table(HEADERS, ROWS)
    assert capsys.readouterr().out == plain(HEADERS, ROWS) + "\n"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "")
    print_table(HEADERS, ROWS)
    assert "\x1b[3" not in capsys.readouterr().out


def test_elsewhere_it_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADERS, ROWS)
    assert capsys.readouterr().out == plain(HEADERS, ROWS) + "\n"
