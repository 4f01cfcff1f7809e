"""Reading CIFAR-10: every form of the archive, and everything that can be wrong with one."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cifar_files import META, TEST, batch, images, pickled, python_files, write_archive, write_folder

from convert.errors import BadInput, IntegrityProblem, IOProblem, MixerConvertError
from reports.data import archive, cifar10
from reports.data.cifar10 import read_cifar10

Files = dict[str, bytes]


@pytest.fixture
def python2_archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "cifar-10-python.tar.gz", python_files())


def test_python_2_s_pickles_are_what_the_standard_library_says(python2_archive: Path) -> None:
    rows, labels = images(12)
    loaded = pickle.loads(python_files()[TEST], encoding="latin1")
    np.testing.assert_array_equal(loaded["data"], rows)
    assert loaded["labels"] == labels


def test_an_archive_by_python_2(python2_archive: Path) -> None:
    rows, labels = images(12)
    data = read_cifar10(python2_archive)
    assert data.images.shape == (12, 32, 32, 3)
    assert data.images[5, 3, 7, 2] == rows[5, 2 * 1024 + 3 * 32 + 7], "planes are red, green, blue, row by row"
    assert data.labels.tolist() == labels
    assert data.origin.sha256 == hashlib.sha256(python2_archive.read_bytes()).hexdigest()
    assert not data.origin.canonical
    assert data.origin.said == "other archive"


def test_a_folder_and_python_3_s_pickles_hold_the_same(tmp_path: Path, python2_archive: Path) -> None:
    loaded = {name: pickle.loads(content, encoding="bytes") for name, content in python_files().items()}
    files = {name: pickle.dumps(content, protocol=2) for name, content in loaded.items()}
    folder = write_folder(tmp_path / "data" / "cifar-10-batches-py", files)
    expected = read_cifar10(python2_archive)
    for path in (folder, folder.parent):
        found = read_cifar10(path)
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.origin.sha256 is None


def test_the_binary_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python2_archive: Path) -> None:
    monkeypatch.setattr(cifar10, "BATCH", 12)
    rows, labels = images(12)
    content = np.column_stack([np.array(labels, np.uint8), rows]).tobytes()
    path = write_archive(tmp_path / "b.tar.gz", {"test_batch.bin": content}, "cifar-10-batches-bin")
    data = read_cifar10(path)
    assert data.origin.version == "binary"
    np.testing.assert_array_equal(data.images, read_cifar10(python2_archive).images)
    np.testing.assert_array_equal(data.labels, labels)
    with pytest.raises(IntegrityProblem, match="truncated"):
        read_cifar10(write_folder(tmp_path / "cut", {"test_batch.bin": content[:-1]}))
    with pytest.raises(BadInput, match="11 images, expected 12"):
        read_cifar10(write_folder(tmp_path / "few", {"test_batch.bin": content[3073:]}))
    with pytest.raises(BadInput, match="label 77 is out of range"):
        read_cifar10(write_folder(tmp_path / "odd", {"test_batch.bin": bytes([77]) + content[1:]}))


def test_the_training_split_is_its_five_batches(tmp_path: Path) -> None:
    files = python_files()
    for i in range(1, 6):
        files[f"data_batch_{i}"] = pickled(batch(*images(12, i), f"training batch {i} of 5"))
    data = read_cifar10(write_folder(tmp_path / "all", files), "train")
    assert len(data.labels) == 60
    assert data.labels[12:24].tolist() == images(12, 2)[1]


def test_a_canonical_hash_is_known_and_one_byte_more_is_not(
    python2_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(python2_archive.read_bytes()).hexdigest()
    monkeypatch.setitem(cifar10.ARCHIVE_SHA256, "python", sha256)
    assert read_cifar10(python2_archive).origin.canonical
    files = python_files()
    folder = write_folder(tmp_path / "folder", files)
    assert not read_cifar10(folder).origin.canonical
    monkeypatch.setitem(cifar10.FILE_MD5, TEST, hashlib.md5(files[TEST]).hexdigest())
    assert read_cifar10(folder).origin.canonical
    assert not read_cifar10(write_archive(tmp_path / "other.tar.gz", {**files, "readme.html": b"x"})).origin.canonical


def test_the_hashes_are_torchvision_s(frameworks: None) -> None:
    from torchvision.datasets import CIFAR10

    assert dict([*CIFAR10.train_list, *CIFAR10.test_list]) == cifar10.FILE_MD5


@pytest.mark.parametrize("keep", [0.2, 0.9, -1, -6])
def test_a_truncated_archive(python2_archive: Path, keep: float) -> None:
    data = python2_archive.read_bytes()
    python2_archive.write_bytes(data[: int(keep)] if keep < 0 else data[: int(keep * len(data))])
    with pytest.raises(IntegrityProblem, match="truncated or altered"):
        read_cifar10(python2_archive)


@pytest.mark.parametrize("where", [0.3, 0.7, 0.999])
def test_an_altered_archive(python2_archive: Path, where: float) -> None:
    data = bytearray(python2_archive.read_bytes())
    data[int(where * len(data))] ^= 1
    python2_archive.write_bytes(data)
    with pytest.raises(IntegrityProblem, match="truncated or altered"):
        read_cifar10(python2_archive)


def test_bytes_after_the_archive(python2_archive: Path) -> None:
    python2_archive.write_bytes(python2_archive.read_bytes() + b"more")
    with pytest.raises(IntegrityProblem, match="truncated or altered"):
        read_cifar10(python2_archive)


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.canary,)


def test_a_pickle_that_wants_to_execute_something(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    content = pickle.dumps({**batch(*images(12)), "more": Hostile(canary)}, protocol=2)
    path = write_archive(tmp_path / "x.tar.gz", {**python_files(), TEST: content})
    with pytest.raises(BadInput, match="nothing was executed"):
        read_cifar10(path)
    assert not canary.exists()
    pickle.loads(content)
    assert canary.exists(), "the same bytes do execute elsewhere"


ROWS, LABELS = images(12)
WRONG: dict[str, tuple[Files, type[MixerConvertError], str]] = {
    "train as test": (
        {TEST: python_files()["data_batch_1"]},
        BadInput,
        "test_batch is data_batch_1 under another name",
    ),
    "train relabelled": ({TEST: pickled(batch(ROWS, LABELS, "training batch 2 of 5"))}, BadInput, "calls itself"),
    "too few": ({TEST: pickled(batch(ROWS[:9], LABELS[:9]))}, BadInput, "9 images and 9 labels, expected 12"),
    "fewer labels": ({TEST: pickled(batch(ROWS, LABELS[:9]))}, BadInput, "12 images and 9 labels"),
    "label 10": ({TEST: pickled(batch(ROWS, [*LABELS[:-1], 10]))}, BadInput, "label 10 is out of range"),
    "label -1": ({TEST: pickled(batch(ROWS, [-1, *LABELS[1:]]))}, BadInput, "label -1 is out of range"),
    "labels of text": ({TEST: pickled(batch(ROWS, ["cat"] * 12))}, BadInput, "no list of whole numbers"),  # type: ignore[list-item]
    "narrow rows": ({TEST: pickled(batch(ROWS[:, :-1], LABELS))}, BadInput, "no array of rows of 3072"),
    "no dictionary": ({TEST: pickled([1])}, BadInput, "holds a list"),
    "cut batch": ({TEST: python_files()[TEST][:-500]}, IntegrityProblem, "test_batch is truncated or altered"),
    "meta without count": ({META: pickled({"num_vis": 3072})}, BadInput, "how many images"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("form", [write_archive, write_folder])
def test_wrong_batches(tmp_path: Path, case: str, form: Callable[[Path, Files], Path]) -> None:
    files, error, sentence = WRONG[case]
    with pytest.raises(error, match=sentence):
        read_cifar10(form(tmp_path / "data.tar.gz", {**python_files(), **files}))


@pytest.mark.parametrize("missing", [TEST, META])
def test_a_missing_file(tmp_path: Path, missing: str) -> None:
    files = {name: content for name, content in python_files().items() if name != missing}
    with pytest.raises(IOProblem, match=missing):
        read_cifar10(write_archive(tmp_path / "x.tar.gz", files))
    with pytest.raises(IOProblem, match="no such file"):
        read_cifar10(tmp_path / "nothing.tar.gz")
    with pytest.raises(IOProblem, match=r"test_batch|batches\.meta"):
        read_cifar10(write_folder(tmp_path / "empty", {}))


def test_odd_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, a file twice, one that is too large, and bytes without end; a path that climbs out is passed over."""
    path, link = tmp_path / "x.tar.gz", tarfile.TarInfo(f"cifar-10-batches-py/{TEST}")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(link)
    with pytest.raises(BadInput, match="a link or a special file"):
        read_cifar10(path)
    with tarfile.open(path, "w:gz") as tar:
        for name in (TEST, f"../../{TEST}", f"a/{TEST}"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(BadInput, match="twice"):
        read_cifar10(path)
    monkeypatch.setattr(archive, "MEMBER_LIMIT", 1000)
    with pytest.raises(BadInput, match="more than a batch has"):
        read_cifar10(write_archive(path, python_files()))
    monkeypatch.setattr(archive, "ARCHIVE_LIMIT", 100_000)
    with gzip.open(path, "wb") as stream:
        stream.write(bytes(3_000_000))
    with pytest.raises(BadInput, match="unpacks to more than"):
        read_cifar10(path)
    path.write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(BadInput, match=r"no \.tar\.gz"):
        read_cifar10(path)
