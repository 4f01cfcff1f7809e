"""How the libraries compute: environment variables, read when a library is first imported, and the import itself."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

THREADS = "OMP_NUM_THREADS"
KNOBS = (
    THREADS,
    "MKL_NUM_THREADS",
    "MKL_DEBUG_CPU_TYPE",
    "KMP_BLOCKTIME",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_THREAD_TIMEOUT",
    "NVIDIA_TF32_OVERRIDE",
)
"""Environment variables that a result mentions if they are set."""
BEFORE_PADDLE = None if "paddle" in sys.modules else os.environ.get(THREADS, "")
"""The value of THREADS before Paddle's import, which sets an unset one to 1; None if Paddle was already imported."""


def compute_quickly() -> None:
    """Make idle threads sleep, and Paddle's matrix products use AVX2 on AMD too; what the user set is left alone.

    Several libraries compute in turn here. NumPy's OpenBLAS keeps its threads spinning after each product (a sixth of
    the processor time of `mixer-align --variant b16_in21k`, by perf, NumPy 2.4.6 on 2 cores), and Intel's OpenMP for
    0.2 s, while another library could compute. Within a product OpenBLAS's threads wait for each other whenever both
    frameworks use the cores, so it gets half of them. Paddle's MKL uses AVX2 on Intel only (benchmarks/train_step.py).
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, cpus() // 2)))
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    if "paddle" not in sys.modules and _is_amd_with_avx2():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_threads() -> int:
    """Return how many threads a framework should use: the first number in OMP_NUM_THREADS, else one per CPU.

    A 1 of Paddle's own does not count: on import it sets an unset variable to 1 (paddle/base/__init__.py of 3.3.1).
    """
    asked = os.environ.get(THREADS, "")
    if asked == "1" and "paddle" in sys.modules:
        asked = _at_the_start(THREADS) if BEFORE_PADDLE is None else BEFORE_PADDLE
    asked = asked.partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) else cpus()


def forbid_tf32() -> None:
    """Keep GPU libraries from rounding float32 to TF32, unless the user set it; works only before either import."""
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


@contextlib.contextmanager
def importing_frameworks() -> Iterator[None]:
    """Run imports in the body without warnings or garbage collection; later collections skip what exists by then.

    The frameworks' modules stay. Searching them for garbage takes a sixth of the time of importing them (5.4 s instead
    of 6.4 s of processor time; torch 2.14.1, timm 1.0.31, paddlepaddle 3.3.1), and 1.4 s once more afterwards.
    """
    collects, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if collects:
            gc.enable()


@contextlib.contextmanager
def torch_imported_meanwhile() -> Iterator[None]:
    """Import torch and timm in a thread while the body runs, which may draw weights, for example.

    An import that fails does so again in the caller, where it is needed. Paddle has to be imported by the thread that
    uses it: its switch to dynamic mode applies to that thread only (paddlepaddle 3.3.1).
    """

    def load() -> None:
        with contextlib.suppress(ImportError), importing_frameworks():
            import timm  # noqa: F401

    if "timm" in sys.modules:
        yield
        return
    thread = Thread(target=load)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _at_the_start(name: str, environment: Path = Path("/proc/self/environ")) -> str:
    """Return the value of a variable when this process started; empty if that is not known."""
    text = environment.read_text(errors="replace") if environment.exists() else ""
    return next((line.partition("=")[2] for line in text.split("\0") if line.startswith(f"{name}=")), "")


def _is_amd_with_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor is AMD's and has AVX2; MKL would meet an illegal instruction without it."""
    text = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""
    return "AuthenticAMD" in text and " avx2 " in text
