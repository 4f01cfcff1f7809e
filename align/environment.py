"""What the comparison ran on: versions, processor, threads and the settings that change arithmetic."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from convert.manifest import versions

KNOBS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE", "NVIDIA_TF32_OVERRIDE")


def environment() -> dict[str, Any]:
    """Return it as plain data. Only knobs that are set are listed."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "device": "cpu",
        "knobs": {knob: os.environ[knob] for knob in KNOBS if knob in os.environ},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
