"""Every block of docs/port-your-own-model.md, in order, in an empty folder, as a newcomer types it.

What stands before a block says what it is for: the paragraph ends with the name of the file that it is (`net.py`:), or
that it is to be added to (Add to `net.py`:), or changes (a diff, In `net.py`:); a command that fails has its exit code
there. A text block shows lines of the output above it, in order; … and figures stand for any.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import Block, blocks, shown
from warm import Warm

from align.pairing.file import read_pairing

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "port-your-own-model.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```", flags=re.MULTILINE)
CONDITION = re.compile(r"<!-- run where `(.*)` has (\S+) -->$")


def run(command: str, folder: Path, *commands: Path) -> subprocess.CompletedProcess[str]:
    path = ":".join([*map(str, commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "300"}
    environment.pop("PYTEST_ADDOPTS", None)
    shell = ["bash", "-euo", "pipefail", "-c", command]
    out, both = subprocess.PIPE, subprocess.STDOUT
    return subprocess.run(shell, cwd=folder, env=environment, stdout=out, stderr=both, text=True, check=False)


def changed(text: str, diff: str) -> str:
    """Return a text after the one change that a diff of whole lines is."""
    old, new = ("".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] == sign) for sign in "-+")
    assert text.count(old) == 1, f"there is not one {old}"
    return text.replace(old, new)


def follow(page: list[Block], folder: Path, *commands: Path) -> None:
    """Do what a page says, by the commands of these folders first."""
    output = ""
    for block in page:
        condition = CONDITION.search(block.before)
        if condition and condition[2] not in run(condition[1], folder, *commands).stdout:
            continue
        if block.language == "sh":
            done = run(block.text, folder, *commands)
            output = done.stdout
            assert done.returncode == block.exit_code, f"{block.text}\n{output}"
            assert "Traceback" not in output
        elif block.language == "text":
            missing = shown(block.text, output)
            assert missing is None, f"not shown, or not in this order: {missing}\n{output}"
        else:
            assert block.file is not None, f"nothing says which file this is:\n{block.text}"
            path = folder / block.file
            if block.language == "diff":
                path.write_text(changed(path.read_text(), block.text))
            else:
                old = path.read_text() if re.search(r"Add to `[\w.]+`:$", block.before) else ""
                path.write_text(old + block.text)
            if path.suffix == ".toml":
                read_pairing(path)


@pytest.mark.slow
def test_a_newcomer_gets_through(tmp_path: Path, warm: Warm) -> None:
    follow(blocks(PAGE), tmp_path, warm.path)
    assert {path.name for path in tmp_path.iterdir()} >= {"net.pdparams", "by_hand.pdparams", "inputs.toml"}


def test_every_block_is_one_that_is_followed() -> None:
    assert len(FENCE.findall(PAGE)) == 2 * len(blocks(PAGE))
    assert {block.language for block in blocks(PAGE)} == {"sh", "python", "toml", "diff", "text"}
    assert all(block.file for block in blocks(PAGE) if block.language in ("python", "toml", "diff"))
    assert [block.exit_code for block in blocks(PAGE) if block.language == "sh"][:5] == [1, 1, 0, 1, 1]


class TestWhatIsWrongOnAPageIsSeen:
    @pytest.mark.parametrize(
        "page",
        [
            "```sh\nexit 3\n```",
            "It ends with exit code 1:\n\n```sh\nexit 3\n```",
            "It ends with exit code 1:\n\n```sh\ntrue\n```",
            "```sh\nfalse\ntrue\n```",
            "```sh\necho aligned\n```\n\n```text\ndiverged\n```",
            "```sh\necho aligned\n```\n\n```text\nalign\n```",
            "```sh\necho a; echo b\n```\n\n```text\nb\na\n```",
            "No file:\n\n```python\nprint()\n```",
            "`net.py`:\n\n```python\na = 1\n```\n\nIn `net.py`:\n\n```diff\n-a = 2\n+a = 3\n```",
        ],
    )
    def test_it_is(self, page: str, tmp_path: Path) -> None:
        with pytest.raises(AssertionError):
            follow(blocks(page), tmp_path)

    def test_a_pairing_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match="its schema is None"):
            follow(blocks("`a.toml`:\n\n```toml\n[weights]\n```"), tmp_path)

    def test_what_is_right_is_not(self, tmp_path: Path) -> None:
        files = "`a.py`:\n\n```python\nx = 1\n```\n\nIn `a.py`:\n\n```diff\n-x = 1\n+x = 2\n```\n\n"
        added = "Add to `a.py`:\n\n```python\nprint(x, 1.5e-3)\n```\n\n"
        follow(blocks(f"{files}{added}```sh\npython a.py\n```\n\n```text\n2 0.00…\n```"), tmp_path)
        unknown = "<!-- run where `echo a` has --b -->\n```sh\nfalse\n```"
        follow(blocks(unknown), tmp_path)
