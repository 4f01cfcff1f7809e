"""The page: what it says, what it draws, its contrast, and how a browser takes it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import made_up
import pytest
from pages import Elements, colours, contrast, in_view, load

from align.render import as_data
from align.render.chart import LANE, SMALLEST, chart, heat_of
from align.render.html import html

EVERY = pytest.mark.parametrize("name", made_up.ALL)


def data_of(name: str) -> dict[str, Any]:
    return json.loads(json.dumps(as_data(made_up.ALL[name]())))


def page(name: str) -> str:
    return html(data_of(name)).decode()


class TestPage:
    @EVERY
    def test_it_is_well_formed_and_says_the_verdict(self, name: str) -> None:
        data = data_of(name)
        elements = Elements(page(name))
        assert [e["class"] for e in elements.of("section") if "class" in e] == [f"banner {data['verdict']}"]
        assert len(elements.of("table")) == len(elements.of("caption"))
        assert all(e.get("scope") for e in elements.of("th"))
        identifiers = [e["id"] for _, e in elements.elements if "id" in e]
        assert len(identifiers) == len(set(identifiers))

    @EVERY
    def test_nothing_but_its_own_style_may_load(self, name: str) -> None:
        text = page(name)
        elements = Elements(text)
        policy = next(e["content"] for e in elements.of("meta") if e.get("http-equiv") == "Content-Security-Policy")
        (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
        hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy is not None
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{hashed}';")
        assert "unsafe" not in policy
        assert "url(" not in style
        assert "@import" not in style
        for tag, attributes in elements.elements:
            assert tag not in ("script", "img", "iframe", "object", "embed", "base")
            assert "style" not in attributes
            assert not any(key.startswith("on") for key in attributes)
            assert (attributes.get("href") or "#").startswith(("#", "data:,"))

    def test_text_of_any_origin_is_escaped(self) -> None:
        text = page("hostile")
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text

    def test_a_file_name_that_is_no_text_is_held(self) -> None:
        assert b"\\udcff" in html(data_of("aligned") | {"variant": "a\udcff"})

    @pytest.mark.parametrize("name", ["diverged", "not_a_number"])
    def test_the_failing_layer_is_named_on_top_and_marked_once(self, name: str) -> None:
        text = page(name)
        assert f'<code id="failing-layer">{made_up.FAULTY}</code>' in text
        assert text.index("failing-layer") < text.index("<table")
        assert text.count('id="marked-layer"') == 1
        assert "marked" not in page("aligned").partition("</style>")[2]

    def test_each_section_s_checks_are_shown(self) -> None:
        text = page("trained_badly")
        assert '<td class="figure">nan exceeds 1.0e-10</td><td class="failed">failed</td>' in text
        assert '<td class="figure">2.30e+00</td><td class="not-judged">not judged</td>' in text

    def test_it_says_whether_there_was_a_witness(self) -> None:
        text = page("without_witness")
        assert "No witness: float64 is compared between torch and Paddle alone." in text
        assert '<th scope="col">float32 reference vs float64 reference</th>' in text
        assert "vs witness" not in text
        assert "no-witness" not in page("aligned")

    def test_the_points_left_out_are_listed(self) -> None:
        for name, why in made_up.LEFT_OUT.items():
            assert f'<tr><th scope="row">{name}</th><td class="text">{why}</td></tr>' in page("without_witness")
        assert "left out" not in page("aligned")

    def test_the_title_names_both_files(self) -> None:
        def title(**settings: Any) -> str:
            data = data_of("diverged")
            data["settings"] |= settings
            (found,) = re.findall(r"<title>(.*?) · mixer-align</title>", html(data).decode())
            return str(found)

        files = title(weights={"file": "a.safetensors", "candidate": "b.pdparams"})
        assert files == "diverged: made up · a.safetensors → b.pdparams"
        assert title().endswith(" · random weights (seed 0) → its conversion in memory")
        models = title(weights={"file": None}, reference_model="m:r", candidate_model="m:c")
        assert models.endswith(" · m:r → m:c")

    @EVERY
    def test_no_layer_is_a_tab_stop(self, name: str) -> None:
        elements = Elements(page(name))
        stops = [(tag, e.get("class")) for tag, e in elements.elements if "tabindex" in e or tag == "a"]
        assert stops == [("div", "wide")] * len(elements.of("table")), "what scrolls, which the keyboard has to reach"

    def test_the_axes_say_their_units(self) -> None:
        text = page("aligned")
        for lane in ("float64 introduced", "float64 inherited", "float32 introduced", "float32 inherited"):
            assert f">{lane}: max |Δ|</text>" in text
        assert ">layers in forward order →</text>" in text

    def test_without_layers_there_is_no_chart(self) -> None:
        assert "No layer was measured" in page("structure_failed")
        assert "<figure>" not in page("structure_failed")


class TestChart:
    def test_a_column_per_layer_fills_the_width(self) -> None:
        drawn = chart(data_of("diverged"))
        assert [column.name for column in drawn.columns] == list(made_up.NAMES)
        assert drawn.columns[-1].x + drawn.width == pytest.approx(100, abs=0.01)
        assert [column.name for column in drawn.columns if column.marked] == [made_up.FAULTY]
        assert [number for _, number in drawn.blocks] == ["0", "1", "2"]

    def test_what_is_over_its_bound_stands_above_the_line_and_what_is_not_below(self) -> None:
        for name in ("aligned", "diverged", "rounding"):
            bars = [bar for column in chart(data_of(name)).columns for bar in column.bars if bar.bound_y is not None]
            assert bars
            for bar in bars:
                assert bar.bound_y is not None
                assert (bar.y > bar.bound_y) == bar.passed, bar
                assert (bar.heat == "over") != bar.passed

    def test_the_scale_is_logarithmic(self) -> None:
        data = data_of("aligned")
        for layer, value in zip(data["layers"], (1e-16, 1e-15, 1e-14, 1e-13), strict=False):
            layer["float64"]["introduced"]["max_abs_diff"] = value
        heights = [column.bars[0].height for column in chart(data).columns[:4]]
        assert heights[0] == 2.0, "a mark is left of what stands at the foot"
        (step,) = {round(b - a, 1) for a, b in pairwise(heights[1:])}
        assert step == round(LANE / 4, 1)

    @pytest.mark.parametrize("value", [0.0, 5e-324, SMALLEST / 10, 1e300, "inf", "nan"])
    def test_any_figure_can_be_drawn(self, value: float | str) -> None:
        data = data_of("aligned")
        for layer in data["layers"]:
            for figure in ("introduced", "inherited"):
                layer["float64"][figure]["max_abs_diff"] = value
        for column in chart(data).columns:
            assert all(math.isfinite(bar.y) and 2.0 <= bar.height <= LANE for bar in column.bars)

    def test_a_nan_is_drawn_to_the_top(self) -> None:
        (column,) = [column for column in chart(data_of("not_a_number")).columns if column.marked]
        assert (column.bars[0].height, column.bars[0].heat) == (LANE, "over")

    @pytest.mark.parametrize(
        ("share", "heat"), [(0.0, "h0"), (1e-3, "h0"), (1.0, "h4"), (1.01, "over"), (math.nan, "over")]
    )
    def test_heat(self, share: float, heat: str) -> None:
        assert heat_of(share) == heat

    def test_the_figures_shown_first_are_the_worst_layer_s(self) -> None:
        data = data_of("aligned")
        data["layers"][3]["float64"]["inherited"]["max_abs_diff"] = 9e-13
        shown, marked = chart(data).shown, chart(data_of("diverged")).shown
        assert shown is not None
        assert marked is not None
        assert (shown.name, marked.name) == (made_up.NAMES[3], made_up.FAULTY)


class TestContrast:
    """WCAG 2.2 AA: 4.5 for text (1.4.3), 3 for what a chart is read by (1.4.11)."""

    @pytest.mark.parametrize("scheme", [0, 1])
    def test_text(self, scheme: int) -> None:
        c = colours(page("aligned"))[scheme]
        on_page = [(c[name], c["page"]) for name in ("ink", "quiet", "link", "good", "bad", "warn", "open")]
        on_banner = [(c[name], c[f"{n}-page"]) for n in ("good", "bad", "warn", "open") for name in ("ink", n)]
        for pair in (*on_page, *on_banner):
            assert contrast(*pair) >= 4.5, pair

    @pytest.mark.parametrize("scheme", [0, 1])
    def test_bars(self, scheme: int) -> None:
        c = colours(page("aligned"))[scheme]
        for name in ("h0", "h1", "h2", "h3", "h4", "over", "free", "ink"):
            assert contrast(c[name], c["lane"]) >= 3, name

    def test_the_formula(self) -> None:
        assert contrast("#000000", "#ffffff") == pytest.approx(21)
        assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.slow
class TestBrowser:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @EVERY
    def test_it_shows_without_an_error_or_a_request(self, browser: Any, tmp_path: Path, name: str, scheme: str) -> None:
        path = tmp_path / "page.html"
        path.write_bytes(html(data_of(name)))
        requests = load(browser, path, 400, 800, scheme)
        assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}
        assert browser.get_log("browser") == []
        assert browser.execute_script("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
        ink = "rgb(26, 31, 38)" if scheme == "light" else "rgb(231, 235, 240)"
        assert browser.execute_script("return getComputedStyle(document.body).color") == ink

    @pytest.mark.parametrize(("width", "height"), [(400, 800), (1200, 900)])
    def test_the_failing_layer_is_in_view_without_scrolling(
        self, browser: Any, tmp_path: Path, width: int, height: int
    ) -> None:
        path = tmp_path / "page.html"
        path.write_bytes(html(data_of("diverged")))
        load(browser, path, width, height)
        assert in_view(browser, "#failing-layer")
        assert browser.find_element("id", "failing-layer").text == made_up.FAULTY
        if width == 1200:
            assert in_view(browser, "#marked-layer .pointer path")
        browser.execute_script("scrollTo(0, document.body.scrollHeight)")
        assert not in_view(browser, "#failing-layer"), "the measure itself can fail"

    def test_a_column_shows_its_figures_when_it_is_pointed_at(self, browser: Any, tmp_path: Path) -> None:
        path = tmp_path / "page.html"
        path.write_bytes(html(data_of("diverged")))
        load(browser, path, 1200, 900)
        visible = "return getComputedStyle(document.querySelector('#marked-layer .tip')).visibility"
        assert browser.execute_script(visible) == "hidden"
        from selenium.webdriver import ActionChains

        ActionChains(browser).move_to_element(browser.find_element("css selector", "#marked-layer .hit")).perform()
        assert browser.execute_script(visible) == "visible"

    def test_the_gates_and_the_chart_share_the_first_page_of_a_print(self, browser: Any, tmp_path: Path) -> None:
        """Ten gates, as a run has them; A4 within its margins at 96 pixels to the inch."""
        data = data_of("aligned")
        data["gates"] = [{**data["gates"][0], "sentence": "a finding that takes two lines of the page " * 3}] * 10
        path = tmp_path / "page.html"
        path.write_bytes(html(data))
        load(browser, path, 703, 1032)
        bottom = "return document.querySelector('figure').getBoundingClientRect().bottom"
        assert browser.execute_script(bottom) > 1032, "the screen's own layout would not do"
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        try:
            assert browser.execute_script(bottom) < 1032
        finally:
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    def test_what_the_policy_forbids_is_seen(self, browser: Any, tmp_path: Path) -> None:
        """The proof that a request or an error would be noticed."""
        path = tmp_path / "page.html"
        free = page("aligned").replace("img-src data:", "img-src *")
        path.write_text(free.replace("<h1>", '<img src="http://127.0.0.1:9/x.png" alt=""><h1>'))
        assert "http://127.0.0.1:9/x.png" in load(browser, path, 400, 800)
        browser.get_log("browser")
        path.write_text(page("aligned").replace("<h1>", '<h1 style="color: red">'))
        load(browser, path, 400, 800)
        assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))
