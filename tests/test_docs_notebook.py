"""The example notebook: stored without outputs, and every cell of it runs, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from pages import load
from test_align_notebook import SCOPE, executed, exported

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "port_a_mixer.ipynb"


def test_it_is_stored_without_what_a_run_leaves() -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert code
    for cell in code:
        assert cell.outputs == []
        assert cell.execution_count is None
        assert cell.metadata == {}


@pytest.mark.slow
def test_every_cell_runs_and_the_export_shows_both_verdicts(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    book = executed(nbformat.read(NOTEBOOK, as_version=4), NOTEBOOK.parent)
    printed = [{one.name for one in cell.get("outputs", ()) if one.output_type == "stream"} for cell in book.cells]
    assert [names for names in printed if names] == [{"stdout"}] * 5  # of which a busy machine makes two outputs
    path = exported(book, tmp_path)
    assert {url for url in load(browser, path, 1000, 900) if not url.startswith("data:")} == {path.as_uri()}
    script = f"return Array.from(document.querySelectorAll('.{SCOPE} .verdict strong')).map(e => e.textContent)"
    assert browser.execute_script(script) == ["aligned", "diverged"]
