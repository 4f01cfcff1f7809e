"""What is not imported, proved in a process of its own; and the proof's own proof."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convert.arrays import StateDict

FRAMEWORKS = ("torch", "timm", "paddle")
MODULES_BEYOND_CLICK = 3
"""Now gc at most, and math where click has no need of it (Python 3.13)."""
BASELINE = """
import click, contextlib, io, pathlib, sys

@click.group()
@click.version_option("1")
@click.option("--file", type=click.Path(path_type=pathlib.Path), help="A file.")
def smallest(file): ...

@smallest.command()
def command(): ...

with contextlib.redirect_stdout(io.StringIO()):
    for option in ("--help", "--version"):
        smallest([option], standalone_mode=False)
before = set(sys.modules)
"""
"""What any command of click's imports to answer these options; how the project is installed has imported some of it."""
PROLOGUE = """
import sys
from click.testing import CliRunner
from {package}.cli import main
result = CliRunner().invoke(main, {arguments!r})
assert result.exit_code == 0, result.output
{epilogue}
print(sorted(set(sys.modules) & {unwanted!r}))
"""


def imported(
    arguments: list[str], unwanted: tuple[str, ...], epilogue: str = "", package: str = "convert.commands"
) -> str:
    """Return which of the unwanted modules a command imports, as the text of a list."""
    code = PROLOGUE.format(package=package, arguments=arguments, epilogue=epilogue, unwanted=set(unwanted))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("package", ["convert.commands", "align.commands", "reports.commands"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_imports_neither_frameworks_nor_numpy(package: str, option: str) -> None:
    assert imported([option], (*FRAMEWORKS, "numpy", "rich", "huggingface_hub"), package=package) == "[]"


def test_a_conversion_imports_no_framework(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out.pdparams")]
    assert imported(arguments, FRAMEWORKS) == "[]"


def test_a_conversion_by_a_pairing_file_imports_no_framework(
    checkpoint: Path, source: StateDict, tmp_path: Path
) -> None:
    entries = "".join(f'"{key}" = "{key}"\n' for key in source)
    pairing = tmp_path / "pairing.toml"
    pairing.write_text(f'schema = "mixer-align/pairing/1"\n[weights]\n{entries}')
    arguments = ["--pairing", str(pairing), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out.pdparams")]
    assert imported(arguments, FRAMEWORKS) == "[]"
    assert imported([*arguments, "--force"], FRAMEWORKS, epilogue="import torch") == "['torch']"


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_inspect_and_verify_import_no_framework(checkpoint: Path, command: str) -> None:
    arguments = [command, str(checkpoint), str(checkpoint)][: 2 if command == "inspect" else 3]
    assert imported(arguments, FRAMEWORKS) == "[]"


@pytest.mark.parametrize("arguments", [[name, "--help"] for name in ("audit", "evaluate", "published", "verify")])
def test_the_reports_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported(arguments, (*FRAMEWORKS, "numpy", "scipy", "PIL", "rich"), package="reports.commands") == "[]"


def test_the_published_figures_need_no_framework() -> None:
    assert imported(["published"], (*FRAMEWORKS, "scipy"), package="reports.commands") == "[]"


def test_the_proof_can_fail(checkpoint: Path, tmp_path: Path) -> None:
    """An import that slips in is seen."""
    arguments = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out.pdparams")]
    assert imported(arguments, FRAMEWORKS, epilogue="import torch") == "['torch']"


@pytest.mark.parametrize("package", ["convert.commands", "align.commands", "reports.commands"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_little_beyond_click(package: str, option: str) -> None:
    assert len(beyond_click(package, option)) <= MODULES_BEYOND_CLICK


@pytest.mark.parametrize("module", ["json", "importlib.metadata"])
def test_one_heavier_import_is_over_the_count(module: str) -> None:
    assert len(beyond_click("convert.commands", "--version", f"import {module}")) > MODULES_BEYOND_CLICK


def beyond_click(package: str, option: str, first: str = "") -> list[str]:
    """Return the modules that a command imports, but for the project's own and those of the smallest such command."""
    code = f"{BASELINE}{first}\nfrom {package}.cli import main\nmain([{option!r}], standalone_mode=False)\n"
    code += "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [name for name in run.stderr.split() if name.split(".")[0] not in ("click", "convert", "align", "reports")]
