"""Print how long the .pdparams reader takes relative to pickle.load, in turn, on a b16_in21k with seeded weights.

It is measured once with the arrays only made and once with every element summed: the reader returns views of the
mapped file, which cost nothing until they are used.

Usage: read.py [RUNS]
"""

import pickle
import sys
import tempfile
import time
import warnings
from pathlib import Path

import timing

from convert import files

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 9


def by_pickle(path: Path) -> dict:
    """Return what unpickling returns, without the table of names."""
    with path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = pickle.load(stream)
    content.pop("StructuredToParameterName@@", None)
    return content


def seconds(read, path: Path, *, touch: bool) -> float:
    """Return the wall-clock seconds of one read."""
    start = time.perf_counter()
    tensors = read(path)
    if touch:
        sum(float(array.sum()) for array in tensors.values())
    return time.perf_counter() - start


def ratio(path: Path, what: str, *, touch: bool) -> timing.Ratio:
    """Return the ratio of both readers, one pair of reads per round after a warm-up."""
    readers = (files.read, by_pickle)
    pairs = [[seconds(read, path, touch=touch) for read in readers] for _ in range(RUNS + 1)]
    ours, theirs = zip(*pairs[1:], strict=True)
    return timing.Ratio(what=f"{what}: reader / pickle.load", target="≤ 1.5", values=timing.over(ours, theirs))


with tempfile.TemporaryDirectory() as name:
    target = timing.seeded_weights(Path(name) / "b16.pdparams", "b16_in21k")
    ratios = [
        ratio(target, "b16_in21k.pdparams, arrays made", touch=False),
        ratio(target, "b16_in21k.pdparams, made and summed up", touch=True),
    ]
timing.report(ratios, f"{RUNS} alternating pairs after a warm-up")
