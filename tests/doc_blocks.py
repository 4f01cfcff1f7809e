"""The blocks of code of a page, and what a block of text shows of an output."""

from __future__ import annotations

import re
from dataclasses import dataclass

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`([\w.]+)`:$")
EXIT_CODE = re.compile(r"exit code(?: is)? (\d)")
LOOSE = re.compile(r"…|\d+(?:\.\d+)?e[+-]?\d+")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    before: str

    @property
    def file(self) -> str | None:
        """The file that it is, is added to or changes."""
        named = NAMED.search(self.before)
        return named[1] if named else None

    @property
    def exit_code(self) -> int:
        """That which its command ends with."""
        found = EXIT_CODE.findall(self.before)
        return int(found[-1]) if found else 0


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, each with the paragraph before it; nothing where another block stands there."""
    found, end = [], 0
    for match in BLOCK.finditer(page):
        paragraph = page[end : match.start()].strip().rpartition("\n\n")[2]
        found.append(Block(language=match[1], text=match[2], before=paragraph))
        end = match.end()
    return found


def shown(wanted: str, output: str) -> str | None:
    """Return the first line that the page shows and an output has not, or not in this order; None where it has all."""
    lines = iter(output.splitlines())
    for line in wanted.splitlines():
        pattern = re.compile(".*?".join(map(re.escape, LOOSE.split(line))))
        if not any(pattern.fullmatch(one.rstrip()) for one in lines):
            return line
    return None
