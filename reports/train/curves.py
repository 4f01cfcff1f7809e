"""The curves of a run as a picture: loss, share of right answers and learning rate over the steps."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np

from convert.arrays import Array
from convert.disk.atomic import write_atomically

WINDOW = 25
"""Steps over which the bold line is the mean."""


def write_curves(path: Path, entries: list[dict[str, Any]], title: str) -> None:
    """Write the curves as a PNG, whole or not at all.

    Args:
        path: Where to write it.
        entries: The lines of the log; at least one.
        title: The picture's title.

    Raises:
        IOProblem: The disk refused.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = np.array([entry["step"] for entry in entries])
    series = {
        "loss": np.array([entry["loss"] for entry in entries]),
        "right, %": np.array([100 * entry["correct"] / entry["images"] for entry in entries]),
        "learning rate": np.array([entry["lr"] for entry in entries]),
    }
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # with Paddle imported it would report on its font cache
    figure = Figure(figsize=(8, 8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (label, values) in zip(figure.subplots(3, sharex=True), series.items(), strict=True):
        noisy = label != "learning rate"
        axes.plot(steps, values, color="tab:blue", alpha=0.35 if noisy else 1.0, linewidth=1)
        if noisy:
            axes.plot(steps, running_mean(values, WINDOW), color="tab:blue", linewidth=2)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    axes.set_xlabel(f"step (bold: mean of {WINDOW} steps)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_atomically(path, lambda stream: _write(stream, buffer.getvalue()))


def running_mean(values: Array, window: int) -> Array:
    """Return, for each value (n,), the mean of it and of the window - 1 before it, or of as many as there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    stops = np.arange(1, len(values) + 1)
    starts = np.maximum(stops - window, 0)
    return np.asarray((sums[stops] - sums[starts]) / (stops - starts))


def _write(stream: Any, data: bytes) -> None:
    stream.write(data)
