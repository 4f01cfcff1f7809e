"""CIFAR-10 from the canonical archive, Python or binary version; nothing in it is ever executed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from convert.arrays import Array, tensor_sha256
from convert.errors import BadInput, IntegrityProblem, IOProblem
from convert.files.pickles.numpy_stand_ins import PendingArray, interpret_python2
from convert.files.pickles.pickle_values import Damaged, Refused
from reports.data.archive import GET_AGAIN, Files, read_files

Split = Literal["test", "train"]
Version = Literal["python", "binary"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 32
PIXELS = 3 * SIZE * SIZE
"""Bytes of an image: the planes red, green, blue, each row by row.

Source: https://www.cs.toronto.edu/~kriz/cifar.html.
"""
BATCH = 10_000
TEST_IMAGES = 10_000

STEMS: dict[Split, tuple[str, ...]] = {
    "test": ("test_batch",),
    "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
}
SUFFIX: dict[Version, str] = {"python": "", "binary": ".bin"}
META = "batches.meta"

ARCHIVE_SHA256: dict[Version, str] = {
    "python": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "binary": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
}
"""Sources: keras, keras/src/datasets/cifar10.py, `file_hash`; torchvision-ruby, lib/torchvision/datasets/cifar10.rb."""
FILE_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""Source: torchvision 0.29.1, torchvision/datasets/cifar.py, CIFAR10."""
FILE_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""Source: torchvision-ruby, lib/torchvision/datasets/cifar10.rb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where images came from. sha256 is the archive's (None: a folder); canonical: the published hashes match."""

    name: str
    split: Split
    version: Version
    sha256: str | None
    files: Mapping[str, str]
    images_sha256: str
    canonical: bool

    @property
    def said(self) -> str:
        """The origin in words."""
        return "the canonical archive" if self.canonical else "other archive"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cifar10:
    """Images (n, 32, 32, 3) uint8, labels (n,) int64 from 0 to 9, in the archive's order, and their origin."""

    images: Array
    labels: Array
    origin: Origin


def read_cifar10(path: Path, split: Split = "test") -> Cifar10:
    """Return a split of CIFAR-10 from the archive (.tar.gz) or from the folder it unpacks to.

    Raises:
        IOProblem: The path or a batch of the split does not exist.
        BadInput: A batch is of another split, its counts disagree, a label is out of range, or its pickle asks for
            anything but plain data.
        IntegrityProblem: The archive or a batch is truncated or altered.
    """
    known = [stem + suffix for stems in STEMS.values() for stem in stems for suffix in SUFFIX.values()]
    files = read_files(path, [*known, META])
    version: Version = "binary" if not set(files.content) & set(FILE_MD5) and set(files.content) - {META} else "python"
    names = [stem + SUFFIX[version] for stem in STEMS[split]]
    required = [*names, META] if version == "python" else names
    if missing := [name for name in required if name not in files.content]:
        raise IOProblem(f"{path}: {', '.join(missing)} is not in it. Pass the whole CIFAR-10 archive or folder.")
    _refuse_copies(path, files, names)
    parts = _python_batches(path, files, names, split) if version == "python" else _binary_batches(path, files, names)
    rows, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    images = rows.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
    origin = Origin(
        name=path.name or str(path),
        split=split,
        version=version,
        sha256=files.sha256,
        files={name: hashlib.sha256(files.content[name]).hexdigest() for name in names},
        images_sha256=tensor_sha256(rows),
        canonical=_is_canonical(files, version, names),
    )
    return Cifar10(images=np.ascontiguousarray(images), labels=labels, origin=origin)


def _is_canonical(files: Files, version: Version, names: list[str]) -> bool:
    """Return whether the archive, or for a folder each of its batches, has the published hash."""
    if files.sha256 is not None:
        return files.sha256 == ARCHIVE_SHA256[version]
    if version == "binary":
        return all(hashlib.sha256(files.content[name]).hexdigest() == FILE_SHA256[name] for name in names)
    return all(hashlib.md5(files.content[name], usedforsecurity=False).hexdigest() == FILE_MD5[name] for name in names)


