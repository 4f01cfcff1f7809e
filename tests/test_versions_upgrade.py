"""That a trace recorded with the installed Paddle is kept by others: the check before an upgrade, with no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import save_safetensors

import align.commands.cli
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import get_variant

pytestmark = pytest.mark.slow
PADDLES = ("3.2.2",)
"""But for the lowest, which test_versions_lowest.py installs, and tries the same with."""
RUN = """
import sys
import paddle
from align.commands.cli import main
try:
    main(sys.argv[1:])
finally:
    print("with", paddle.__version__, "torch" in sys.modules, "timm" in sys.modules)
"""
ANOTHER = "blocks.3.mlp_channels.fc1.weight"
Check = Callable[..., subprocess.CompletedProcess[str]]


def another_s32(path: Path) -> Path:
    """Write s32's seeded weights for Paddle, one of which is another."""
    config = get_variant("s32").config
    state_dict = dict(convert_state_dict(init_state_dict(config, 0), config).state_dict)
    state_dict[ANOTHER] = state_dict[ANOTHER].copy()
    state_dict[ANOTHER][0, 0] += 1
    return save_safetensors(path, state_dict)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory, frameworks: None) -> Path:
    out = tmp_path_factory.mktemp("trace") / "s32.trace"
    run = CliRunner().invoke(align.commands.cli.main, ["record", "--variant", "s32", "--out", str(out)])
    assert run.exit_code == 0, run.output
    return out


@pytest.fixture(scope="module", params=PADDLES)
def check(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Check:
    """`mixer-align check` by another Paddle, which lies in a folder of its own; skipped where pip cannot get it."""
    folder = tmp_path_factory.mktemp("paddle")
    wanted = f"paddlepaddle=={request.param}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    command += ["--target", str(folder), wanted]
    got = subprocess.run(command, capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"pip could not install {wanted}: {got.stderr.strip().splitlines()[-1:]}")

    def checked(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(folder), os.getenv("PYTHONPATH"))))
        command = [sys.executable, "-W", "ignore", "-c", RUN, "check", *map(str, arguments)]
        run = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        assert f"with {request.param} False False\n" in run.stdout, run.stderr
        return run

    return checked


def test_another_paddle_computes_the_same(check: Check, trace: Path) -> None:
    run = check("--trace", trace)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert "aligned: " in run.stdout


def test_a_planted_difference_is_seen(check: Check, trace: Path, tmp_path: Path) -> None:
    run = check("--trace", trace, "--candidate", another_s32(tmp_path / "w.safetensors"))
    assert run.returncode == 1, run.stdout[-2000:] + run.stderr[-2000:]
    assert "diverged" in run.stdout
    assert ANOTHER.removesuffix(".weight") in run.stdout
