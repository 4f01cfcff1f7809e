"""The audit's page: what it draws, its policy, and how a browser takes it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from pages import Elements, colours, contrast, in_view, load

from convert.mixer.variants import MixerConfig
from reports.audit.records import record_of
from reports.data.cifar10 import Origin
from reports.data.preprocess import imagenet
from reports.data.thumbnails import thumbnails
from reports.render.conversion import Converted, Layouts, Output, StatedConversion
from reports.render.environment import ENVIRONMENT_SCHEMA, Environment, GitState, Inputs
from reports.render.html import audit_html
from reports.render.interval_plot import IntervalPlot, interval_plot
from reports.render.markdown import audit_markdown
from reports.render.report import SUBJECTS, AuditReport, Facts, most_uncertain, report_of
from reports.score.accuracy import Predictions
from reports.score.published import figure_by_id
from reports.score.records import EngineUse, WeightsIdentity
from reports.score.verdict import AuditFinding

WEIGHTS = WeightsIdentity(
    name=made_up.HOSTILE,
    sha256="1" * 64,
    fingerprint="2" * 64,
    dtype="float32",
    config=MixerConfig(**made_up.SETTINGS["config"]),
    upstream="b16_in1k",
    known_from="--variant",
    weights_key=made_up.HOSTILE,
    notes=(made_up.HOSTILE,),
)
ENVIRONMENT = Environment(
    schema=ENVIRONMENT_SCHEMA,
    **made_up.ENVIRONMENT,
    git=GitState(commit="3" * 40, dirty=True),
    command_line=("mixer-report", "<b>"),
    threads=2,
    seeds={"alignment_images": 0},
    inputs=Inputs(
        weights="w",
        checkpoint="c",
        data="d",
        src=None,
        checkpoint_src=None,
        weights_key=None,
        checkpoint_key=None,
    ),
)
NOTHING = StatedConversion(
    schema="mixer-convert/manifest/2",
    variant=None,
    config=WEIGHTS.config,
    random=False,
    weights_key=None,
    layouts=Layouts(source="timm", target="paddle"),
    notes=(),
    source=Converted(name="w", sha256=None, weights_key=None, fingerprint="2" * 64),
    output=Output(file=None, fingerprint="2" * 64),
    tensors=(),
    versions={},
    command_line=(),
)
CASES = {
    "consistent with": (318, "aligned"),
    "below": (900, "aligned"),
    "above": (20, "aligned"),
    "not comparable": (318, "diverged"),
}
EVERY = pytest.mark.parametrize("verdict", CASES)


def facts(wrong: int, port: str) -> Facts:
    """Made-up predictions, of which so many are wrong, as if of the canonical test images."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 10_000)
    predictions = labels.copy()
    predictions[:wrong] = (labels[:wrong] + 1) % 10
    found = Predictions(
        labels=labels, predictions=predictions, margins=generator.random(10_000), losses=generator.random(10_000)
    )
    figure = figure_by_id("google_b16_in1k")
    pictures = generator.integers(0, 256, (10_000, 4, 4, 3), dtype=np.uint8)
    return Facts(
        predictions=found,
        weights=WEIGHTS,
        source=WEIGHTS,
        manifest=None,
        conversions=dict.fromkeys(SUBJECTS, NOTHING),
        alignments={"source": made_up.ALL["aligned"](), "finetuned": made_up.ALL[port]()},
        figure=figure,
        preprocessing=figure.preprocessing,
        origin=Origin(
            name="c.tar.gz",
            split="test",
            version="python",
            sha256="4" * 64,
            files={},
            images_sha256="5" * 64,
            canonical=True,
        ),
        engine=EngineUse(
            name="inference",
            precision="float32",
            threads=2,
            batch_size=16,
            processes=1,
            images_per_second=1.0,
            first_batch=None,
        ),
        thumbnails=thumbnails(pictures, most_uncertain(found)),
    )


def page(verdict: str) -> str:
    made = facts(*CASES[verdict])
    report = report_of(made)
    assert report.verdict == verdict
    return audit_html(report, ENVIRONMENT, made.alignments).decode()


@EVERY
def test_it_is_well_formed_and_says_the_verdict(verdict: str) -> None:
    elements = Elements(page(verdict))
    assert len([e for e in elements.of("section") if "banner" in (e.get("class") or "")]) == 1
    assert len(elements.of("table")) == len(elements.of("caption"))
    assert all(e.get("scope") for e in elements.of("th"))
    identifiers = [e["id"] for _, e in elements.elements if "id" in e]
    assert len(identifiers) == len(set(identifiers)), "two charts, and no id twice"
    assert all(e.get("alt") for e in elements.of("img"))


