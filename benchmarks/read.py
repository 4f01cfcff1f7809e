"""Print how long the reader of .pdparams takes beside pickle.load, in turn: FILE [RUNS].

Make the file with: mixer-convert --variant b16_in21k --init random --out FILE. Once the arrays are only made, once
every byte of them is summed up: the reader hands out views of the mapped file, which cost nothing before they are used.
"""

import os
import pickle
import statistics
import sys
import time
import warnings
from pathlib import Path

from convert import files

RUNS = int(sys.argv[2]) if len(sys.argv) > 2 else 7


def by_pickle(path: Path) -> dict:
    """Return what unpickling gives, the table of names left out."""
    with path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = pickle.load(stream)
    content.pop("StructuredToParameterName@@", None)
    return content


def seconds(read, path: Path, *, touch: bool) -> float:
    """Return the wall seconds of one reading."""
    start = time.perf_counter()
    tensors = read(path)
    if touch:
        sum(float(array.sum()) for array in tensors.values())
    return time.perf_counter() - start


def row(name: str, pairs: list[tuple[float, float]]) -> str:
    """Return a Markdown row: the medians, and median, least and greatest of the pairs' ratios."""
    ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    figures = f"{ours:.3f} | {theirs:.3f} | {statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f}"
    return f"| {name} | {figures} |"


target = Path(sys.argv[1])
print(
    f"{target.stat().st_size / 1e6:.0f} MB, {RUNS} alternating pairs after a warm-up, load {os.getloadavg()[0]:.1f}\n"
)
print("| | convert.files.read, s | pickle.load, s | ratio | least | greatest |\n| --- | --- | --- | --- | --- | --- |")
for label, touched in (("made", False), ("made and summed up", True)):
    seconds(files.read, target, touch=touched), seconds(by_pickle, target, touch=touched)
    both = [
        (seconds(files.read, target, touch=touched), seconds(by_pickle, target, touch=touched)) for _ in range(RUNS)
    ]
    print(row(label, both))
