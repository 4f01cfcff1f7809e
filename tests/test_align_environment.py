"""Whatever the process around has set, a right port is aligned and a wrong one is not, and it stays set."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from strangers import TIMM_NAMES, timm_model, timm_weights

import align
from align.probes.environment import environment, ordinary
from convert.arrays import StateDict

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def weights() -> StateDict:
    return timm_weights(0)


@pytest.fixture(scope="module")
def reference(weights: StateDict, one_thread: None) -> Any:
    return timm_model(weights)


@contextlib.contextmanager
def changed(set_to: Callable[[Any], object], value: Any, usual: Any) -> Iterator[None]:
    set_to(value)
    try:
        yield
    finally:
        set_to(usual)


def paddle_dtype(dtype: str) -> AbstractContextManager[None]:
    import paddle

    return changed(paddle.set_default_dtype, dtype, "float32")


def torch_dtype() -> AbstractContextManager[None]:
    import torch

    return changed(torch.set_default_dtype, torch.float64, torch.float32)


def torch_on_meta() -> AbstractContextManager[None]:
    import torch

    return changed(torch.set_default_device, "meta", None)


def deterministic() -> AbstractContextManager[None]:
    import torch

    return changed(torch.use_deterministic_algorithms, True, False)


def lazy() -> Any:
    import paddle

    return paddle.LazyGuard()


@contextlib.contextmanager
def paddle_autocast() -> Iterator[None]:
    import paddle

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it has no effect on the CPU
        guard = paddle.amp.auto_cast(dtype="bfloat16")
        guard.__enter__()
    try:
        yield
    finally:
        guard.__exit__(None, None, None)


def torch_autocast() -> Any:
    import torch

    return torch.autocast("cpu")


def without_torch_s_gradients() -> Any:
    import torch

    return torch.inference_mode()


def without_paddle_s_gradients() -> Any:
    import paddle

    return paddle.no_grad()


ENVIRONMENTS = {
    "Paddle in float64": lambda: paddle_dtype("float64"),
    "Paddle in float16": lambda: paddle_dtype("float16"),
    "torch in float64": torch_dtype,
    "torch on meta": torch_on_meta,
    "deterministic": deterministic,
    "LazyGuard": lazy,
    "Paddle's autocast": paddle_autocast,
    "torch's autocast": torch_autocast,
    "torch's inference mode": without_torch_s_gradients,
    "Paddle's no_grad": without_paddle_s_gradients,
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_in_any_environment(reference: Any, weights: StateDict, environment: Callable[[], Any]) -> None:
    right, wrong = TIMM_NAMES.build(weights), TIMM_NAMES.build(weights, mistake="epsilon")
    with environment():
        assert align.align(reference, right, backward=True, train_steps=1).verdict == "aligned"
        assert align.align(reference, wrong).verdict == "diverged"


def test_the_environment_stays_as_it_was() -> None:
    import paddle
    import torch
    from paddle.nn.initializer.lazy_init import lazy_init_helper

    with paddle.LazyGuard(), paddle.no_grad(), torch.inference_mode(), torch.autocast("cpu"):
        with ordinary():
            assert not lazy_init_helper().state
            assert paddle.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_autocast_enabled("cpu")
        assert lazy_init_helper().state
        assert not paddle.is_grad_enabled()
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")


def test_several_models_in_threads(weights: StateDict) -> None:
    """None of the threads is the main one; each has models of its own, the wrong ones beside the right ones."""
    verdicts: dict[int, str] = {}

    def run(number: int) -> None:
        layer = TIMM_NAMES.build(weights, mistake="epsilon") if number % 2 else TIMM_NAMES.build(weights)
        verdicts[number] = align.align(timm_model(weights), layer).verdict

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert verdicts == {0: "aligned", 1: "diverged", 2: "aligned", 3: "diverged"}


FORKED = """
import os, signal, threading
import align
from align.probes import turn
from strangers import TIMM_NAMES, timm_model, timm_weights
import paddle, torch
weights = timm_weights(0)
models = timm_model(weights), TIMM_NAMES.build(weights)
torch.set_num_threads(2)
assert align.align(*models).verdict == "aligned"
torch.nn.functional.gelu(torch.randn(4, 1000, 1000))  # large enough for more than one thread
paddle.randn([800, 800]) @ paddle.randn([800, 800])
held, done = threading.Event(), threading.Event()

def hold():
    with turn.taken():
        held.set()
        done.wait()

def fork(name):
    child = os.fork()
    if not child:
        signal.alarm(50)  # it would wait for ever, and be left behind
        verdict = align.align(*models, backward=True).verdict
        torch.nn.functional.gelu(torch.randn(4, 1000, 1000))
        print(name, verdict, flush=True)
        os._exit(0)
    return child

def ended(child):
    assert os.waitpid(child, 0)[1] == 0

ended(fork("free"))
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = fork("held")
done.set()
ended(child)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_in_a_forked_process() -> None:
    """Threads of OpenMP, and the one that holds the turn, are not in the child, which must not wait for them."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]), "OMP_NUM_THREADS": "2"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines() == ["free aligned", "held aligned"]


@pytest.mark.parametrize("knob", ["ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"])
def test_what_limits_the_instructions_is_recorded(knob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(knob, "AVX2")
    assert environment()["knobs"][knob] == "AVX2"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity here")
def test_cpus_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert environment()["cpus"] == 3