@EVERY
def test_nothing_but_its_own_style_and_images_may_load(verdict: str) -> None:
    text = page(verdict)
    elements = Elements(text)
    policy = next(e["content"] for e in elements.of("meta") if e.get("http-equiv") == "Content-Security-Policy")
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{hashed}'; img-src data:;")
    assert "url(" not in style
    for tag, attributes in elements.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        assert "style" not in attributes
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    assert "<script>" not in text
    assert "<b>" not in text


def test_the_same_data_gives_the_same_bytes() -> None:
    assert page("below") == page("below")
    made = facts(*CASES["below"])
    read = record_of(AuditReport, json.loads(json.dumps(asdict(report_of(made)))))
    assert audit_markdown(report_of(made), ENVIRONMENT, made.alignments) == audit_markdown(
        read, ENVIRONMENT, made.alignments
    )


def test_markdown_shows_any_name_as_it_is() -> None:
    made = facts(*CASES["below"])
    text = audit_markdown(report_of(made), ENVIRONMENT, made.alignments).decode()
    assert "<script" not in text.replace("\\<", "")
    assert text.count("\n# ") == 0, "a title, and no line of a name opens another"


def plotted(interval: tuple[float, float], measured: float, published: float | None) -> IntervalPlot:
    return interval_plot(
        AuditFinding(
            verdict="above", measured=measured, interval=interval, published=published, figure=None, reasons=()
        )
    )


class TestInterval:
    @pytest.mark.parametrize(("published", "inside"), [(96.72, True), (96.35, True), (96.34, False), (97.2, False)])
    def test_the_line_stands_in_the_interval_when_it_does(self, published: float, inside: bool) -> None:
        plot = plotted((96.35, 97.05), 96.72, published)
        assert plot.published is not None
        assert (plot.low <= plot.published <= plot.high) is inside
        assert plot.low < plot.measured < plot.high
        assert all(0 < x < 100 for x in (plot.low, plot.high, plot.published))

    def test_it_is_to_scale(self) -> None:
        plot = plotted((20.0, 60.0), 40.0, 90.0)
        assert plot.published is not None
        assert (plot.published - plot.measured) / (plot.high - plot.low) == pytest.approx(50 / 40, abs=1e-3)
        ticks = {float(text): x for x, text in plot.ticks}
        (a, b), *_ = zip(sorted(ticks.items()), sorted(ticks.items())[1:], strict=False)
        assert (b[1] - a[1]) / (b[0] - a[0]) == pytest.approx((plot.high - plot.low) / 40, abs=1e-3)

    @pytest.mark.parametrize("interval", [(0.0, 0.0), (100.0, 100.0), (0.0, 100.0)])
    def test_any_finding_can_be_drawn(self, interval: tuple[float, float]) -> None:
        plot = plotted(interval, interval[0], None)
        assert plot.published is None
        assert all(0 <= float(text) <= 100 and 0 <= x <= 100 for x, text in plot.ticks)


@pytest.mark.parametrize("scheme", [0, 1])
def test_the_counts_can_be_read_on_every_shade(scheme: int) -> None:
    """WCAG 2.2 AA, 1.4.3: 4.5 for text."""
    text = page("below")
    c = colours(text)[scheme]
    (most,) = re.findall(r"\.s9 .*?--shade\) (\d+)%", text)
    for shade in ("good", "over"):
        share, pairs = int(most) / 100, [(c[shade][i : i + 2], c["page"][i : i + 2]) for i in (1, 3, 5)]
        mixed = "#" + "".join(f"{round(int(a, 16) * share + int(b, 16) * (1 - share)):02x}" for a, b in pairs)
        assert contrast(c["ink"], mixed) >= 4.5


@pytest.mark.slow
class TestBrowser:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @EVERY
    def test_it_shows_without_an_error_or_a_request(
        self, browser: Any, tmp_path: Path, verdict: str, scheme: str
    ) -> None:
        path = tmp_path / "page.html"
        path.write_text(page(verdict))
        requests = load(browser, path, 400, 800, scheme)
        assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}
        assert browser.get_log("browser") == []
        assert browser.execute_script("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
        widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert widths == [4] * 24, "every image is shown"
        assert in_view(browser, "#verdict strong")

    def test_what_the_policy_forbids_is_seen(self, browser: Any, tmp_path: Path) -> None:
        path = tmp_path / "page.html"
        path.write_text(page("below").replace("<h1>", '<img src="http://127.0.0.1:9/x.png" alt="x"><h1>'))
        load(browser, path, 400, 800)
        assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_without_a_row_there_is_no_line() -> None:
    made = replace(facts(*CASES["below"]), figure=None, preprocessing=imagenet(32, ""))
    text = audit_html(report_of(made), ENVIRONMENT, made.alignments).decode()
    assert 'class="published"' not in text
    assert "there is no published figure to draw" in text
