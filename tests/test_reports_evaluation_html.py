"""The page of an evaluation, as `evaluate` and `finetune` write it: what it shows, and what it may load."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cifar_files import python_files, whole_archive, write_archive
from click.testing import CliRunner
from conftest import Run, save_safetensors
from pages import Elements, in_view, load

from convert.arrays import StateDict

COUNT = 30
HOSTILE = "<b>x & y"


@pytest.fixture
def mixer_report(frameworks: None) -> Run:
    from reports.commands.cli import main

    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def weights(tmp_path: Path, square_source: StateDict) -> Path:
    return save_safetensors(tmp_path / f"{HOSTILE}.safetensors", square_source)


@pytest.fixture
def page(mixer_report: Run, weights: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the page of an evaluation beside timm's, and its JSON."""
    data = write_archive(tmp_path / f"{HOSTILE}.tar.gz", python_files(COUNT))
    target, html = tmp_path / "r.json", tmp_path / "r.html"
    arguments = ["evaluate", "--weights", weights, "--against", weights, "--data", data, "--engine", "eager"]
    result = mixer_report(*arguments, "--json", target, "--html", html)
    assert result.exit_code == 1, result.output
    return html, json.loads(target.read_text())


def test_it_shows_what_was_measured(page: tuple[Path, dict[str, Any]]) -> None:
    text, found = page[0].read_text(), page[1]
    elements = Elements(text)
    accuracy = found["accuracy"]
    assert f"{accuracy['correct']} of {COUNT} = {accuracy['percent']:.2f} %" in text
    assert "not comparable: unknown weights" in text
    assert found["weights"]["fingerprint"] in text
    assert found["data"]["images_sha256"] in text
    assert "timm on the same images" in text
    cells = re.findall(r'<td class="(hit|miss) s\d">(\d+)</td>', text)
    assert [int(count) for _, count in cells] == [count for row in accuracy["confusion"] for count in row]
    assert len(elements.of("img")) == 24
    assert all(image["alt"] for image in elements.of("img"))
    assert all(e.get("scope") for e in elements.of("th"))
    identifiers = [e["id"] for _, e in elements.elements if "id" in e]
    assert len(identifiers) == len(set(identifiers))


def test_nothing_but_its_own_style_and_images_may_load(page: tuple[Path, dict[str, Any]]) -> None:
    text = page[0].read_text()
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{hashed}'; img-src data:;" in text
    assert HOSTILE not in text
    assert "&lt;b&gt;x &amp; y" in text
    for tag, attributes in Elements(text).elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "b")
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))


def test_where_it_cannot_be_written_nothing_is_run(mixer_report: Run, weights: Path, tmp_path: Path) -> None:
    for command in (["evaluate"], ["finetune", "--recipe", "small", "--out", tmp_path / "run"]):
        given = [*command, "--weights", weights, "--data", tmp_path / "none.tar.gz"]
        result = mixer_report(*given, "--html", tmp_path / "none" / "r.html")
        assert (result.exit_code, "there is no such folder to write r.html to" in result.stderr) == (4, True)
        result = mixer_report(*given, "--html", weights)
        assert (result.exit_code, "it is the input itself" in result.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_fine_tuning_has_one_in_its_folder(mixer_report: Run, weights: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "run", whole_archive(tmp_path / "d.tar.gz", 26)
    given = ["--weights", weights, "--data", data, "--recipe", "small", "--out", out, "--html", out / "r.html"]
    result = mixer_report("finetune", *given)
    assert result.exit_code == 0, result.output
    found = json.loads((out / "evaluation.json").read_text())["accuracy"]
    assert f"{found['correct']} of 26 = " in (out / "r.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_an_error_or_a_request(
    browser: Any, page: tuple[Path, dict[str, Any]], scheme: str
) -> None:
    path, _ = page
    requests = load(browser, path, 400, 800, scheme)
    assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}
    assert browser.get_log("browser") == []
    assert browser.execute_script("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
    assert in_view(browser, "#verdict strong")
