"""That a package which is too old is refused in a sentence, and that a model is loaded or said not to be."""

from __future__ import annotations

import mmap
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import align.commands.cli
import convert
from align.mixer.models import build_paddle
from align.probes import knobs
from convert.arrays import StateDict
from convert.checks import installed
from convert.checks.installed import require
from convert.checks.loading import NotLoaded, load_into
from convert.errors import OldPackage
from convert.mixer.variants import MixerConfig
from reports.score import predictions

BOUNDS = {"torch": "torch>=2.10", "timm": "timm>=1.0.30", "paddlepaddle": "paddlepaddle>=3.1.1"}


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our requirements, whatever version of us is installed."""
    monkeypatch.setattr(installed, "_requirements", lambda: BOUNDS)


@pytest.fixture
def paddle_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: None) -> Iterator[Path]:
    """The version file of a stand-in for Paddle, which no distribution provides."""
    file = tmp_path / "paddle" / "version" / "__init__.py"
    file.parent.mkdir(parents=True)
    spec = SimpleNamespace(submodule_search_locations=[str(file.parent.parent)])
    monkeypatch.setattr(installed, "find_spec", lambda name: spec if name == "paddle" else find_spec(name))
    return file


class TestOld:
    def test_the_sentence_has_the_command_that_helps(self, bounds: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.metadata.version", lambda name: {"torch": "2.9.1+cu128"}.get(name, "99"))
        with pytest.raises(OldPackage) as raised:
            require("timm", "torch")
        assert str(raised.value) == (
            "torch 2.9.1+cu128 is too old for this, torch>=2.10 is needed. Run: pip install 'torch>=2.10'."
        )

    @pytest.mark.parametrize("said", ["3.0.0", "2.6.2", "3.1.0.post120", "3.1", "3"])
    def test_paddle_of_any_distribution(self, paddle_says: Path, said: str) -> None:
        paddle_says.write_text(f"full_version     = '{said}'\nmajor            = '3'\n")
        with pytest.raises(OldPackage, match=f"paddlepaddle {said} is too old.*A newer build of Paddle for your GPU"):
            convert.load_paddle("s32")
        run = CliRunner().invoke(align.commands.cli.main, ["--variant", "s32"])
        assert run.exit_code == 2
        assert f"paddlepaddle {said} is too old for this" in run.output

    @pytest.mark.parametrize("said", ["3.1.1", "3.1.1.post120", "3.3.1", "3.10.0", "4.0.0rc0", "0.0.0", "unknown"])
    def test_paddle_that_is_new_enough_or_does_not_say(self, paddle_says: Path, said: str) -> None:
        paddle_says.write_text(f"full_version     = '{said}'\n")
        require("paddle")

    def test_a_version_that_nothing_tells(self, paddle_says: Path) -> None:
        require("paddle")

    def test_releases_by_number(self) -> None:
        release = installed._release
        assert release("2.9") < release("2.10") < release("2.10.1") < release("10")
        assert release("2.10.0") == release("2.10")

    def test_every_bound_is_one_that_is_understood(self) -> None:
        wanted = installed._requirements()
        assert all(re.fullmatch(r"\w+>=\d+(\.\d+)*", wanted[package]) for package in installed.PACKAGES.values())


class Layer:
    """Stands in for a Paddle layer, whose `set_state_dict` never raises."""

    def __init__(self, answer: tuple[list[str], list[str]], warning: str = "") -> None:
        self.answer, self.warning = answer, warning

    def set_state_dict(self, tensors: dict[str, Any]) -> tuple[list[str], list[str]]:
        if self.warning:
            warnings.warn(self.warning, stacklevel=1)
        return self.answer


class TestLoading:
    @pytest.mark.parametrize(
        ("layer", "said"),
        [
            (Layer(([], ["a", "b"])), "2 unexpected, such as a"),
            (Layer((["c"], [])), "1 missing, such as c"),
            (Layer(([], []), "Skip loading for w. w receives a shape [1]"), "Skip loading for w"),
        ],
    )
    def test_what_paddle_leaves_out_is_said(self, layer: Layer, said: str) -> None:
        with pytest.raises(NotLoaded, match=said):
            load_into(layer, {})

    def test_what_it_loads(self) -> None:
        load_into(Layer(([], []), "something else"), {})

    def test_a_model_is_not_returned_unloaded(
        self, frameworks: None, config: MixerConfig, source: StateDict, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As Paddle 3.0.0 answers for a model under LazyGuard."""
        import paddle

        monkeypatch.setattr(paddle.nn.Layer, "set_state_dict", lambda self, tensors: ([], list(tensors)))
        with pytest.raises(NotLoaded, match=r"\(\d+ unexpected, such as "):
            build_paddle(config, source)


def test_no_option_is_stored_as_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy before 2.2 stores every keyword of `savez`."""
    stored: set[str] = set()
    monkeypatch.setattr(predictions.np, "savez", lambda file, **columns: stored.update(columns))
    predictions._as_npz({"label": np.zeros(3, np.int64)})
    assert stored == {"label"}


class TestThreads:
    @pytest.mark.parametrize(("asked", "found"), [("3", 3), ("5,2", 5), ("", 2), ("0", 2), ("many", 2)])
    def test_as_many_as_openmp_is_told_or_the_process_may_use(
        self, asked: str, found: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 7}, raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert knobs.cpus() == 2
        assert knobs.usual_threads() == found

    @pytest.mark.parametrize("first", ["align.probes.knobs", "paddle"])
    @pytest.mark.parametrize(("asked", "found"), [(None, knobs.cpus()), ("1", 1)])
    def test_what_paddle_puts_there_nobody_asked_for(self, first: str, asked: str | None, found: int) -> None:
        """Its import sets OMP_NUM_THREADS to 1 where it is not set: everything would compute on one core."""
        code = f"import {first}, paddle; from align.probes.knobs import usual_threads; print(usual_threads())"
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        environment |= {} if asked is None else {"OMP_NUM_THREADS": asked}
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert run.stdout == f"{found}\n"

    def test_a_result_mentions_what_limits_the_instructions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from align.probes.environment import environment

        names = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")
        for name in names:
            monkeypatch.setenv(name, "x")
        assert dict.fromkeys(names, "x").items() <= environment()["knobs"].items()


TAKEN_AND_FREED = """
from resource import RUSAGE_SELF, getrusage
from align.probes.heap import keep_freed_memory

keep_freed_memory()
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(20):
    layers = [bytearray(24 << 20) for _ in range(4)]
    del layers
print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""
"""Takes and frees 1.9 GB, 96 MB of it at a time, and prints how many pages the system gave for it."""


@pytest.mark.skipif(sys.platform != "linux" or not platform.libc_ver()[0], reason="glibc alone can be told")
class TestFreedMemory:
    @pytest.fixture
    def bytes_given(self) -> Callable[..., int]:
        def run(**given: str) -> int:
            unset = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
            command = [sys.executable, "-c", TAKEN_AND_FREED]
            done = subprocess.run(command, env=unset | given, capture_output=True, text=True, check=True)
            return int(done.stdout) * mmap.PAGESIZE

        return run

    def test_it_is_kept_for_what_is_taken_next(self, bytes_given: Callable[..., int]) -> None:
        assert bytes_given() < 2 * 96e6

    @pytest.mark.parametrize(
        "said", [{"MALLOC_TRIM_THRESHOLD_": "0"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=0"}]
    )
    def test_what_the_user_says_stands(self, bytes_given: Callable[..., int], said: dict[str, str]) -> None:
        assert bytes_given(**said) > 1e9
