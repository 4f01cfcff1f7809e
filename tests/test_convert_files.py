from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import save_safetensors
from forge import array as opcodes_of_array
from forge import weight

from convert import files
from convert.arrays import StateDict, fingerprint, tensor_sha256, tensor_sha256s
from convert.disk.atomic import refuse_overwrite, write_atomically
from convert.errors import BadInput, OutputRefused, UsageProblem

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def dump(path: Path, state_dict: StateDict) -> Path:
    with path.open("wb") as stream:
        files.write(path, stream, state_dict)
    return path


@pytest.fixture
def odd_state_dict() -> StateDict:
    """Strided, Fortran-ordered, big-endian, 0-d and empty arrays, and a name outside ASCII."""
    numbers = np.arange(24, dtype=np.float32).reshape(4, 6)
    return {
        "transposed": numbers.T,
        "strided": numbers[::2, ::3],
        "fortran": np.asfortranarray(numbers),
        "big": numbers.astype(">f4"),
        "scalar": np.float32(3).reshape(()),
        "empty": np.zeros((0, 5), np.float32),
        "größe": numbers[0],
    }


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_any_layout_reads_back_equal(tmp_path: Path, odd_state_dict: StateDict, suffix: str) -> None:
    if suffix == ".safetensors":
        odd_state_dict = {key: array.astype("=f4") for key, array in odd_state_dict.items()}
    back = files.read(dump(tmp_path / f"x{suffix}", odd_state_dict))
    assert list(back) == list(odd_state_dict)
    for key, array in odd_state_dict.items():
        np.testing.assert_array_equal(back[key], array)
        assert back[key].shape == array.shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fingerprint_is_equal_across_formats(
    tmp_path: Path, source: StateDict, dtype: type, frameworks: None
) -> None:
    import torch

    cast = {key: array.astype(dtype) for key, array in source.items()}
    expected = tensor_sha256s(cast)
    tensors = {key: torch.from_numpy(source[key]).to(getattr(torch, np.dtype(dtype).name)) for key in source}
    torch.save(tensors, tmp_path / "x.pth")
    for path in (dump(tmp_path / "x.pdparams", cast), dump(tmp_path / "x.safetensors", cast), tmp_path / "x.pth"):
        assert tensor_sha256s(files.read(path)) == expected


def test_the_fingerprint_knows_dtype_shape_and_bits() -> None:
    array = np.arange(6, dtype=np.float32)
    changed = array.copy()
    changed.view(np.uint32)[3] ^= 1
    variations = [array, array.reshape(2, 3), array.view(np.int32), changed, array.astype(np.float16)]
    assert len({tensor_sha256(variation) for variation in variations}) == len(variations)
    assert tensor_sha256(array.reshape(2, 3).T.copy().T) == tensor_sha256(array.reshape(2, 3))
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"}) != fingerprint({"a": "2", "b": "1"})


