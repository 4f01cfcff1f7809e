"""Activations are compared as they come and let go: the weights alone decide how much memory the gate needs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED_OUT

from align.core.lockstep import Tap
from align.core.point import Tapped
from align.core.probe import Forward
from align.mixer.case import Subject, case_of
from align.probes import torch_probe
from align.run import align
from convert.arrays import Array, StateDict
from convert.mixer.shapes import parameter_count
from convert.mixer.variants import MixerConfig, get_variant

pytestmark = pytest.mark.usefixtures("frameworks")

COMMAND = """
import sys
from importlib import import_module
from pathlib import Path
from align.commands.cli import main

def status(name):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])

modules, arguments = {modules!r}, {arguments!r}
for module in modules:
    import_module(module)
before = status("VmRSS") if modules else 0
main([*arguments, "--json", "report.json"], standalone_mode=False)
print("peak", status("VmHWM") - before)
"""
RESNET50 = (
    *("--reference-model", "torchvision.models:resnet50", "--candidate-model", "paddle.vision.models:resnet50"),
    *("--input-shape", "3,224,224"),
)
RESNET50_WEIGHTS = 25_610_152
"""Parameters and running statistics; He et al., "Deep Residual Learning for Image Recognition", table 1."""


def peak_of(folder: Path, arguments: tuple[str, ...], modules: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Return the peak of a process that aligns, above what it takes to import these modules, and what it reports."""
    root, command = str(Path(__file__).parents[1]), COMMAND.format(modules=modules, arguments=arguments)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {root!r}){command}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in SHARED_OUT},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    data = json.loads((folder / "report.json").read_text())
    assert data["verdict"] == "aligned"
    return int(run.stdout.split()[-1]), data


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_l32_takes_three_float64_copies_and_half_a_gigabyte_beside_its_imports(tmp_path: Path) -> None:
    """In a process of its own, at the default batch; the peak of that process, not of what it was forked from."""
    peak, data = peak_of(tmp_path, ("--variant", "mixer_l32_224"), ("torch", "timm", "paddle"))
    assert all(layer["float64"]["introduced"]["max_abs_diff"] < 1e-12 for layer in data["layers"])
    float64_copy = 8 * parameter_count(get_variant("mixer_l32_224").config)
    print(f"peak RSS above the imports {peak / 1e9:.2f} GB, three copies are {3 * float64_copy / 1e9:.2f}")
    assert peak <= 3 * float64_copy + 0.5e9


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_resnet50_takes_three_float64_copies_and_a_gigabyte_beside_its_imports(tmp_path: Path) -> None:
    """Those of torch, torchvision and Paddle, which alone take more than a gigabyte; at 224 by 224 pixels."""
    pytest.importorskip("torchvision")
    peak, _ = peak_of(tmp_path, RESNET50, ("torch", "torchvision", "paddle"))
    print(f"peak RSS above the imports {peak / 1e9:.2f} GB")
    assert peak <= 3 * 8 * RESNET50_WEIGHTS + 1e9


class Kept:
    """Weak references to what a side showed, and the greatest number of arrays that were alive at once."""

    def __init__(self) -> None:
        self.shown: list[weakref.ref[Array]] = []
        self.most = 0

    def note(self, value: Array) -> None:
        self.shown.append(weakref.ref(value))
        self.most = max(self.most, sum(reference() is not None for reference in self.shown))


def test_no_side_s_activations_are_kept(
    config: MixerConfig, source: StateDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of the reference go side by side, each with the point compared and at most the one to come.

    One point more is kept for the run on a single thread.
    """
    kept = Kept()
    tapped = torch_probe.tapped

    @contextlib.contextmanager
    def noting(model: Any, points: Mapping[str, Tapped]) -> Iterator[Forward]:
        def noted(run: Forward, images: Array, tap: Tap) -> Any:
            def note(name: str, value: Array) -> Array | None:
                kept.note(value)
                return tap(name, value)

            return run(images, note)

        with tapped(model, points) as run:
            yield partial(noted, run)

    monkeypatch.setattr(torch_probe, "tapped", noting)
    case = case_of(Subject(source=source, config=config, name="small"))
    assert align(case).verdict == "aligned"
    assert len(kept.shown) >= 3 * len(case.points)
    assert kept.most <= 2 * 2 + 1
