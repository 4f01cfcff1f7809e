"""What an installation brings, what it leaves alone, and what is said where something is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

import align.commands.cli
import convert.commands.cli
import reports.commands.cli
from convert.checks.installed import PACKAGES, require
from convert.commands.command_line import OneSentence
from convert.errors import MissingPackage

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FRAMEWORKS = {"torch", "torchvision", "timm", "paddlepaddle", "jax", "flax"}
CORE_MEGABYTES = 150
STAND_IN = "whole = True\n"
STAND_IN_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "paddlepaddle-gpu"
version = "3.3.1"
[tool.hatch.build.targets.wheel]
packages = ["paddle"]
"""


def asked_for(*extras: str) -> set[str]:
    """The names of what pip would bring for these extras, through everything that is installed here."""
    seen: set[tuple[str, str]] = set()
    open_ = [Requirement(f"mixer-convert[{','.join(extras)}]")]
    while open_:
        requirement = open_.pop()
        new = [(requirement.name.lower(), extra) for extra in ("", *requirement.extras)]
        for name, extra in new:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                lines = requires(name) or []
            except PackageNotFoundError:  # for another platform
                continue
            wanted = [Requirement(line) for line in lines]
            open_ += [one for one in wanted if not one.marker or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


class TestRequirements:
    def test_a_conversion_needs_no_framework(self) -> None:
        assert not asked_for() & FRAMEWORKS
        assert {"numpy", "safetensors"} <= asked_for()

    @pytest.mark.parametrize("extra", ["align", "report"])
    def test_no_extra_that_gpu_users_need_puts_the_cpu_wheel_over_theirs(self, extra: str) -> None:
        assert "paddlepaddle" not in asked_for(extra)
        assert "paddlepaddle" in asked_for(extra, "paddle")

    def test_all_is_all(self) -> None:
        assert set(PACKAGES.values()) - {"flax", "jax"} <= asked_for("all")

    def test_every_package_that_can_be_missing_is_one_that_an_extra_brings(self) -> None:
        extras = PROJECT["project"]["optional-dependencies"]
        optional = {Requirement(line).name for name in extras if name not in ("dev", "docs") for line in extras[name]}
        assert set(PACKAGES.values()) == optional - {"mixer-convert"}


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The modules that cannot be found while the test runs; it fills the set."""
    gone: set[str] = set()
    monkeypatch.setattr("convert.checks.installed.find_spec", lambda name: None if name in gone else find_spec(name))
    monkeypatch.setattr("convert.checks.installed.sys", SimpleNamespace(modules={}))
    return gone


def commands(command: click.Command, path: str) -> Iterator[tuple[str, OneSentence]]:
    """Every command below this one, by what is typed."""
    if isinstance(command, OneSentence):
        yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


PROGRAMS = {
    "mixer-convert": convert.commands.cli.main,
    "mixer-align": align.commands.cli.main,
    "mixer-report": reports.commands.cli.main,
}
NEEDING = {
    path: (command, module)
    for program, main in PROGRAMS.items()
    for path, command in commands(main, program)
    for module in command.needs
}


class TestMissing:
    def test_the_sentence_has_the_command_that_helps(self, missing: set[str]) -> None:
        missing |= {"torch", "timm"}
        with pytest.raises(MissingPackage) as raised:
            require("torch", "timm", "numpy")
        lines = PROJECT["project"]["optional-dependencies"]["align"]
        wanted = [line for line in lines if Requirement(line).name in ("torch", "timm")]
        assert "torch and timm are needed for this and not installed" in str(raised.value)
        assert all(f"'{line}'" in str(raised.value) for line in wanted)

    def test_of_paddle_any_build_will_do(self, missing: set[str]) -> None:
        missing.add("paddle")
        with pytest.raises(MissingPackage, match="A build of Paddle for your GPU will do as well"):
            convert.load_paddle("s32")

    @pytest.mark.parametrize("path", NEEDING)
    def test_a_command_says_so_before_it_does_anything(self, path: str, missing: set[str]) -> None:
        command, module = NEEDING[path]
        missing.add(module)
        values = {"name": "audit"}
        arguments = [
            part
            for parameter in command.params
            if parameter.required
            for part in ([parameter.opts[0]] if isinstance(parameter, click.Option) else [])
            + [values.get(parameter.name or "", "nothing")]
        ]
        run = CliRunner().invoke(command, arguments)
        assert run.exit_code == 2, run.output
        assert f"{PACKAGES[module]} is needed for this and not installed" in run.output

    @pytest.mark.parametrize("module", ["torch", "paddle", "timm", "scipy"])
    def test_an_alignment_says_so_too(self, module: str, missing: set[str]) -> None:
        missing.add(module)
        run = CliRunner().invoke(align.commands.cli.main, ["--variant", "s32"])
        assert run.exit_code == 2, run.output
        assert f"{PACKAGES[module]} is needed for this and not installed" in run.output

    def test_so_is_one_that_nobody_thought_of(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def published() -> None:
            raise ModuleNotFoundError("No module named 'PIL'", name="PIL")

        run = CliRunner().invoke(OneSentence("published", callback=published))
        assert run.exit_code == 2
        assert "pillow is needed for this and not installed" in run.output

    def test_another_module_s_absence_is_a_defect(self) -> None:
        def broken() -> None:
            raise ModuleNotFoundError("No module named 'nothing'", name="nothing")

        assert CliRunner().invoke(OneSentence("broken", callback=broken)).exit_code == 70


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as somebody else would: not from the checkout, nor with its packages."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, the wheel made of it, and what building them said."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout, so what belongs to an sdist is not known")
    copy, dist = tmp_path_factory.mktemp("check out ü"), tmp_path_factory.mktemp("dist")
    listed = run("git", "-c", "core.quotePath=off", "ls-files", "-co", "--exclude-standard", cwd=ROOT)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    said = run(
        *(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, copy),
        cwd=dist,
        PYTHONDONTWRITEBYTECODE="",
    )
    assert said.returncode == 0, said.stdout + said.stderr
    (dist / "said").write_text(said.stdout + said.stderr)
    shutil.move(copy, dist / "source")
    return dist


def megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


@pytest.fixture(scope="module")
def core(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts' folder of an environment with the wheel alone, beside somebody's own build of Paddle."""
    place = tmp_path_factory.mktemp("an environment é") / "venv"
    venv.create(place, with_pip=True)
    bin_ = place / "bin"
    own = built / "own_build"
    (own / "paddle").mkdir(parents=True)
    (own / "paddle" / "__init__.py").write_text(STAND_IN)
    (own / "pyproject.toml").write_text(STAND_IN_PROJECT)
    (wheel,) = built.glob("*.whl")
    backend = Path(importlib.util.find_spec("hatchling").origin).parents[1]  # type: ignore[union-attr,arg-type]
    said = run(
        *(bin_ / "pip", "install", "-q", "--no-deps", "--no-build-isolation", own),
        cwd=built,
        PYTHONPATH=str(backend),
    )
    assert said.returncode == 0, said.stderr
    before = megabytes(place)
    said = run(bin_ / "pip", "install", "-q", wheel, cwd=built)
    if said.returncode:
        pytest.skip(f"pip has no package index here: {said.stderr.splitlines()[-1]}")
    (bin_ / "megabytes").write_text(str(megabytes(place) - before))
    return bin_


@pytest.mark.slow
class TestBuilt:
    def test_nothing_is_warned_of(self, built: Path) -> None:
        assert not re.search(r"\bwarning\b|deprecat", (built / "said").read_text(), re.IGNORECASE)

    def test_the_wheel_holds_every_file_of_the_packages(self, built: Path) -> None:
        (wheel,) = built.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        source = built / "source"
        there = {
            str(path.relative_to(source))
            for top in ("convert", "align", "reports")
            for path in source.glob(f"{top}/**/*")
        }
        assert packed == {name for name in there if (source / name).is_file()}

    def test_the_sdist_can_run_its_tests(self, built: Path, tmp_path: Path) -> None:
        (sdist,) = built.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(tmp_path, filter="data")
        (top,) = tmp_path.iterdir()
        tests = {path.name for path in (built / "source" / "tests").iterdir()}
        assert tests == {path.name for path in (top / "tests").iterdir()}
        some = ["tests/test_convert_mapping.py", "tests/test_reports_recipes.py"]
        said = run(sys.executable, "-m", "pytest", "-q", *some, cwd=top, PYTHONPATH=str(top))
        assert " passed" in said.stdout, said.stdout + said.stderr
        assert said.returncode == 0


@pytest.mark.slow
class TestInstalled:
    def test_somebody_s_own_build_of_paddle_is_left_alone(self, core: Path) -> None:
        said = run(core / "python", "-c", "import paddle; print(paddle.whole, paddle.__file__)", cwd=core)
        assert said.stdout.startswith("True"), said.stderr
        assert not list(core.parent.glob("lib/python*/site-packages/paddlepaddle-*"))
        assert list(core.parent.glob("lib/python*/site-packages/paddlepaddle_gpu-*"))

    def test_a_conversion_brings_no_framework_and_little_else(self, core: Path) -> None:
        said = run(core / "pip", "list", "--format", "freeze", cwd=core)
        brought = {line.partition("==")[0].lower() for line in said.stdout.splitlines()}
        assert "numpy" in brought
        assert not brought & (FRAMEWORKS | {"scipy"})
        assert float((core / "megabytes").read_text()) < CORE_MEGABYTES

    def test_it_converts_from_any_folder(self, core: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "ein Ordner für Gewichte"
        elsewhere.mkdir()
        out = elsewhere / "kleiner Mixer.pdparams"
        for command in (
            (core / "mixer-convert", "--variant", "s32", "--init", "random", "--out", out.name),
            (core / "mixer-convert", "verify", out.name),
            (core / "mixer-align", "schema"),
        ):
            said = run(*command, cwd=elsewhere)
            assert said.returncode == 0, said.stderr
        assert out.is_file()

    def test_a_missing_framework_is_one_sentence(self, core: Path, tmp_path: Path) -> None:
        said = run(core / "mixer-align", "--variant", "s32", cwd=tmp_path)
        assert said.returncode == 2
        assert said.stderr.startswith("Error: torch is needed for this and not installed. Run: pip install 'torch>=")
        assert len(said.stderr.splitlines()) == 1