def _refuse_copies(path: Path, files: Files, names: list[str]) -> None:
    """Check that no batch of the split is, byte for byte, a copy of a file that does not belong to the split."""
    others = {content: name for name, content in files.content.items() if name not in names}
    for name in names:
        if files.content[name] in others:
            other = others[files.content[name]]
            raise BadInput(f"{path}: {name} is {other} under another name. {GET_AGAIN}")


def _python_batches(path: Path, files: Files, names: list[str], split: Split) -> list[tuple[Array, Array]]:
    meta = _unpickled(path, META, files.content[META])
    expected = meta.get("num_cases_per_batch")
    if not isinstance(expected, int):
        raise BadInput(f"{path}: {META} does not say how many images a batch has. {GET_AGAIN}")
    batches = []
    for name in names:
        batch = _unpickled(path, name, files.content[name])
        _check_split(path, name, batch, split)
        batches.append(_rows_and_labels(path, name, batch, expected))
    return batches


def _unpickled(path: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        content = interpret_python2(data)
    except Damaged as error:
        raise IntegrityProblem(f"{path}: {name} is truncated or altered ({error}). {GET_AGAIN}") from error
    except Refused as refusal:
        raise BadInput(f"{path}: {name}: {refusal}. {GET_AGAIN}") from refusal
    if not isinstance(content, dict):
        raise BadInput(f"{path}: {name} holds a {type(content).__name__}, not a batch. {GET_AGAIN}")
    return content


def _check_split(path: Path, name: str, batch: dict[str, Any], split: Split) -> None:
    """Check the label that a batch carries: `testing batch 1 of 1`, `training batch 3 of 5`."""
    label = batch.get("batch_label", b"")
    text = label.decode("latin-1") if isinstance(label, bytes) else str(label)
    expected = "testing" if split == "test" else "training"
    if not text.startswith(expected):
        raise BadInput(f"{path}: {name} calls itself '{text}', not a {expected} batch. Is it the right file?")


def _rows_and_labels(path: Path, name: str, batch: dict[str, Any], expected: int) -> tuple[Array, Array]:
    pending, labels = batch.get("data"), batch.get("labels")
    rows = pending.array if isinstance(pending, PendingArray) else None
    if rows is None or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != PIXELS:
        raise BadInput(f"{path}: {name}: its data is no array of rows of {PIXELS} bytes. {GET_AGAIN}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise BadInput(f"{path}: {name}: its labels are no list of whole numbers. {GET_AGAIN}")
    if not len(rows) == len(labels) == expected > 0:
        raise BadInput(
            f"{path}: {name}: {len(rows)} images and {len(labels)} labels, expected {expected} of each. {GET_AGAIN}"
        )
    if out := [label for label in labels if not 0 <= label < len(CLASSES)]:
        raise _out_of_range(path, name, out[0])
    return rows, np.array(labels, np.int64)


def _binary_batches(path: Path, files: Files, names: list[str]) -> list[tuple[Array, Array]]:
    batches = []
    for name in names:
        data = files.content[name]
        if len(data) % (PIXELS + 1):
            raise IntegrityProblem(
                f"{path}: {name} has {len(data)} bytes, no multiple of {PIXELS + 1}: it is truncated. {GET_AGAIN}"
            )
        table = np.frombuffer(data, np.uint8).reshape(-1, PIXELS + 1)
        if len(table) != BATCH:
            raise BadInput(f"{path}: {name}: {len(table)} images, expected {BATCH}. {GET_AGAIN}")
        if table[:, 0].max() >= len(CLASSES):
            raise _out_of_range(path, name, int(table[:, 0].max()))
        batches.append((table[:, 1:], table[:, 0].astype(np.int64)))
    return batches


def _out_of_range(path: Path, name: str, label: int) -> BadInput:
    return BadInput(f"{path}: {name}: label {label} is out of range 0 to {len(CLASSES) - 1}. {GET_AGAIN}")


def first(data: Cifar10, count: int) -> Cifar10:
    """Return the first count images of a split; their origin stays that of the whole split."""
    return Cifar10(images=data.images[:count], labels=data.labels[:count], origin=data.origin)
