"""A short differential fuzz of each format, and that it finds the forgery that it is for."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import differential
import pytest
from differential import READER, Reference, fuzz
from forge import array, big_endian_forgery, weight
from mutations import MUTATORS, mutate_pickle, opcodes_of

from convert.files import npy
from convert.files.pickles import numpy_stand_ins

SECONDS = 3
AGREED = 50
"""A fuzz that both refuse everything of proves nothing."""


@pytest.fixture(params=["pdparams", "pth", "npz", "safetensors"])
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "pth" and importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch to compare with")
    return str(request.param)


@pytest.mark.slow
def test_both_read_the_same(tmp_path: Path, form: str) -> None:
    outcome = fuzz(form, SECONDS, 0, tmp_path)
    assert outcome.difference == ""
    assert outcome.agreed >= AGREED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_fuzz_finds_a_dtype_whose_byte_order_numpy_ignores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_stand_ins, "COPIES", (True, 1, False, 0))
    outcome = fuzz("pdparams", 60, 0, tmp_path)
    assert outcome.file is not None, f"{outcome.executions} executions without a difference"
    assert "the library" in outcome.difference
    assert outcome.file.parent == tmp_path


@pytest.mark.slow
def test_the_fuzz_finds_a_header_that_numpy_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loose = npy.HEADER.pattern.replace(npy.SIZES, r"[\dL, ]*")
    assert loose != npy.HEADER.pattern
    monkeypatch.setattr(npy, "HEADER", re.compile(loose))
    assert fuzz("npz", 60, 0, tmp_path).difference


def test_a_mutation_is_the_same_for_the_same_seed() -> None:
    content = weight(array())
    first, again = ([mutate_pickle(content, random.Random(seed)) for seed in range(50)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 40


def test_a_pickle_is_its_opcodes_without_frames() -> None:
    content = weight(array())
    framed = content[:2] + b"\x95" + len(content[2:]).to_bytes(8, "little") + content[2:]
    assert b"".join(opcodes_of(framed)) == b"".join(opcodes_of(content)) == content


def test_every_format_is_mutated() -> None:
    assert set(MUTATORS) == {"pdparams", "pth", "npz", "safetensors"}


def test_the_reference_is_started_again_when_it_crashed(tmp_path: Path) -> None:
    path = tmp_path / "x.pdparams"
    path.write_bytes(weight(array()))
    with Reference("pdparams") as reference:
        assert reference.ask(path)["mappings"][0]["weight"][:2] == ["<f4", [2]]
        assert reference._process
        os.kill(reference._process.pid, signal.SIGKILL)
        reference._process.wait()
        assert reference.ask(path) == {"refused": "it crashed"}
        assert "mappings" in reference.ask(path)


def test_a_reference_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differential, "ANSWER_SECONDS", 0.0)
    with Reference("pdparams") as reference:
        assert "took more than" in reference.ask(tmp_path / "x.pdparams")["refused"]
        assert reference._process is None


def test_the_reference_imports_nothing_that_a_file_names(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(weight(b"cos\nsystem\n"))
    (tmp_path / "y").write_bytes(weight(big_endian_forgery(bytes(8))))
    asked = f"{tmp_path / 'x'}\n{tmp_path / 'y'}\n"
    done = subprocess.run([sys.executable, READER, "pdparams"], input=asked, capture_output=True, text=True, check=True)
    refused, read = done.stdout.splitlines()
    assert "neither NumPy nor Paddle" in refused
    assert "<f4" in read
