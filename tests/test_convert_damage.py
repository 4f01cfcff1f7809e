"""Files cut at every byte and with every bit flipped: refused, or the tensor that changed has another hash."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from convert import files
from convert.arrays import tensor_sha256s
from convert.errors import BadInput

STATE_DICT = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5, -2], np.float16)}


def by_paddle(path: Path) -> None:
    import paddle

    paddle.save({key: paddle.to_tensor(array) for key, array in STATE_DICT.items()}, str(path))


def by_paddle_2(path: Path) -> None:
    import paddle

    paddle.save({key: paddle.to_tensor(array) for key, array in STATE_DICT.items()}, str(path), protocol=2)


def by_us(path: Path) -> None:
    with path.open("wb") as stream:
        files.write(path, stream, STATE_DICT)


def by_torch(path: Path) -> None:
    import torch

    torch.save({key: torch.from_numpy(array) for key, array in STATE_DICT.items()}, path)


def by_numpy(path: Path) -> None:
    np.savez(path, **STATE_DICT)


def by_numpy_compressed(path: Path) -> None:
    np.savez_compressed(path, **STATE_DICT)


def by_safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(STATE_DICT, path)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "pdparams": (".pdparams", by_us),
    "pdparams by Paddle": (".pdparams", by_paddle),
    "pdparams by Paddle, protocol 2": (".pdparams", by_paddle_2),
    "safetensors": (".safetensors", by_us),
    "safetensors by the library": (".safetensors", by_safetensors),
    "pth": (".pth", by_torch),
    "npz": (".npz", by_numpy),
    "npz compressed": (".npz", by_numpy_compressed),
}
CHECKED = (".pth", ".npz")
"""The formats with checksums."""


@pytest.fixture
def whole(tmp_path: Path, frameworks: None, form: str) -> tuple[Path, bytes, dict[str, str]]:
    """A small file, its bytes, and the hashes of its tensors."""
    suffix, write = WRITERS[form]
    path = tmp_path / f"x{suffix}"
    write(path)
    expected = tensor_sha256s(files.read(path))
    assert expected == tensor_sha256s(STATE_DICT)
    return path, path.read_bytes(), expected


def hashes(path: Path, data: bytes) -> dict[str, str] | None:
    """Return the hashes of the tensors that are read from such bytes, None if they are refused."""
    path.write_bytes(data)
    try:
        return tensor_sha256s(files.read(path))
    except BadInput:
        return None


def flipped(data: bytes, bits: range) -> Iterator[tuple[int, bytes]]:
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)


def check_flips(whole: tuple[Path, bytes, dict[str, str]], step: int) -> None:
    """Every so many bits: what is read has no checksum's protection only where the format has none."""
    path, data, expected = whole
    read = {
        bit: found for bit, changed in flipped(data, range(0, len(data) * 8, step)) if (found := hashes(path, changed))
    }
    if path.suffix in CHECKED:
        assert all(found == expected for found in read.values()), "a change behind a checksum"
    changed = [bit for bit, found in read.items() if found != expected]
    assert len(changed) < len(data) * 8 // step / 2


@pytest.mark.parametrize("form", WRITERS)
def test_a_file_cut_anywhere_is_refused(whole: tuple[Path, bytes, dict[str, str]]) -> None:
    path, data, _ = whole
    assert [size for size in range(len(data)) if hashes(path, data[:size]) is not None] == []


@pytest.mark.parametrize("form", WRITERS)
def test_no_flipped_bit_is_silent(whole: tuple[Path, bytes, dict[str, str]]) -> None:
    check_flips(whole, 7)


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_not_one_of_all_flipped_bits_is_silent(whole: tuple[Path, bytes, dict[str, str]]) -> None:
    check_flips(whole, 1)


@pytest.mark.parametrize("form", WRITERS)
def test_a_flipped_bit_of_a_tensor_is_refused_or_named(whole: tuple[Path, bytes, dict[str, str]]) -> None:
    """Each bit of the first tensor's elements: refused by a checksum, or that tensor alone has another hash."""
    path, data, expected = whole
    elements = STATE_DICT["a.weight"].tobytes()
    if elements not in data:
        assert form_spells_data_otherwise(path, data)
        return
    begin = data.index(elements) * 8
    for _, changed in flipped(data, range(begin, begin + 8 * len(elements))):
        found = hashes(path, changed)
        if path.suffix in CHECKED:
            assert found is None
        else:
            assert found is not None
            assert [key for key in expected if found[key] != expected[key]] == ["a.weight"]


def form_spells_data_otherwise(path: Path, data: bytes) -> bool:
    """Return whether the elements are deflated, or spelled as text, as protocol 2 does."""
    return zipfile.is_zipfile(path) or data[:2] == b"\x80\x02"
