"""What a notebook shows of a result, and what its HTML export keeps of that."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_up
import pytest
from pages import Elements, colours, contrast, load

from align.render import as_data
from align.render.html import html, style_text
from align.render.notebook import SCOPE, scoped

if TYPE_CHECKING:
    from nbformat import NotebookNode

EVERY = pytest.mark.parametrize("name", made_up.ALL)
LAYERS_OF_B16 = 12 * 12 + 4
KB = 1000
LOOKS = (
    "color",
    "backgroundColor",
    "font",
    "margin",
    "padding",
    "display",
    "textAlign",
    "border",
    "maxWidth",
    "whiteSpace",
)
THEMED = "Array.from(document.querySelectorAll('.mixer-align-result td')).map(e => getComputedStyle(e).color)"


def fragment(name: str) -> str:
    return made_up.ALL[name]()._repr_html_()


class TestFragment:
    @EVERY
    def test_it_is_well_formed_and_says_the_verdict(self, name: str) -> None:
        elements = Elements(fragment(name))
        assert [e["class"] for e in elements.of("section")] == [f"banner {made_up.ALL[name]().verdict}"]
        assert len(elements.of("table")) == 1
        assert len(elements.of("details")) == bool(made_up.ALL[name]().layers)

    @EVERY
    def test_nothing_is_loaded_or_run(self, name: str) -> None:
        text = fragment(name)
        assert "url(" not in text
        assert "@import" not in text
        for tag, attributes in Elements(text).elements:
            assert tag not in ("script", "img", "iframe", "object", "embed", "base", "link", "body", "html")
            assert "style" not in attributes
            assert not any(key.startswith("on") for key in attributes)
            assert (attributes.get("href") or "#").startswith("#")

    def test_text_of_any_origin_is_escaped(self) -> None:
        text = fragment("hostile")
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text

    def test_a_layer_s_name_is_escaped_in_the_chart_too(self) -> None:
        name = '</title></svg><img src=x onerror="alert(1)">'
        layers = tuple(dataclasses.replace(layer, name=name) for layer in made_up.aligned().layers)
        text = dataclasses.replace(made_up.aligned(), layers=layers)._repr_html_()
        assert "<img" not in text
        assert "&lt;img" in text

    def test_a_file_name_that_is_no_text_is_held(self) -> None:
        assert "\\udcff" in made_up.aligned(variant="a\udcff")._repr_html_()

    def test_the_first_wrong_layer_is_named_and_its_chart_is_the_page_s(self) -> None:
        text, page = fragment("diverged"), html(as_data(made_up.diverged())).decode()
        assert f'failing-layer">{made_up.FAULTY}</code>' in text
        plots = [
            re.sub(r'id="[\w-]*?(marked-layer)"', r"\1", t.partition('class="plot"')[2].partition("</figure>")[0])
            for t in (text, page)
        ]
        assert plots[0]
        assert plots[0] == plots[1]

    def test_two_results_in_a_notebook_share_no_id(self) -> None:
        elements = Elements(fragment("diverged") + fragment("diverged")).elements
        identifiers = [e["id"] for _, e in elements if "id" in e]
        assert len(identifiers) == len(set(identifiers)) == 6

    def test_the_size_of_b16_s(self) -> None:
        layers = (
            dataclasses.replace(made_up.small(made_up.NAMES[1]), name=f"blocks.{i // 12}.mlp_tokens.{i}")
            for i in range(LAYERS_OF_B16)
        )
        assert 100 * KB < len(made_up.result(*layers)._repr_html_().encode()) < 300 * KB

    def test_an_accepted_rounding_is_said_to_be(self) -> None:
        result = made_up.rounding()
        assert "Pass --accept-rounding" in result._repr_html_()
        assert "That is accepted." in dataclasses.replace(result, accept_rounding=True)._repr_html_()


class TestTruth:
    @EVERY
    def test_it_is_that_of_the_verdict(self, name: str) -> None:
        result = made_up.ALL[name]()
        accepting = dataclasses.replace(result, accept_rounding=True)
        assert bool(result) == (result.verdict == "aligned")
        assert bool(accepting) == (result.verdict in ("aligned", "rounding"))
        assert accepting.verdict == result.verdict
        assert accepting.failed(accept_rounding=False) == (result.verdict != "aligned")


class TestStyle:
    def test_every_rule_is_for_the_fragment_alone(self) -> None:
        """Each outermost rule names it; all others are nested in one that does."""
        depth, outermost = 0, [""]
        for char in scoped(style_text()):
            depth += (char == "{") - (char == "}")
            outermost[-1] += char
            if depth == 0 and char == "}":
                outermost.append("")
        rules = [rule.strip() for rule in outermost if rule.strip()]
        assert len(rules) == 5
        for rule in rules:
            assert SCOPE in rule.partition("{")[0] or rule.startswith("@media (prefers-color-scheme: dark) { ." + SCOPE)
        assert not re.search(r"^\s*(body|html|:root)\b", scoped(style_text()), flags=re.MULTILINE)

    def test_no_rule_of_the_page_is_lost_but_for_its_paper(self) -> None:
        page, inner = style_text().partition("@page")[0], scoped(style_text())
        assert "print" in style_text()
        assert "print" not in inner
        opening = page.count("{") - len(colours(page)) - 1  # the colours', and the media rule around the dark ones
        assert inner[inner.index("* {") :].count("{") == opening


def notebook(*sources: str) -> NotebookNode:
    """Return a notebook with these cells, executed."""
    from nbformat.v4 import new_code_cell, new_notebook

    book = new_notebook(cells=[new_code_cell(source) for source in sources])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return executed(book, Path(__file__).parent)


def executed(book: NotebookNode, folder: Path) -> NotebookNode:
    """Return a notebook with the outputs that it has, run in a folder; a cell that fails is an error."""
    from nbclient import NotebookClient

    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return book


def exported(book: NotebookNode, folder: Path, **how: str) -> Path:
    """Return the page that a notebook is exported to; what nbconvert itself would fetch is taken out."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(**how).from_notebook_node(book)
    path = folder / f"{'-'.join(how.values()) or 'plain'}.html"
    path.write_text(re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL))
    return path