def test_written_safetensors_satisfy_the_library(tmp_path: Path, source: StateDict) -> None:
    from safetensors.numpy import load_file

    loaded = load_file(dump(tmp_path / "x.safetensors", {key: array.T for key, array in source.items()}))
    assert all(np.array_equal(loaded[key], source[key].T) for key in source)


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_the_same_tensors_give_the_same_bytes(tmp_path: Path, source: StateDict, suffix: str) -> None:
    first = dump(tmp_path / f"a{suffix}", source).read_bytes()
    copies = {key: array.copy() for key, array in source.items()}
    assert dump(tmp_path / f"b{suffix}", copies).read_bytes() == first


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saves_is_read(tmp_path: Path, frameworks: None, dtype: str, protocol: int) -> None:
    import paddle

    layer = paddle.nn.Linear(5, 3)
    layer.to(dtype=dtype)
    path = tmp_path / "x.pdparams"
    paddle.save(layer.state_dict(), str(path), protocol=protocol)
    state_dict = files.read(path)
    assert list(state_dict) == ["weight", "bias"]
    assert state_dict["weight"].dtype.name == dtype
    np.testing.assert_array_equal(
        state_dict["weight"].astype(np.float32), layer.weight.astype("float32").numpy(), strict=True
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_paddle_loads_what_is_written(tmp_path: Path, frameworks: None, dtype: type) -> None:
    import paddle

    weights = np.random.default_rng(0).standard_normal((5, 3)).astype(dtype)
    path = dump(tmp_path / "x.pdparams", {"weight": weights, "bias": weights[0]})
    layer = paddle.nn.Linear(5, 3)
    layer.to(dtype=np.dtype(dtype).name)
    loaded = paddle.load(str(path))
    assert layer.set_state_dict(loaded) == ([], [])
    np.testing.assert_array_equal(layer.weight.astype("float32").numpy(), weights.astype(np.float32))
    raw = paddle.load(str(path), return_numpy=True, keep_name_table=True)
    assert raw["StructuredToParameterName@@"] == {"weight": "weight", "bias": "bias"}


def test_written_pickles_are_plain_pickles(tmp_path: Path, source: StateDict) -> None:
    """Any unpickler takes the file, NumPy 1's included: it names numpy.core, which both NumPy 1 and 2 have."""
    path = dump(tmp_path / "x.pdparams", source)
    with warnings.catch_warnings(), path.open("rb") as stream:
        warnings.simplefilter("ignore", DeprecationWarning)
        loaded = pickle.load(stream)
    assert all(np.array_equal(loaded[key], source[key]) for key in source)
    named = {arg for opcode, arg, _ in pickletools.genops(path.read_bytes()) if opcode.name == "GLOBAL"}
    assert named == {"numpy ndarray", "numpy dtype", "numpy.core.multiarray _reconstruct"}


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("suffix", [".pdparams", ".pth"])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_nothing_in_a_file_is_executed(tmp_path: Path, frameworks: None, suffix: str, protocol: int) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / f"x{suffix}"
    path.write_bytes(pickle.dumps({"weight": Hostile(canary)}, protocol=protocol))
    with pytest.raises(BadInput):
        files.read(path)
    assert not canary.exists()
    pickle.loads(path.read_bytes())
    assert canary.exists(), "the file was harmless, so the test proved nothing"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"\x80\x04cos\nsystem\n.", "os.system", id="global"),
        pytest.param(b"\x80\x04}(X\x01\x00\x00\x00aK\x01u..", "more after the end", id="trailing bytes"),
        pytest.param(b"\x80\x04}(X\x01\x00\x00\x00aK\x01u.", "entry 'a' is not a tensor", id="number"),
        pytest.param(b"\x80\x04K\x01.", "holds a int", id="no mapping"),
        pytest.param(b"\x80\x04K\x01K\x02.", "more than one object", id="two objects"),
        pytest.param(b"\x80\x04}(K\x01K\x01u.", "entry 1 is not a tensor but a int", id="key"),
        pytest.param(b"\x80\x04}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x01u.", "holds 'a' twice", id="twice"),
        pytest.param(
            b"\x80\x04c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.", "codec 'hex'", id="codec"
        ),
        pytest.param(weight(opcodes_of_array(code="O8", order="|", data=b"]")), "dtype 'O8'", id="object dtype"),
        pytest.param(b"\x80\x04K\x01K\x02b.", "not an array", id="build"),
        pytest.param(b"\x80\x04K\x01)R.", "not a function", id="reduce"),
        pytest.param(b"\x80\x04Vx\n.", "uses UNICODE", id="opcode"),
        pytest.param(b"\x80\x04", "truncated or damaged", id="no stop"),
        pytest.param(b"\x80\x04R.", "truncated or damaged", id="underflow"),
        pytest.param(b"\x80\x04u.", "truncated or damaged", id="no mark"),
        pytest.param(b"\x80\x04h\x07.", "truncated or damaged", id="memo"),
    ],
)
def test_odd_pickles_are_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.pdparams"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=reason):
        files.read(path)


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors", ".pth"])
def test_truncation_anywhere_is_refused(tmp_path: Path, suffix: str, frameworks: None) -> None:
    import torch

    path, state_dict = tmp_path / f"x{suffix}", {"a": np.arange(4, dtype=np.float32)}
    if suffix == ".pth":
        torch.save({"a": torch.arange(4)}, path)
    else:
        dump(path, state_dict)
    whole = path.read_bytes()
    for size in range(0, len(whole), 1 if suffix != ".pth" else 37):
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput):
            files.read(path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "HTML page"),
        (b"PK\x03\x04 and so on", "zip archive"),
        (b"plain text", "no kind we know"),
    ],
)
@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_a_file_is_named_for_what_it_is(tmp_path: Path, content: bytes, kind: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=kind):
        files.read(path)


