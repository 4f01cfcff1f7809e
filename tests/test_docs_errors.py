"""The page of errors has every place in the code that makes one, and a new one makes the check fail."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from convert import errors

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "scripts"))

import error_page  # noqa: E402  # lies beside the page
import error_sentences  # noqa: E402

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
CLASSES = [
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.MixerConvertError)
]


@cache  # of a test's process, not of each that collects this module
def trees() -> dict[str, ast.Module]:
    return error_sentences.trees()


@cache
def entries() -> list[error_sentences.Entry]:
    return list(error_sentences.entries(trees()))


def test_it_is_the_code_s() -> None:
    assert error_page.page() in PAGE


@pytest.mark.parametrize("name", CLASSES)
def test_no_place_is_missed(name: str) -> None:
    """Counted by the name and a parenthesis, not by the syntax tree that the page is made from."""
    called = re.compile(rf"(?<![\w.`]){name}\((?!\w*Error|\w*Problem|BadInput)")
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in trees()}
    counted = sum(len(re.findall(rf"(?m)^(?!class ).*?{called.pattern}", text)) for text in texts.values())
    told = [entry for entry in entries() if entry.kind.name == name]
    kept = sum(len(re.findall(rf"{called.pattern}(?:str\(error\)|error)\)", text)) for text in texts.values())
    assert len(told) == counted - kept


def test_each_class_has_its_exit_code() -> None:
    found = error_sentences.kinds(trees())
    assert {name: found[name].exit_code for name in CLASSES} == {name: vars(errors)[name].exit_code for name in CLASSES}


@pytest.mark.parametrize(
    ("said", "wrong", "advice"),
    [
        ('BadInput(f"{path}: it is too green. Paint it.")', "‹path›: it is too green.", "Paint it."),
        ('UnknownVariant("x", (), ("y",))', "--variant x: no such variant.", ""),
        ('Unreadable(path, "its rows are mixed")', "‹path›: its rows are mixed.", "Get the file again"),
        ('OutputRefused(path, reason=f"it is {kind}", advice="Choose another.")', "‹path›: it is ‹kind›.", "Choose"),
    ],
)
def test_a_new_sentence_is_on_the_page(said: str, wrong: str, advice: str) -> None:
    tree = ast.parse(f'"""Something new."""\n\n\ndef new(path, kind):\n    raise {said}\n')
    new = error_page.page({"convert/errors.py": trees()["convert/errors.py"], "convert/new.py": tree})
    table = new.partition("**Something new** (`convert/new.py`)")[2]
    row = table.splitlines()[4]  # after the name's rest, a blank line, the table's head and its rule
    assert wrong in row
    assert advice in row


def test_the_check_fails_until_it_is_there() -> None:
    tree = ast.parse('def new():\n    raise BadInput("it is too green. Paint it.")\n')
    assert error_page.page({**trees(), "align/new.py": tree}) not in PAGE


def test_cog_checks_it() -> None:
    command = [sys.executable, "-m", "cogapp", "--check", "docs/errors.md"]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0