@pytest.mark.slow
class TestExport:
    CELLS = ("import made_up; made_up.diverged()", "made_up.hostile()", "made_up.aligned()")

    @pytest.mark.parametrize(
        ("how", "scheme", "dark"),
        [
            ({"theme": "light"}, "light", False),
            ({"theme": "light"}, "dark", False),  # as the page around it
            ({"theme": "dark"}, "light", True),
            ({"template_name": "classic"}, "light", False),
            ({"template_name": "classic"}, "dark", True),  # a page that states no theme
        ],
    )
    def test_it_is_read_in_every_scheme(
        self, browser: Any, tmp_path: Path, how: dict[str, str], scheme: str, dark: bool
    ) -> None:
        path = exported(notebook(*self.CELLS), tmp_path, **how)
        requests = load(browser, path, 1000, 900, scheme)
        assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}
        assert browser.execute_script(f"return document.querySelectorAll('.{SCOPE} .plot').length") == 3
        page = colours(style_text())[dark]["page"]
        style = f"getComputedStyle(document.querySelector('.{SCOPE}'))"
        assert hex_of(browser.execute_script(f"return {style}.backgroundColor")) == page
        found = {hex_of(colour) for colour in browser.execute_script(f"return {THEMED}")}
        assert found
        assert all(contrast(colour, page) >= 4.5 for colour in found)

    def test_the_rest_of_the_notebook_is_as_without_it(self, browser: Any, tmp_path: Path) -> None:
        cells = ("import made_up", "import IPython.display as d; d.HTML('<table><tr><th>a<td>b</table><p>c</p>')")
        script = (
            "return Array.from(document.querySelectorAll('table, th, td, p, body'))"
            f".filter(e => !e.closest('.{SCOPE}'))"
            ".map(e => arguments[0].map(k => getComputedStyle(e)[k]))"
        )
        found = []
        for sources in (cells, (*cells, "made_up.diverged()")):
            load(browser, exported(notebook(*sources), tmp_path), 1000, 900)
            found.append(browser.execute_script(script, LOOKS))
        assert len(found[0]) == 5
        assert found[0] == found[1]


def hex_of(colour: str) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)[:3])
