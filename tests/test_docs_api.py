"""The public names of the three packages: where they are, what their docstrings say, and whether their examples run."""

from __future__ import annotations

import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import save_safetensors

import align
import convert
import reports
from convert.arrays import StateDict

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "python-api.md"
ROOTS = (convert, align, reports)
NAMES = [(root.__name__, name) for root in ROOTS for name in root.__all__]
EVERY = pytest.mark.parametrize(("package", "name"), NAMES)
ONE_SCREEN = 50
"""Lines of a terminal that a docstring may take."""

AT_IMPORT = """
import sys, typing
before = set(sys.modules)
import {package}
print(*sorted(set(sys.modules) - before))
"""


def public(package: str, name: str) -> object:
    return getattr(import_module(package), name)


@EVERY
def test_it_resolves_and_is_explained(package: str, name: str) -> None:
    found = public(package, name)
    text = inspect.getdoc(found) or ""
    assert getattr(found, "__name__", None) == name
    assert name in dir(import_module(package))
    assert re.match(r"[A-Z].+\.", text.splitlines()[0]), "a sentence"
    assert text.count("\n") < ONE_SCREEN
    if inspect.isfunction(found):
        asked = [one for one in inspect.signature(found).parameters if not one.startswith("_")]
        assert all(re.search(rf"^    {one}: ", text, flags=re.MULTILINE) for one in asked), asked
        assert "\nRaises:" in text or not asked


@EVERY
def test_its_example_runs(package: str, name: str, frameworks: None, worked: Path) -> None:
    examples = [
        test
        for test in doctest.DocTestFinder(recurse=False).find(
            public(package, name), name, globs={root.__name__: root for root in ROOTS}
        )
        if test.examples
    ]
    assert len(examples) == 1
    (example,) = examples
    assert all(not one.options.get(doctest.SKIP) for one in example.examples)
    said: list[str] = []
    ran = doctest.DocTestRunner().run(example, out=said.append)
    assert ran.failed == 0, "".join(said)
    assert ran.attempted == len(example.examples)


def test_an_example_that_is_wrong_is_seen() -> None:
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(example, out=lambda _: None).failed == 1


@pytest.fixture
def worked(
    request: pytest.FixtureRequest, tmp_path: Path, square_source: StateDict, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder that an example runs in: weights, images and the bundle of an audit, under the names of the docs."""
    save_safetensors(tmp_path / "my_mixer.safetensors", square_source)
    if request.node.callspec.params["package"] == "reports":
        made = request.getfixturevalue("made")
        shutil.copy(made / "tiny.tar.gz", tmp_path / "cifar10.tar.gz")
        shutil.copytree(made / "bundle", tmp_path / "bundle")
    (tmp_path / "README.md").write_text("# No checkpoint\n")
    monkeypatch.chdir(tmp_path)
    if request.node.callspec.params["name"] != "convert_file":  # whose example it is
        convert.convert_file("my_mixer.safetensors", "my_mixer.pdparams")
    return tmp_path


@pytest.mark.parametrize("package", ["convert", "align", "reports"])
def test_importing_a_package_imports_nothing(package: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", AT_IMPORT.format(package=package)], capture_output=True, text=True, check=True
    )
    assert {*run.stdout.split()} - {"__future__"} == {package}


@pytest.mark.parametrize("root", ROOTS)
def test_what_is_not_listed_is_not_there(root: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_this_name'"):
        root.nothing_of_this_name  # type: ignore[attr-defined]  # noqa: B018


USER = """
import align, convert, reports

def port(checkpoint: str) -> bool:
    manifest = convert.convert_file(checkpoint, "out.pdparams", src="timm")
    intact: bool = convert.verify_file("out.pdparams").intact
    result: align.AlignmentResult = align.align(object(), convert.load_paddle(checkpoint=checkpoint))
    share: float = reports.evaluate("a", "b", limit=3).accuracy.percent
    return bool(result) and intact and bool(manifest) and share > 0 and bool(reports.published_figures())
"""
WRONG = {
    'convert.convert_file("a", srcc="timm")': "call-arg",
    'convert.verify_file("a").intect': "attr-defined",
    "align.aling": "attr-defined",
    "convert.nothing": "attr-defined",
    "reports.evaluate(1, 'b')": "arg-type",
    "align.check(1)": "arg-type",
}


@pytest.mark.slow
def test_the_wheel_s_types_are_strict_enough(tmp_path: Path) -> None:
    """As mypy --strict sees them in a project of a user's, with the packages of the wheel."""
    site, project = tmp_path / "site", tmp_path / "project"
    project.mkdir()
    build = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site]
    source = tmp_path / "source"
    for name in ("convert", "align", "reports"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*build, source], check=True, capture_output=True)
    lines = USER.count("\n") + 1
    (project / "mypy.ini").write_text("[mypy]\n[mypy-torch.*,paddle.*]\nfollow_imports = skip\n")  # half the time
    (project / "user.py").write_text(USER + "".join(f"{line}\n" for line in WRONG))
    for name in ("convert", "align", "reports"):
        assert (site / name / "py.typed").is_file()
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        tmp_path / "c",
        "user.py",
    ]
    run = subprocess.run(
        mypy, cwd=project, env={**os.environ, "MYPYPATH": str(site)}, capture_output=True, text=True, check=False
    )
    found = re.findall(r"user\.py:(\d+): error: .*\[([\w-]+)\]", run.stdout)
    assert [(int(line) - lines, code) for line, code in found] == list(enumerate(WRONG.values())), run.stdout


def test_the_page_lists_every_name() -> None:
    listed = re.findall(r"^#### `(\w+)\.(\w+)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert listed == NAMES
