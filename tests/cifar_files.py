"""Small CIFAR-10 archives, written as the canonical ones are: by Python 2's pickler, opcode by opcode."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert.arrays import Array
from reports.rehearsal.python2 import pickled

TEST, META, FOLDER = "test_batch", "batches.meta", "cifar-10-batches-py"


def batch(rows: Array, labels: list[int], label: str = "testing batch 1 of 1") -> dict[str, object]:
    names = [f"image_{i}.png" for i in range(len(labels))]
    return {"batch_label": label, "labels": labels, "data": rows, "filenames": names}


def images(count: int, seed: int = 0) -> tuple[Array, list[int]]:
    """Return rows (count, 3072) uint8 and labels."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
    return rows, generator.integers(0, 10, count).tolist()


def python_files(count: int = 12) -> dict[str, bytes]:
    """Return the files of a tiny archive: its test batch, one that is for training, and the meta file."""
    return {
        TEST: pickled(batch(*images(count))),
        "data_batch_1": pickled(batch(*images(count, 1), "training batch 1 of 5")),
        META: pickled({"num_cases_per_batch": count, "label_names": ["airplane"], "num_vis": 3072}),
    }


def whole_archive(path: Path, count: int = 12) -> Path:
    """Write an archive of a test batch and the five that are for training, of so many images each."""
    files = python_files(count)
    for i in range(1, 6):
        files[f"data_batch_{i}"] = pickled(batch(*images(count, i), f"training batch {i} of 5"))
    return write_archive(path, files)


def write_archive(path: Path, files: Mapping[str, bytes], folder: str = FOLDER) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path
