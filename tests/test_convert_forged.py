"""Arrays and tensors spelled otherwise than NumPy, Paddle and torch spell them: what has two meanings is refused."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import (
    MARKER,
    ORDERED,
    array,
    big_endian_forgery,
    bytes_of,
    dtype,
    dtype_state,
    number,
    numbers,
    storage,
    tensor,
    text,
    torch_zip,
    weight,
)

from convert import files
from convert.errors import BadInput
from convert.files.pickles import numpy_stand_ins

DATA = np.array([1.0, -2.0], np.float32)
HEAD = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"


def unpickled(data: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pickle.loads(data)


def pdparams(folder: Path, content: bytes) -> Path:
    (folder / "x.pdparams").write_bytes(content)
    return folder / "x.pdparams"


def test_a_byte_order_that_numpy_ignores_is_refused(tmp_path: Path) -> None:
    """With copy=False numpy.dtype returns the one that it has, which takes no state: pickle reads other numbers."""
    forged = weight(big_endian_forgery(DATA.astype(">f4").tobytes()))
    assert unpickled(forged)["weight"].tolist() != DATA.tolist()
    with pytest.raises(BadInput, match="a dtype otherwise than NumPy does"):
        files.read(pdparams(tmp_path, forged))


def test_the_check_of_the_dtype_s_arguments_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_stand_ins, "COPIES", (True, 1, False))
    path = pdparams(tmp_path, weight(big_endian_forgery(DATA.astype(">f4").tobytes())))
    assert files.read(path)["weight"].tolist() == DATA.tolist()


def test_a_byte_order_that_is_written_is_obeyed(tmp_path: Path) -> None:
    big = array(data=bytes_of(DATA.astype(">f4").tobytes()), order=">")
    assert unpickled(weight(big))["weight"].tolist() == DATA.tolist()
    assert files.read(pdparams(tmp_path, weight(big)))["weight"].tolist() == DATA.tolist()


OK, NONE = dtype(), b"NNN"
MINUS = b"J\xff\xff\xff\xff" * 2
STATES = {
    "another version": b"(K\x02" + text("<") + NONE + MINUS + b"K\x00t",
    "a version that is true": b"(\x88" + text("<") + NONE + MINUS + b"K\x00t",
    "the native order": b"(K\x03" + text("=") + NONE + MINUS + b"K\x00t",
    "no order": b"(K\x03" + text("|") + NONE + MINUS + b"K\x00t",
    "a subarray": b"(K\x03" + text("<") + dtype() + b"K\x02\x85\x86NN" + MINUS + b"K\x00t",
    "a size": b"(K\x03" + text("<") + NONE + b"K\x08K\x01K\x00t",
    "flags": b"(K\x03" + text("<") + NONE + MINUS + b"K\x10t",
    "metadata": b"(K\x04" + text("<") + NONE + MINUS + b"K\x00}t",
    "too short": b"(K\x03" + text("<") + NONE + MINUS + b"t",
    "a list": b"](K\x03" + text("<") + NONE + MINUS + b"K\x00e",
}
DTYPES = {
    **{f"state: {name}": dtype(state=state) for name, state in STATES.items()},
    "aligned": dtype(arguments=b"\x88\x88"),
    "not copied": dtype(arguments=b"\x89\x89"),
    "copied twice": dtype(arguments=b"\x89K\x02"),
    "not built": dtype(state=b"")[:-1],
    "built twice": dtype() + dtype_state() + b"b",
    "one byte, little": dtype("i1", "<"),
    "one argument": b"cnumpy\ndtype\n" + text("f4") + b"\x85R" + dtype_state() + b"b",
    "by its size": dtype("<f4"),
    "by its name": dtype("float32"),
}
F4 = numbers((2,)) + OK + b"\x89" + bytes_of(bytes(8))
ARRAYS = {
    "another version": (b"K\x00", F4),
    "a shape that is a list": (b"K\x01", b"]K\x02a" + OK + b"\x89" + bytes_of(bytes(8))),
    "a size that is true": (b"K\x01", b"\x88\x85" + OK + b"\x89" + bytes_of(bytes(4))),
    "an order that is a number": (b"K\x01", numbers((2,)) + OK + b"K\x00" + bytes_of(bytes(8))),
    "text for bytes": (b"K\x01", numbers((2,)) + OK + b"\x89" + text("\0" * 8)),
    "no version": (b"", F4),
    "more": (b"K\x01", F4 + b"N"),
}
HEADS = {
    "a shape": NDARRAY + b"K\x02\x85" + MARKER,
    "no shape": NDARRAY + b")" + MARKER,
    "a shape that is false": NDARRAY + b"\x89\x85" + MARKER,
    "another code": NDARRAY + b"K\x00\x85" + b"C\x01f",
    "a code of text": NDARRAY + b"K\x00\x85" + text("b"),
    "the class of dtypes": b"cnumpy\ndtype\nK\x00\x85" + MARKER,
}
FORGED = {
    **{f"dtype: {name}": array(dtype_=opcodes) for name, opcodes in DTYPES.items()},
    **{
        f"array: {name}": HEAD + NDARRAY + b"K\x00\x85" + MARKER + b"\x87R(" + version + rest + b"tb"
        for name, (version, rest) in ARRAYS.items()
    },
    **{f"head: {name}": HEAD + head + b"\x87R(K\x01" + F4 + b"tb" for name, head in HEADS.items()},
    "built twice": array() + b"(K\x01" + F4 + b"tb",
    "a dtype that is built after its array": array(dtype_=dtype(state=b"")[:-1] + b"q\x05")
    + b"h\x05"
    + dtype_state()
    + b"b",
    "encoded as latin-1": b"c_codecs\nencode\n" + text("x") + text("latin-1") + b"\x86R",
    "never built": HEAD + NDARRAY + b"K\x00\x85" + MARKER + b"\x87R",
}


@pytest.mark.parametrize("name", FORGED)
def test_an_array_that_numpy_does_not_write_is_refused(tmp_path: Path, name: str) -> None:
    path = pdparams(tmp_path, weight(FORGED[name]))
    with pytest.raises(BadInput):
        files.read(path)


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("arguments", [b"\x89\x88", b"K\x00K\x01"])
def test_what_each_numpy_writes_is_read(tmp_path: Path, core: str, arguments: bytes) -> None:
    opcodes = array(dtype_=dtype(arguments=arguments)).replace(b"numpy.core", core.encode())
    assert files.read(pdparams(tmp_path, weight(opcodes)))["weight"].tolist() == [0, 0]


PROTOCOLS = {
    "of the future": weight(array(), protocol=6),
    "1": weight(array(), protocol=1),
    "said twice": b"\x80\x04\x80\x04" + weight(array())[2:],
    "changed on the way": b"\x80\x02}\x80\x04(" + weight(array())[4:],
    "older than its opcodes": weight(array(), protocol=2),
    "with a frame that is too long": b"\x80\x04\x95"
    + (len(weight(array())) - 1).to_bytes(8, "little")
    + weight(array())[2:],
    "with a mark left": weight(array())[:-1] + b"(.",
    "that stores what is below a mark": b"\x80\x04}(q\x01" + text("a") + array() + b"u.",
    "with an escaped name": weight(array().replace(b"cnumpy\ndtype", b"cn\\x75mpy\ndtype")),
    "with a module of Python 2": weight(b"c__builtin__\ntuple\n" + text("a") + array() + b"\x86\x85R"),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_pickle_that_no_pickler_writes_is_refused(tmp_path: Path, name: str) -> None:
    path = pdparams(tmp_path, PROTOCOLS[name])
    with pytest.raises(BadInput):
        files.read(path)


def test_a_frame_as_long_as_what_remains_is_read(tmp_path: Path) -> None:
    rest = weight(array())[2:]
    framed = b"\x80\x04\x95" + len(rest).to_bytes(8, "little") + rest
    assert list(files.read(pdparams(tmp_path, framed))) == ["weight"]


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n("
PLACE = number(0) + numbers((2, 3)) + numbers((3, 1))
PARAMETER = b"ctorch._utils\n_rebuild_parameter\n("
STATEFUL = b"ctorch._utils\n_rebuild_parameter_with_state\n("
FROM_TYPE = b"ctorch._tensor\n_rebuild_from_type_v2\n"
TYPED = FROM_TYPE + b"(ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n("
HALF = storage(kind="HalfStorage", size=12)
TENSORS = {
    "no gradient": REBUILD + storage() + PLACE + b"tR",
    "a gradient that is a number": REBUILD + storage() + PLACE + b"K\x00" + ORDERED + b"tR",
    "no hooks": REBUILD + storage() + PLACE + b"\x89tR",
    "hooks that are none": REBUILD + storage() + PLACE + b"\x89NtR",
    "hooks in a plain dict": REBUILD + storage() + PLACE + b"\x89}tR",
    "hooks": REBUILD + storage() + PLACE + b"\x89" + ORDERED + text("a") + b"NstR",
    "more": REBUILD + storage() + PLACE + b"\x89" + ORDERED + b"NNtR",
    "metadata in a list": REBUILD + storage() + PLACE + b"\x89" + ORDERED + b"]tR",
    "an offset that is false": REBUILD + storage() + b"\x89" + PLACE[len(number(0)) :] + b"\x89" + ORDERED + b"tR",
    "whole numbers with a gradient": REBUILD + storage(kind="IntStorage") + PLACE + b"\x88" + ORDERED + b"tR",
    "a parameter of nothing": PARAMETER + b"}\x88" + ORDERED + b"tR",
    "a parameter without hooks": PARAMETER + tensor() + b"\x88tR",
    "other elements": STATEFUL + tensor() + b"\x88" + ORDERED + b"}" + text("data") + tensor() + b"stR",
    "another class": STATEFUL + tensor() + b"\x88" + ORDERED + b"}" + text("__class__") + b"NstR",
    "other slots": STATEFUL + tensor() + b"\x88" + ORDERED + b"N}" + text("real") + tensor() + b"s\x86tR",
    "a method": STATEFUL + tensor() + b"\x88" + ORDERED + b"}" + text("numpy") + b"ctorch\nSize\nstR",
    "a typed tensor with other elements": TYPED
    + storage()
    + PLACE
    + b"\x89"
    + ORDERED
    + b"t}"
    + text("data")
    + tensor()
    + b"stR",
    "another type": TYPED.replace(b"ctorch\nTensor\n", b"ctorch\nFloatStorage\n")
    + storage()
    + PLACE
    + b"\x89"
    + ORDERED
    + b"t}tR",
    "a type's function that makes none": FROM_TYPE + b"(ctorch\nSize\nctorch\nTensor\n)\x85}tR",
    "a storage of another dtype": b"(" + tensor(HALF) + tensor() + b"t",
    "a storage of another size": b"(" + tensor() + tensor(storage(size=5), size=(5,), stride=(1,)) + b"t",
    "a storage of true": REBUILD + storage().replace(number(6), b"\x88") + PLACE + b"\x89" + ORDERED + b"tR",
    "a size of numbers that are none": b"ctorch\nSize\n" + text("a") + b"\x85\x85R",
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_torch_does_not_write_is_refused(tmp_path: Path, name: str) -> None:
    content = (
        b"\x80\x02}("
        + text("model")
        + b"}"
        + text("a")
        + tensor(storage("1"))
        + b"s"
        + text("b")
        + TENSORS[name]
        + b"u."
    )
    (tmp_path / "x.pth").write_bytes(torch_zip(content, **{"data/1": bytes(24)}))
    with pytest.raises(BadInput):
        files.read(tmp_path / "x.pth")


GOOD = {
    "a tensor": tensor(),
    "metadata that is none": REBUILD + storage() + PLACE + b"\x89" + ORDERED + b"NtR",
    "a parameter": PARAMETER + tensor() + b"\x88" + ORDERED + b"tR",
    "a parameter with an attribute": STATEFUL + tensor() + b"\x88" + ORDERED + b"}" + text("note") + b"NstR",
    "a parameter with slots": STATEFUL + tensor() + b"\x88" + ORDERED + b"N}" + text("note") + b"Ns\x86tR",
    "a typed tensor": TYPED + storage() + PLACE + b"\x89" + ORDERED + b"t}" + text("note") + b"NstR",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_tensor_that_torch_writes_is_read(tmp_path: Path, frameworks: None, name: str) -> None:
    """The same opcodes around good ones: so the tensors above are refused for what differs."""
    import torch

    (tmp_path / "x.pth").write_bytes(torch_zip(weight(GOOD[name], protocol=2)))
    assert files.read(tmp_path / "x.pth")["weight"].shape == (2, 3)
    assert torch.load(tmp_path / "x.pth", weights_only=True)["weight"].shape == (2, 3)


def test_torch_takes_the_first_storage_of_a_key(tmp_path: Path, frameworks: None) -> None:
    """Why a storage has one dtype: the second tensor, which says float32, has the first one's float16."""
    import torch

    content = b"\x80\x02}(" + text("a") + tensor(HALF) + text("b") + tensor() + b"u."
    (tmp_path / "x.pth").write_bytes(torch_zip(content))
    assert torch.load(tmp_path / "x.pth", weights_only=True)["b"].dtype == torch.float16
    with pytest.raises(BadInput, match="it calls storage 0 12 of HalfStorage first, then 6 of FloatStorage"):
        files.read(tmp_path / "x.pth")


def test_paddle_s_pair_of_a_name_and_an_array_that_is_not_read_is_no_list(tmp_path: Path) -> None:
    """In a nest paddle.save writes (name, array) for a tensor; left out as a list, it would be lost in silence."""
    text = np.array(["a"])
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps({"model": {"a": ("w_0", np.zeros(2)), "b": ("w_1", text)}}, 4))
    with pytest.raises(BadInput, match="entry 'b' is not a tensor but an array of dtype 'U1'"):
        files.read(path)
