"""The bounds hold whichever kernels NumPy's matrix products run on: the numeric tests again, on the other ones.

OpenBLAS chooses its kernels by the processor, and each takes its sums in another order. Those that it chooses on the
machine at hand are what the rest of the suite runs on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = {"Haswell": "avx2", "SkylakeX": "avx512f"}
"""As OPENBLAS_CORETYPE has them, and the flag of a processor that can run them."""
MODULES = ("witness", "lockstep", "backward", "training", "reprod", "certificate", "trace", "gates")
"""Those whose figures come from the NumPy witness or from matrix products of NumPy's own."""
LEFT_OUT = "196_by_196 or b16 or Pictures or neither_torch_nor_timm or the_blocker_blocks or paddle_rounds_these"
"""What takes long, and has no product of NumPy's or is of the same kind as other tests."""
FAULTS = "a_faulty_file or a_faulty_model"
"""Which no rounding hides: test_align_selftest.py says how small one would have to be."""
TESTS = Path(__file__).parent
CPUINFO = Path("/proc/cpuinfo")
NAME = ("-c", "import openblas; print(openblas.kernel())")


def run(*arguments: object, **knobs: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"} | knobs
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def own() -> str:
    """The kernels that are chosen here."""
    return run(*NAME).stdout.strip() or pytest.skip("NumPy has no OpenBLAS here that tells its kernels")


@pytest.fixture(params=list(KERNELS))
def kernel(request: pytest.FixtureRequest, own: str) -> str:
    """Kernels that this processor can run."""
    name = str(request.param)
    flags = [line.split() for line in CPUINFO.read_text().splitlines() if line.startswith("flags")]
    if not flags or KERNELS[name] not in flags[0]:
        pytest.skip(f"{name}'s kernels need {KERNELS[name]}, which this processor does not have")
    return name


def test_the_kernels_are_those_asked_for(kernel: str) -> None:
    """What a process says of itself follows the variable, so that the next test cannot pass on other ones."""
    assert run(*NAME, OPENBLAS_CORETYPE=kernel).stdout.strip() == kernel


@pytest.mark.slow
def test_the_numeric_tests_pass_on_the_other_kernels(kernel: str, own: str) -> None:
    if kernel == own:
        pytest.skip(f"the rest of the suite runs on {own}'s kernels here")
    modules = [TESTS / f"test_align_{name}.py" for name in MODULES]
    options = ("-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", f"not ({LEFT_OUT} or {FAULTS})")
    done = run(TESTS / "openblas.py", *modules, *options, OPENBLAS_CORETYPE=kernel)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == kernel