def test_an_unknown_suffix_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(BadInput, match="of no kind we know, not a checkpoint that is read here"):
        files.read(tmp_path / "x.onnx")
    with pytest.raises(UsageProblem, match="cannot write"):
        files.write(tmp_path / "x.pth", io.BytesIO(), {})


@pytest.mark.parametrize("nest", ["state_dict", "model", None])
def test_pth_is_read_where_training_code_puts_it(tmp_path: Path, frameworks: None, nest: str | None) -> None:
    import torch

    weights = {"a": torch.arange(4.0)}
    torch.save({nest: weights, "epoch": 3} if nest else weights, tmp_path / "x.pth")
    assert list(files.read(tmp_path / "x.pth")) == ["a"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {"a": 1.0}, "model": {"a": 1.0}}, "entry 'a' is not a tensor but a float"),
        ({"a": 1.0}, "entry 'a' is not a tensor but a float"),
        ({}, "not a state dict"),
        ([1, 2], "not a state dict"),
    ],
)
def test_pth_without_one_state_dict_is_refused(tmp_path: Path, frameworks: None, content: object, reason: str) -> None:
    import torch

    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(BadInput, match=reason):
        files.read(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("key", "says"), [(1, "a int for a name|no text for a name|a tensor of a kind"), ("a", "a tensor of a kind")]
)
def test_pth_with_odd_tensors_is_refused(tmp_path: Path, frameworks: None, key: object, says: str) -> None:
    import torch

    torch.save({key: torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "x.pth")
    with pytest.raises(BadInput, match=says):
        files.read(tmp_path / "x.pth")


def test_npz_of_other_things_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(BadInput, match=r"note\.txt is no array"):
        files.read(tmp_path / "x.npz")


def test_big_endian_arrays_come_back_native(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(3, dtype=">f4"))
    assert files.read(tmp_path / "x.npz")["a"].dtype == np.dtype(np.float32)


def test_pth_with_something_else_for_a_weight_is_refused_with_a_hint(
    tmp_path: Path, frameworks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"model": {"a": torch.zeros(1), "b": Path("x")}}, tmp_path / "x.pth")
    with pytest.raises(BadInput, match=r"pathlib.*torch\.save\(model\.state_dict"):
        files.read(tmp_path / "x.pth")


class TestAtomic:
    def test_a_failure_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        path.write_bytes(b"old")

        def fail(stream: object) -> None:
            raise RuntimeError("half way")

        with pytest.raises(RuntimeError):
            write_atomically(path, fail)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_failed_check_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        path.write_bytes(b"old")

        def reject(written: Path) -> None:
            assert written.read_bytes() == b"new"
            raise ValueError("wrong")

        with pytest.raises(ValueError, match="wrong"):
            write_atomically(path, lambda stream: stream.write(b"new") and None, reject)
        assert path.read_bytes() == b"old"

    def test_symlinks_and_inputs_are_refused(self, tmp_path: Path) -> None:
        target, link = tmp_path / "target", tmp_path / "link"
        target.touch()
        link.symlink_to(target)
        with pytest.raises(OutputRefused, match="not a regular file"):
            refuse_overwrite(link, force=True)
        with pytest.raises(OutputRefused, match="the input itself"):
            refuse_overwrite(target, force=True, inputs=(link,))


def test_save_safetensors_fixture_is_in_timm_layout(tmp_path: Path, source: StateDict) -> None:
    assert tensor_sha256s(files.read(save_safetensors(tmp_path / "x.safetensors", source))) == tensor_sha256s(source)


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_no_changed_byte_brings_a_traceback(tmp_path: Path, suffix: str) -> None:
    """Each byte of a small file set to several values: it is refused as bad input, or read as some tensors."""
    path = dump(tmp_path / f"x{suffix}", {"a": np.arange(3, dtype=np.float32), "b": np.zeros((2, 1), np.float16)})
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        for value in (0, whole[position] ^ 1, whole[position] ^ 0x80, ord("("), ord("t"), ord("R"), ord("b"), 0xFF):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                files.read(path)
            except BadInput:
                refused += 1
    assert refused > len(whole)
