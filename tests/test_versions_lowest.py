"""That the lowest version of every package we ask for will do: a conversion, a check by Paddle alone, an evaluation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from cifar_files import python_files, write_archive
from click.testing import CliRunner
from conftest import save_safetensors
from test_versions_upgrade import ANOTHER, another_s32

import align.commands.cli
from convert.arrays import StateDict

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("paddle", "report")
"""Those without torch, of which every version takes gigabytes."""
UNSAID = "setuptools"
"""Paddle 3.1 imports it and does not ask for it; a venv with pip has it up to Python 3.11."""
Said = Callable[..., str]


def lowest() -> list[str]:
    """Every direct dependency of these extras, at its bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    return sorted({re.sub(r"\s*>=\s*", "==", line) for line in lines})


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """Runs one of our commands there and returns what it says; skipped where pip cannot get the packages."""
    place = tmp_path_factory.mktemp("lowest") / "venv"
    venv.create(place)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python"]
    for what in ([*lowest(), UNSAID], ["--no-deps", str(ROOT)]):
        command = [*pip, "install", "-q", "--no-compile", *what]  # few of the modules are imported
        got = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if got.returncode and "Could not find a version" in got.stderr:
            pytest.skip(f"pip has no package index here: {got.stderr.splitlines()[-1]}")
        assert got.returncode == 0, got.stderr

    def run(program: str, *arguments: object, code: int = 0) -> str:
        command = [str(place / "bin" / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def test_bounds_are_all_there_is() -> None:
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in lowest())


def test_it_converts_and_verifies(said: Said, tmp_path: Path, source: StateDict) -> None:
    checkpoint = save_safetensors(tmp_path / "x.safetensors", source)
    said("mixer-convert", "--checkpoint", checkpoint, "--out", tmp_path / "x.pdparams")
    assert "same" in said("mixer-convert", "verify", checkpoint, tmp_path / "x.pdparams")


def test_paddle_alone_passes_the_check_of_a_trace(said: Said, tmp_path: Path, frameworks: None) -> None:
    """And a weight that is another is found."""
    trace, report = tmp_path / "s32.json", tmp_path / "result.json"
    run = CliRunner().invoke(align.commands.cli.main, ["record", "--variant", "s32", "--out", str(trace)])
    assert run.exit_code == 0, run.output
    check = ("mixer-align", "check", "--trace", trace)
    assert said(*check, "--json", report).splitlines()[-1].startswith("aligned: s32")
    found = said(*check, "--candidate", another_s32(tmp_path / "w.safetensors"), code=1)
    assert found.splitlines()[-1].startswith("diverged: s32")
    assert ANOTHER.removesuffix(".weight") in found


def test_it_evaluates_and_writes_predictions(said: Said, tmp_path: Path, square_source: StateDict) -> None:
    weights = save_safetensors(tmp_path / "small.safetensors", square_source)
    data, out = write_archive(tmp_path / "tiny.tar.gz", python_files(30)), tmp_path / "p.npz"
    options = ("--predictions", out, "--html", tmp_path / "page.html")
    assert "of 30 = " in said("mixer-report", "evaluate", "--weights", weights, "--data", data, *options, code=1)
    assert out.exists()
    assert (tmp_path / "page.html").exists()
