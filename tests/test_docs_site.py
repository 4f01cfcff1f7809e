"""The site: translations keep step, figures are the recorded ones, and links out of it lead somewhere."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from markdown.extensions.toc import slugify

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "scripts"))
TRANSLATED = [
    "README",
    *(f"docs/{path.name.removesuffix('.zh.md')}" for path in sorted((ROOT / "docs").glob("*.zh.md"))),
]
NEEDED = {f"docs/{name}" for name in ("index", "convert", "prove", "port-your-own-model", "ci", "audit")}
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", flags=re.MULTILINE | re.DOTALL)
"""Those in lists too."""
HEADING = re.compile(r"^(#+) (.*?)(?: \{ #([\w-]+) \})?$", flags=re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMENT = re.compile(r"<!--.*?-->", flags=re.DOTALL)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
BARE = re.compile(r"`[^`]*`|\]\([^)]*\)|<[^>]*>")


@dataclass(frozen=True)
class Outline:
    """What two languages of a page have in common."""

    headings: list[tuple[int, str]]
    blocks: list[tuple[str, str]]
    tables: list[int]
    links: list[str]
    snippets: list[str]


def outline(text: str, *, site: bool) -> Outline:
    """Return what a page is made of; of a page of the site the headings' anchors too, which links use."""
    prose = BLOCK.sub("", COMMENT.sub("", text))
    headings = [
        (len(level), anchor or slugify(_plain(said), "-") if site else "")
        for level, said, anchor in HEADING.findall(prose)
    ]
    return Outline(
        headings=headings[1:],
        blocks=BLOCK.findall(text),
        tables=[line.count("|") for line in prose.splitlines() if line.startswith("|")],
        links=sorted(link.replace(".zh.md", ".md") for link in LINK.findall(prose)),
        snippets=re.findall(r'^--8<-- "(.*)"$', prose, flags=re.MULTILINE),
    )


def _plain(heading: str) -> str:
    return heading.replace("`", "")


def pair(name: str) -> tuple[str, str]:
    english, chinese = (ROOT / f"{name}{suffix}.md" for suffix in ("", ".zh"))
    return english.read_text(encoding="utf-8"), chinese.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translation_keeps_step(name: str) -> None:
    english, chinese = (outline(text, site=name != "README") for text in pair(name))
    assert chinese.headings == english.headings
    assert chinese.blocks == english.blocks
    assert chinese.tables == english.tables
    assert chinese.links == english.links
    assert chinese.snippets == english.snippets


@pytest.mark.parametrize("name", TRANSLATED)
def test_it_is_translated_whole(name: str) -> None:
    """A paragraph without a Chinese character was left in English."""
    prose = BLOCK.sub("", COMMENT.sub("", pair(name)[1]))
    left = [part for part in prose.split("\n\n") if _words(part) > 5 and not CHINESE.search(part)]
    assert left == []


def _words(part: str) -> int:
    return len(re.findall(r"[A-Za-z]{2,}", BARE.sub("", part)))


def test_what_people_read_first_is_translated() -> None:
    assert {*TRANSLATED} >= NEEDED


ALTERED: dict[str, Callable[[str], str]] = {
    "a heading": lambda text: text.replace("\n## ", "\n### ", 1),
    "an anchor": lambda text: re.sub(r"\{ #([\w-]+) \}", r"{ #x-\1 }", text, count=1),
    "a section": lambda text: text[: text.rindex("\n## ")],
    "a command": lambda text: text.replace("mixer-align", "mixer-aline", 1),
    "a row": lambda text: re.sub(r"^\| .*\n(?=\n)", "", text, count=1, flags=re.MULTILINE),
    "a link": lambda text: re.sub(r"\]\([\w-]+\.md", "](other.md", text, count=1),
}


@pytest.mark.parametrize("what", ALTERED)
def test_a_page_out_of_step_is_seen(what: str) -> None:
    chinese = pair("docs/prove")[1]
    altered = ALTERED[what](chinese)
    assert altered != chinese
    assert outline(altered, site=True) != outline(pair("docs/prove")[0], site=True)


def test_the_figures_beside_other_tools_are_recorded() -> None:
    data = json.loads((ROOT / "docs" / "selftest.json").read_text(encoding="utf-8"))
    findings, ports = data["findings"], sum(sum(counts.values()) for counts in data["right_ports"].values())
    assert {finding["outcome"] for finding in findings} == {"caught"}
    faults, configs = ({finding[key] for finding in findings} for key in ("fault", "config"))
    figures = [f"{len(faults)} ", f" {len(findings)} ", f" {len(configs)} ", f"{ports} "]
    for text in pair("README"):
        row = next(line for line in text.splitlines() if line.startswith("| mixer-align"))
        assert all(figure in row for figure in figures), figures


@pytest.mark.parametrize(
    "name", ["README.md", "README.zh.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md"]
)
def test_its_links_lead_somewhere(name: str) -> None:
    text = COMMENT.sub("", (ROOT / name).read_text(encoding="utf-8"))
    targets = {*LINK.findall(text), *re.findall(r'(?:src|srcset)="([^"]+)"', text)}
    for target in (target for target in targets if ":" not in target):
        path, _, anchor = target.partition("#")
        page = ROOT / name if not path else (ROOT / name).parent / path
        assert page.exists(), target
        if anchor:
            assert anchor in [one for _, one in outline(page.read_text(encoding="utf-8"), site=True).headings], target


def test_every_page_has_its_place() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- [^#:\n]+: ([\w-]+\.md)$", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(
        path.name for path in (ROOT / "docs").glob("*.md") if not path.name.endswith(".zh.md")
    )


def test_the_drawing_is_the_script_s() -> None:
    import pictures

    for name, colour in pictures.colours().items():
        drawn = (ROOT / "docs" / "pictures" / f"architecture-{name}.svg").read_text(encoding="utf-8")
        assert drawn == pictures.architecture(colour)


def test_links_out_of_the_site_are_checked() -> None:
    import hooks

    page = SimpleNamespace(file=SimpleNamespace(src_uri="prove.md"))
    shown = hooks.on_page_markdown(
        "a [`align/run.py`](../align/run.py), [it](../SECURITY.md#x)\n<!-- [[[cog\nx\n-->\n", page
    )
    assert shown == "a `align/run.py`, [it](security.md#x)\n"
    with pytest.raises(FileNotFoundError, match=r"align/gone\.py"):
        hooks.on_page_markdown("[gone](../align/gone.py)", page)
