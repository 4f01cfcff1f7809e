"""The engines that turn images into logits, all called alike: Paddle's predictor with oneDNN, Paddle eager, timm."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from align.mixer.models import build_paddle, build_timm
from align.probes.knobs import cpus, usual_threads
from convert.arrays import Array, StateDict
from convert.errors import MixerConvertError, UsageProblem
from convert.mixer.variants import MixerConfig
from reports.score.bfloat16 import (
    AGREEMENT_RTOL,
    INSTEAD,
    NotInBfloat16,
    ask_for_bfloat16,
    check_program,
    saying_what_fails,
)
from reports.score.devices import move_to
from reports.score.records import AGREEMENT_ATOL, EngineName, Precision

Engine = Callable[[Array], Array]
"""A function that returns logits (n, classes) float32 of normalised images (n, 3, image_size, image_size) float32."""


MOST_WORKERS = 8
"""Most processes that make images by default: more would make them faster than memory takes them."""


class EngineDisagrees(MixerConvertError):
    """The predictor does not compute what the model does (exit 1): a failed gate."""

    exit_code = 1

    def __init__(self, found: float, bound: float, precision: Precision = "float32") -> None:
        asked = "--engine inference" if precision == "float32" else f"--precision {precision}"
        super().__init__(
            f"{asked}: on the first batch its logits lie {found:.1e} from eager's, more than {bound:.1e}. "
            f"{'Pass --engine eager.' if precision == 'float32' else INSTEAD}"
        )


def usual_workers(device: str, processes: int) -> int:
    """Return how many processes make images by default for each one that runs the model: its cores less one.

    On a CPU that is none: the matrix products use every core, and take far longer than the images.
    """
    spare = 0 if device == "cpu" else cpus() // processes - 1
    return max(0, min(MOST_WORKERS, spare))


def choose_engine(asked: str, device: str) -> EngineName:
    """Return the engine asked for on a device; `auto` stands for the predictor on the CPU, and for eager elsewhere.

    Raises:
        UsageProblem: The predictor was asked for on a device other than the CPU.
    """
    if asked == "inference" and device != "cpu":
        raise UsageProblem(f"--engine inference: it runs on cpu, not on {device}. Pass --engine eager.")
    if asked == "auto":
        return "inference" if device == "cpu" else "eager"
    return "inference" if asked == "inference" else "eager"


def eager(config: MixerConfig, state_dict: StateDict, device: str = "cpu") -> Engine:
    """Return an engine that runs the Paddle model eagerly on a device (`cpu`, `gpu`, `gpu:1`).

    Raises:
        UsageProblem: There is no such device.
    """
    model = build_paddle(config, state_dict)
    import paddle

    move_to(device, model)

    def logits(images: Array) -> Array:
        with paddle.no_grad():
            return np.asarray(model(paddle.to_tensor(images)).numpy())

    return logits


def inference(config: MixerConfig, state_dict: StateDict, precision: Precision = "float32") -> Engine:
    """Return Paddle's inference predictor with oneDNN, on all CPUs, running a program exported from the model.

    Raises:
        NotInBfloat16: It was asked for bfloat16, and computes something else.
    """
    model = build_paddle(config, state_dict)
    import paddle
    from paddle import inference as paddle_inference

    shape = [None, config.in_chans, config.image_size, config.image_size]
    with tempfile.TemporaryDirectory(prefix="mixer-report-") as folder, _quiet(1, 2):
        stem = str(Path(folder) / "model")
        spec = paddle.static.InputSpec(shape, "float32", "images")
        paddle.jit.save(model, stem, input_spec=[spec])
        settings = paddle_inference.Config(f"{stem}.json", f"{stem}.pdiparams")
        settings.disable_gpu()
        settings.disable_glog_info()
        (settings.enable_onednn if hasattr(settings, "enable_onednn") else settings.enable_mkldnn)()
        settings.set_cpu_math_library_num_threads(usual_threads())
        if precision == "bfloat16":
            ask_for_bfloat16(settings, Path(folder))
        predictor = paddle_inference.create_predictor(settings)
        if precision == "bfloat16":
            check_program(Path(folder))
    (source,) = (predictor.get_input_handle(name) for name in predictor.get_input_names())
    (target,) = (predictor.get_output_handle(name) for name in predictor.get_output_names())
    shapes: set[tuple[int, ...]] = set()

    def logits(images: Array) -> Array:
        source.reshape(images.shape)
        source.copy_from_cpu(images)
        talks = images.shape not in shapes  # Paddle prints messages when it meets a new shape
        with _quiet(1) if talks else contextlib.nullcontext(), saying_what_fails(precision):
            predictor.run()
        shapes.add(images.shape)
        return np.asarray(target.copy_to_cpu())

    return logits


def timm_eager(config: MixerConfig, state_dict: StateDict) -> Engine:
    """Return an engine that runs timm's own model eagerly with torch on the CPU.

    Args:
        config: Sizes and GELU.
        state_dict: The weights, in timm's layout, float32.
    """
    model: Any = build_timm(config, None, state_dict)
    import torch

    def logits(images: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(images)).numpy())

    return logits


def agreement(found: Array, expected: Array, precision: Precision = "float32") -> tuple[float, float]:
    """Return the largest difference between an engine's logits and eager's in float32, and the bound it has to keep.

    Raises:
        EngineDisagrees: It is over the bound, or not finite.
        NotInBfloat16: They agree as closely as only float32 does.
    """
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    largest = float(np.abs(expected).max())
    rounding = AGREEMENT_ATOL * max(1.0, largest)
    bound = rounding if precision == "float32" else AGREEMENT_RTOL * largest
    if precision == "bfloat16" and difference <= rounding:
        raise NotInBfloat16(f"its logits lie within {difference:.1e} of eager's, as float32's do")
    if not difference <= bound:
        raise EngineDisagrees(difference, bound, precision)
    return difference, bound


@contextlib.contextmanager
def _quiet(*outputs: int) -> Iterator[None]:
    """Keep messages that Paddle's C++ code prints out of these file descriptors; 1 (stdout) is for the result."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept: dict[int, int] = {}
    with contextlib.suppress(OSError):  # one that is closed need not be saved
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
