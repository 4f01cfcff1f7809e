"""The engines that turn images into logits: Paddle's predictor with oneDNN, Paddle eager, timm; same call, one each."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from align import paddle_probe, torch_probe
from convert.arrays import Array, StateDict
from convert.errors import MixerConvertError, UsageProblem
from convert.variants import MixerConfig

EngineName = Literal["inference", "eager"]
Engine = Callable[[Array], Array]
"""Returns logits (n, classes) float32 of normalised images (n, 3, image_size, image_size) float32."""

AGREEMENT_ATOL = 1e-5
"""Bound on how far the predictor's logits may lie from eager's, per unit of the largest logit (and at least one)."""


class EngineDisagrees(MixerConvertError):
    """The predictor does not compute what the model does (exit 1): a failed gate."""

    exit_code = 1

    def __init__(self, found: float, bound: float) -> None:
        super().__init__(
            f"--engine inference: on the first batch its logits lie {found:.1e} from eager's, more than {bound:.1e}. "
            "Pass --engine eager."
        )


def cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_engine(asked: str, device: str) -> EngineName:
    """Return the engine that `auto` stands for on a device: the predictor on CPU, eager elsewhere.

    Raises:
        UsageProblem: The predictor was asked for on another device than the CPU.
    """
    if asked == "inference" and device != "cpu":
        raise UsageProblem(f"--engine inference: it runs on cpu, not on {device}. Pass --engine eager.")
    if asked == "auto":
        return "inference" if device == "cpu" else "eager"
    return "inference" if asked == "inference" else "eager"


def eager(config: MixerConfig, state_dict: StateDict, device: str = "cpu") -> Engine:
    """Return the Paddle model, run as it is, on a device (`cpu`, `gpu`, `gpu:1`).

    Raises:
        UsageProblem: There is no such device.
    """
    model = paddle_probe.build(config, state_dict)
    import paddle

    if device != "cpu":
        try:
            paddle.device.set_device(device)
            model.to(device=device)
        except (ValueError, RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise UsageProblem(f"--device {device}: Paddle cannot use it ({reason}). Pass --device cpu.") from error

    def logits(images: Array) -> Array:
        with paddle.no_grad():
            return np.asarray(model(paddle.to_tensor(images)).numpy())

    return logits


def inference(config: MixerConfig, state_dict: StateDict) -> Engine:
    """Return Paddle's inference predictor with oneDNN, on all CPUs; the program it runs is exported from the model."""
    model = paddle_probe.build(config, state_dict)
    import paddle
    from paddle import inference as paddle_inference

    from convert import paddle_mixer

    shape = [None, config.in_chans, config.image_size, config.image_size]
    with tempfile.TemporaryDirectory(prefix="mixer-report-") as folder, _quiet(1, 2):
        stem = str(Path(folder) / "model")
        paddle.jit.ignore_module([paddle_mixer])  # its forward takes a function, which source-to-source export cannot
        spec = paddle.static.InputSpec(shape, "float32", "images")
        paddle.jit.save(paddle.nn.Sequential(model), stem, input_spec=[spec])
        settings = paddle_inference.Config(f"{stem}.json", f"{stem}.pdiparams")
        settings.disable_gpu()
        settings.disable_glog_info()
        (settings.enable_onednn if hasattr(settings, "enable_onednn") else settings.enable_mkldnn)()
        settings.set_cpu_math_library_num_threads(cpus())
        predictor = paddle_inference.create_predictor(settings)
    (source,) = (predictor.get_input_handle(name) for name in predictor.get_input_names())
    (target,) = (predictor.get_output_handle(name) for name in predictor.get_output_names())
    shapes: set[tuple[int, ...]] = set()

    def logits(images: Array) -> Array:
        source.reshape(images.shape)
        source.copy_from_cpu(images)
        with contextlib.nullcontext() if images.shape in shapes else _quiet(1):  # it talks when it meets a new shape
            predictor.run()
        shapes.add(images.shape)
        return np.asarray(target.copy_to_cpu())

    return logits


def timm_eager(config: MixerConfig, state_dict: StateDict) -> Engine:
    """Return timm's own model, run eagerly by torch on the CPU.

    Args:
        config: Sizes and GELU.
        state_dict: timm's layout, float32.
    """
    model: Any = torch_probe.build(config, None, state_dict)
    import torch

    def logits(images: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(images)).numpy())

    return logits


def agreement(found: Array, expected: Array) -> tuple[float, float]:
    """Return the largest difference between two engines' logits, and the bound it has to keep.

    Raises:
        EngineDisagrees: It is over the bound, or not finite.
    """
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    bound = AGREEMENT_ATOL * max(1.0, float(np.abs(expected).max()))
    if not difference <= bound:
        raise EngineDisagrees(difference, bound)
    return difference, bound


@contextlib.contextmanager
def _quiet(*outputs: int) -> Iterator[None]:
    """Keep the notes that Paddle's C++ code writes out of these file descriptors; 1 belongs to the result."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept: dict[int, int] = {}
    with contextlib.suppress(OSError):  # one that is closed needs no keeping
        for output in outputs:
            kept[output] = os.dup(output)
    with Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for output in kept:
            os.dup2(nowhere.fileno(), output)
        try:
            yield
        finally:
            for output, copy in kept.items():
                os.dup2(copy, output)
                os.close(copy)
