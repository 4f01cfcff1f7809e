"""Which devices Paddle can compute on, and what to do where it cannot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from align.probes import paddle_probe
from convert.errors import UsageProblem

if TYPE_CHECKING:
    from paddle.nn import Layer

INSTALL = "pip uninstall paddlepaddle && pip install paddlepaddle-gpu -i https://www.paddlepaddle.org.cn/packages/stable/cu126/"
"""Commands that replace Paddle by its build for GPUs, which is not on PyPI; cu126 stands for CUDA 12.6.

The other build has to go, since both are the module `paddle`.

Source: https://www.paddlepaddle.org.cn/en/install/quick.
"""


DEVICE = re.compile(r"([a-z_]+)(?::([0-9]{1,4}))?")
"""Names of devices, such as cpu, gpu, gpu:1 or intel_hpu:0: the kind, and the number if there is one."""


def check_device(device: str) -> None:
    """Check that Paddle can compute on a device: `cpu`, `gpu`, `gpu:N`, or one that a vendor's build adds.

    Raises:
        UsageProblem: It cannot; the text says what to install.
    """
    if device == "cpu":
        return
    named = DEVICE.fullmatch(device)
    paddle = paddle_probe.imported()
    if named is None or named[1] not in ("gpu", *paddle.device.get_all_custom_device_type()):
        raise UsageProblem(f"--device {device}: there is no such device. Pass cpu, gpu or gpu:N.")
    if named[1] != "gpu":
        return
    if not paddle.device.is_compiled_with_cuda():
        raise UsageProblem(
            f"--device {device}: the Paddle that is installed ({paddle.__version__}) is built for the CPU alone. "
            f"Install the one for your CUDA ({INSTALL}), or pass --device cpu."
        )
    count = paddle.device.cuda.device_count()
    if int(named[2] or 0) >= count:
        seen = f"{count} GPU(s), numbered from 0" if count else "no GPU; does nvidia-smi show one?"
        raise UsageProblem(f"--device {device}: Paddle sees {seen}. Pass another, or --device cpu.")


def move_to(device: str, model: Layer) -> None:
    """Move a model to a device, on which Paddle computes from then on.

    Raises:
        UsageProblem: Paddle cannot use it.
    """
    check_device(device)
    if device == "cpu":
        return
    import paddle

    try:
        paddle.device.set_device(device)
        model.to(device=device)
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UsageProblem(f"--device {device}: Paddle cannot use it ({reason}). Pass --device cpu.") from error
