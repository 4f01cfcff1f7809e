"""Every hostile file is refused with its reason, and nothing in it happens."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import hostile_archives
import hostile_headers
import hostile_pickles
import numpy as np
import pytest
from benign import NUMBERS
from cifar_files import python_files, write_archive
from forge import array, safetensors, tensor, torch_zip, weight
from hostile import Hostile

from convert import files

MAKERS = {
    "pdparams": hostile_pickles.pdparams,
    "cifar": hostile_pickles.cifar,
    "pth": hostile_archives.pth,
    "npz": hostile_archives.npz,
    "safetensors": hostile_headers.safetensors_files,
    "index": hostile_headers.index_files,
}
CORPUS = {f"{form}: {file.name}": file for form, make in MAKERS.items() for file in make("CANARY")}
"""By name; what is read is made again with the canary's real path."""
EXECUTING = sorted(name for name, file in CORPUS.items() if file.payload is not None)
MEMORY_LIMIT = 200
"""MiB that all files together may take over what the readers' own imports take."""


def run(*arguments: object) -> dict[str, Any]:
    script = Path(__file__).with_name("read_hostile.py")
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def file_name(name: str, suffix: str = "") -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()) + suffix


# Of the session: with parallel workers, one comes to tests of a module more than once.
@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for part in ("benign", "hostile", "payloads"):
        (folder / part).mkdir()
    for form, make in MAKERS.items():
        for file in make(str(folder / "canary")):
            name = f"{form}: {file.name}"
            (folder / "hostile" / file_name(name, file.suffix)).write_bytes(file.content)
            if file.payload is not None:
                (folder / "payloads" / file_name(name)).write_bytes(file.payload)
    write_benign(folder / "benign")
    return folder


def write_benign(folder: Path) -> None:
    """Write a good and a damaged file of each format."""
    np.savez(folder / "a.npz", a=NUMBERS)
    np.savez_compressed(folder / "b.npz", a=NUMBERS)
    (folder / "a.pth").write_bytes(torch_zip(weight(tensor(), protocol=2)))
    (folder / "a.pdparams").write_bytes(weight(array()))
    (folder / "a.safetensors").write_bytes(safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    (folder / "a.json").write_bytes(b'{"weight_map":{"a":"a.safetensors"}}')
    for path in list(folder.iterdir()):
        (folder / f"cut{path.suffix}").write_bytes(path.read_bytes()[:-3])
    write_archive(folder / "a.tar.gz", python_files())


@pytest.fixture(scope="session")
def readings(folder: Path) -> dict[str, Any]:
    return run(folder)


@pytest.fixture(scope="session")
def unpickled(folder: Path) -> dict[str, Any]:
    return run(folder, "unpickle")


def test_the_corpus_is_large_and_of_every_format() -> None:
    assert len(CORPUS) == sum(len(make("x")) for make in MAKERS.values()) >= 60, "two files of one name"
    assert all(sum(name.startswith(f"{form}:") for name in CORPUS) >= 5 for form in MAKERS)


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_file_is_refused_with_its_reason(readings: dict[str, Any], name: str) -> None:
    file, seen = CORPUS[name], readings["files"][file_name(name, CORPUS[name].suffix)]
    assert seen["exit"] == 3, seen["sentence"][-2000:]
    assert re.search(file.reason, seen["sentence"]), seen["sentence"]
    assert seen["events"] == []
    assert seen["sentence"].strip().isprintable()


def test_no_hostile_file_takes_memory(readings: dict[str, Any]) -> None:
    grown = {name: seen["grown"] for name, seen in readings["files"].items()}
    assert readings["grown"] < MEMORY_LIMIT, min(grown.items(), key=lambda item: abs(item[1] - MEMORY_LIMIT))


def test_nothing_that_was_read_touched_the_canary(folder: Path, readings: dict[str, Any]) -> None:
    assert not (folder / "canary").exists()
    assert readings["self-check"], "the audit hook saw nothing of a pickle that imports a module"


@pytest.mark.parametrize("name", EXECUTING)
def test_what_is_said_to_execute_does_where_it_is_unpickled(unpickled: dict[str, Any], name: str) -> None:
    assert unpickled[file_name(name)], "the file is harmless, so that reading it proves nothing"


def test_the_files_that_everything_is_read_with_are_good(folder: Path, readings: dict[str, Any]) -> None:
    for path in (folder / "benign").glob("a.*"):
        if path.suffix != ".gz":
            assert list(files.read(path))


def test_a_hostile_file_is_what_its_name_says() -> None:
    assert all(isinstance(file, Hostile) and file.reason for file in CORPUS.values())
