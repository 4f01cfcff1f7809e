"""Hooks of mkdocs: what GitHub shows of a page and the site does not, and links that lead out of docs/."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMENT = re.compile(r"^<!--.*?-->\n?", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FENCED = re.compile(r"(^```.*?^```$)", flags=re.MULTILINE | re.DOTALL)
BECAME = {"SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
"""Files of the root that are pages of the site too."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page without the comments that hold generating code, and without links to what is no page."""
    folder = Path(page.file.src_uri).parent
    texts = FENCED.split(COMMENT.sub("", markdown))  # every second one is a block of code
    texts[::2] = [LINK.sub(lambda found: _led(found, folder), text) for text in texts[::2]]
    return "".join(texts)


def _led(found: re.Match[str], folder: Path) -> str:
    text, target = found[1], found[2]
    if ":" in target or not target.startswith("../"):
        return found[0]
    path = os.path.normpath(Path("docs") / folder / target)
    if path in BECAME:
        return f"[{text}]({BECAME[path]}{found[3] or ''})"
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"docs/{folder}: a link leads to {path}, which is not there.")
    return f"{text} (`{path}`)" if text.strip("`") != path else text
