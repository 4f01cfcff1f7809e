"""What the comparison ran on: versions, processor, threads and the settings that change arithmetic."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from align.probes.knobs import KNOBS, cpus
from align.probes.turn import threads
from convert.evidence.manifest import versions

PADDLE_FLAGS = ("FLAGS_use_mkldnn", "FLAGS_use_onednn", "FLAGS_allow_tf32_cublas", "FLAGS_cudnn_deterministic")


def environment() -> dict[str, Any]:
    """Return the environment as plain data; only knobs that are set are listed."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": cpus(),
        "device": "cpu",
        "arithmetic": arithmetic(),
        "knobs": {knob: os.environ[knob] for knob in KNOBS if knob in os.environ},
    }


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Run the body in the default modes: no autocast, gradients on, no lazy values; the modes before are restored."""
    with contextlib.ExitStack() as modes:
        for name, enter in (("torch", _ordinary_torch), ("paddle", _ordinary_paddle)):
            if name in sys.modules:
                enter(modes)
        yield


def arithmetic() -> dict[str, dict[str, Any]]:
    """Return what the loaded frameworks compute with: threads, TF32, oneDNN, determinism; none is loaded for it."""
    states = {"torch": _torch_state, "paddle": _paddle_state}
    return {name: state() for name, state in states.items() if name in sys.modules}


def _ordinary_torch(modes: contextlib.ExitStack) -> None:
    import torch

    for mode in (torch.inference_mode(mode=False), torch.enable_grad(), torch.autocast("cpu", enabled=False)):
        modes.enter_context(mode)


def _ordinary_paddle(modes: contextlib.ExitStack) -> None:
    import paddle
    from paddle.nn.initializer.lazy_init import lazy_init_helper

    if not paddle.in_dynamic_mode():  # static mode, which the check of a model refuses
        return
    modes.enter_context(paddle.enable_grad())  # its autocast has no effect on the CPU (paddlepaddle 3.3.1)
    lazy = lazy_init_helper()  # type: ignore[no-untyped-call]
    if lazy.state:
        lazy.disable()
        modes.callback(lazy.enable)


def _torch_state() -> dict[str, Any]:
    import torch

    return {
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "onednn": torch.backends.mkldnn.enabled,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _paddle_state() -> dict[str, Any]:
    """Return Paddle's state; flags that this build lacks, such as those for GPUs on a CPU wheel, are left out."""
    import paddle

    flags: dict[str, Any] = {}
    for flag in PADDLE_FLAGS:
        with contextlib.suppress(ValueError):
            flags |= paddle.get_flags(flag)
    return {"threads": threads(), **flags}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
