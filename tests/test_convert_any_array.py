"""Any array, of any layout and dtype, as the original libraries read it from our files: the same bits."""

from __future__ import annotations

import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convert import files
from convert.arrays import Array
from convert.files.pickles.array_pickle import BFLOAT16
from convert.files.safetensors import DTYPES

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@st.composite
def any_array(draw: st.DrawFn, dtype: np.dtype[Any]) -> Array:
    """Random bits, seen in a random layout: sliced, reversed, transposed, Fortran-ordered, byte-swapped, read-only."""
    shape = draw(SHAPES)
    size = int(np.prod(shape)) * dtype.itemsize
    bits = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    array = (bits % 2 if dtype == np.bool_ else bits).view(dtype).reshape(shape)
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    if draw(st.booleans()):
        steps = draw(st.tuples(*(st.sampled_from([1, 2, -1, -2]) for _ in shape)))
        array = array[tuple(slice(None, None, step) for step in steps)]
    if draw(st.booleans()):
        array = array.transpose(draw(st.permutations(range(array.ndim))))
    if dtype != BFLOAT16 and draw(st.booleans()):
        array = array.astype(array.dtype.newbyteorder(">"))  # a copy that has the values, not the bits
    return array


def state_dicts(dtypes: list[np.dtype[Any]]) -> st.SearchStrategy[dict[str, Array]]:
    names = st.from_regex(r"[abcß][abc.ß]*", fullmatch=True)
    return st.dictionaries(names, st.sampled_from(dtypes).flatmap(any_array), min_size=1, max_size=4)


def written(folder: str, suffix: str, tensors: dict[str, Array]) -> Path:
    path = Path(folder) / f"x{suffix}"
    with path.open("wb") as stream:
        files.write(path, stream, tensors)
    return path


def check(back: dict[str, Array], tensors: dict[str, Array]) -> None:
    assert back.keys() == tensors.keys()
    for key, array in tensors.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert back[key].dtype == native.dtype
        assert back[key].shape == native.shape
        assert back[key].tobytes() == native.tobytes(), key


@given(tensors=state_dicts(list(DTYPES.values())))
@settings(max_examples=200)
def test_the_safetensors_library_reads_the_same_bits(tensors: dict[str, Array]) -> None:
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, ".safetensors", tensors)
        check(load_file(path), tensors)
        check(dict(files.read(path)), tensors)


PADDLE = [np.dtype(name) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")]


@given(tensors=state_dicts([*PADDLE, BFLOAT16]))
@settings(max_examples=200)
def test_paddle_reads_the_same_bits(frameworks: None, tensors: dict[str, Array]) -> None:
    import paddle

    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, ".pdparams", tensors)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            back = paddle.load(str(path), return_numpy=True, keep_name_table=True)
        table = back.pop("StructuredToParameterName@@")
        assert table == {key: key for key in tensors}
        as_uint16 = {key: value.view(np.uint16) if value.dtype == BFLOAT16 else value for key, value in tensors.items()}
        check(back, as_uint16)
        check(dict(files.read(path)), tensors)


def test_the_library_s_own_writer_does_get_it_wrong(tmp_path: Path) -> None:
    """What these tests are for: safetensors writes the bytes of a transposed view in the order of its base."""
    from safetensors.numpy import load_file, save_file

    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    save_file({"a": array}, tmp_path / "x.safetensors")
    if np.array_equal(load_file(tmp_path / "x.safetensors")["a"], array):
        pytest.skip(f"safetensors {version('safetensors')} writes it as it is")
    with pytest.raises(AssertionError):
        check(load_file(tmp_path / "x.safetensors"), {"a": array})
