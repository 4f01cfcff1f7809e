"""What the libraries write reads equal to what they read themselves, and what we write equal to what was given."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from benign import BFLOAT16, WRITERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from convert import files
from convert.arrays import Array, StateDict, describe_difference, same_bits
from convert.errors import BadInput, UsageProblem
from convert.files import pdparams
from convert.files.sets import Selection
from convert.sources import from_file

VARIANTS = [pytest.param(suffix, name, id=f"{suffix} {name}") for suffix, names in WRITERS.items() for name in names]


def loaded(path: Path) -> dict[str, Array]:
    """Return what the library that owns the format reads, as NumPy arrays."""
    load = {".pdparams": by_paddle, ".pth": by_torch, ".npz": by_numpy, ".safetensors": by_safetensors}[path.suffix]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(load(path))


def by_paddle(path: Path) -> Iterator[tuple[str, Array]]:
    """Yield what paddle.load returns; bfloat16 comes as uint16, and some of it lies under `model`."""
    import paddle

    content = paddle.load(str(path), return_numpy=True)
    for key, array in content.get("model", content).items():
        yield key, np.asarray(array).view(BFLOAT16) if np.asarray(array).dtype == np.uint16 else np.asarray(array)


def by_torch(path: Path) -> Iterator[tuple[str, Array]]:
    import torch

    content = torch.load(path, weights_only=True)
    for key, tensor in content.get("state_dict", content).items():
        plain = tensor.detach()
        bf16 = plain.dtype == torch.bfloat16
        yield key, plain.view(torch.int16).numpy().view(BFLOAT16) if bf16 else plain.numpy()


def by_numpy(path: Path) -> Iterator[tuple[str, Array]]:
    with np.load(path) as archive:
        yield from archive.items()


def by_safetensors(path: Path) -> Iterator[tuple[str, Array]]:
    from safetensors.numpy import load_file

    yield from load_file(path).items()


def assert_same(found: StateDict, expected: Mapping[str, Array]) -> None:
    assert sorted(found) == sorted(expected)
    for key, array in expected.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert same_bits(found[key], native), f"{key}: {describe_difference(found[key], native)}"


@pytest.mark.parametrize(("suffix", "name"), VARIANTS)
def test_what_a_library_writes_reads_equal_to_what_it_reads(
    tmp_path: Path, frameworks: None, suffix: str, name: str
) -> None:
    path = tmp_path / f"x{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        WRITERS[suffix][name](path)
    expected = loaded(path)
    assert expected
    assert_same(files.read(path), expected)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("elements", [1, 7, 8, 23, 24])
def test_large_tensors_that_paddle_cuts_are_joined(
    tmp_path: Path, frameworks: None, monkeypatch: pytest.MonkeyPatch, protocol: int, elements: int
) -> None:
    """The limit of a slice is 2**30 - 1 bytes, which is lowered here to so many float32 elements."""
    import paddle
    from paddle.framework import io_utils

    monkeypatch.setattr(io_utils, "int", lambda value: elements if value > 2**20 else int(value), raising=False)
    numbers = np.arange(24, dtype=np.float32).reshape(4, 6)
    path = tmp_path / "x.pdparams"
    paddle.save({"a": paddle.to_tensor(numbers), "b": paddle.to_tensor(numbers[0, :1])}, str(path), protocol=protocol)
    monkeypatch.undo()
    assert (b"UnpackBigParamInfor@@" in path.read_bytes()) == (protocol < 4 and elements < 24)
    assert_same(files.read(path), loaded(path))
    assert_same(files.read(path), {"a": numbers, "b": numbers[0, :1]})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": {"a": 1.0}}, "'a' is not a tensor but a float"),
        ({"a": np.float32(1)}, "'a' is not a tensor but a NumPy scalar"),
        ([np.zeros(1)], "holds a list"),
    ],
)
def test_a_nest_that_holds_no_state_dict_is_named(
    tmp_path: Path, frameworks: None, content: object, reason: str
) -> None:
    import paddle

    paddle.save(content, str(tmp_path / "x.pdparams"))
    with pytest.raises(BadInput, match=reason):
        files.read(tmp_path / "x.pdparams")


def test_averaged_weights_of_a_pdparams_have_to_be_chosen(tmp_path: Path, frameworks: None) -> None:
    import paddle

    path = tmp_path / "x.pdparams"
    paddle.save({"model": {"a": np.zeros(1)}, "model_ema": {"a": np.ones(1)}}, str(path))
    with pytest.raises(UsageProblem, match="--ema or --no-ema"):
        files.read(path)
    assert [from_file(path, Selection(ema=ema)).state_dict["a"].item() for ema in (False, True)] == [0.0, 1.0]


@pytest.mark.parametrize("name", ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"])
def test_torch_s_environment_changes_nothing(
    tmp_path: Path, frameworks: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import torch

    path, odd, beside = tmp_path / "x.pth", tmp_path / "odd.pth", tmp_path / "beside.pth"
    torch.save({"a": torch.zeros(2)}, path)
    torch.save({"a": torch.zeros(2), "path": Path("x")}, odd)
    torch.save({"model": {"a": torch.zeros(2)}, "path": Path("x")}, beside)
    monkeypatch.setenv(name, "1")
    assert list(files.read(path)) == list(files.read(beside)) == ["a"]
    with pytest.raises(BadInput, match=r"pathlib.*nothing was executed.*torch\.save\(model\.state_dict"):
        files.read(odd)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pickle_protocol": 4}, r"protocol 4, torch\.save writes 2.*weights_only=False"),
        ({"_use_new_zipfile_serialization": False}, "torch's container from before 1.6.*weights_only=True"),
    ],
)
def test_old_and_odd_pth_are_refused_with_a_hint(
    tmp_path: Path, frameworks: None, options: dict[str, Any], reason: str
) -> None:
    import torch

    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pth", **options)
    with pytest.raises(BadInput, match=reason):
        files.read(tmp_path / "x.pth")


def test_torchscript_is_refused_with_a_hint(tmp_path: Path, frameworks: None) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "x.pth")
    with pytest.raises(BadInput, match=r"TorchScript.*nothing was executed.*torch\.jit\.load\(FILE\)\.state_dict"):
        files.read(tmp_path / "x.pth")


def test_reading_a_pth_needs_no_torch(tmp_path: Path, frameworks: None) -> None:
    from test_convert_imports import FRAMEWORKS, imported

    WRITERS[".pth"]["module"](tmp_path / "x.pth")
    assert imported(["inspect", str(tmp_path / "x.pth")], FRAMEWORKS) == "[]"


DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?", "bfloat16"]


@st.composite
def any_array(draw: st.DrawFn) -> Array:
    """An array of any supported dtype and layout, NaN payloads and negative zeros included."""
    name = draw(st.sampled_from(DTYPES))
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    shape = draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    bits = draw(arrays(f"u{dtype.itemsize}", shape))
    array = (bits & 1).astype(bool) if name == "?" else bits.view(dtype)
    array = np.asarray(array).transpose(draw(st.permutations(range(array.ndim))))
    steps = draw(st.lists(st.sampled_from([1, 2, -1]), min_size=array.ndim, max_size=array.ndim))
    array = array[tuple(slice(None, None, step) for step in steps)]
    return np.asfortranarray(array).reshape(array.shape, order="F") if draw(st.booleans()) else np.asarray(array)


STATE_DICTS = st.dictionaries(
    st.from_regex(r"[a-zé_]{1,8}(\.[0-9a-z]{1,3}){0,2}", fullmatch=True), any_array(), min_size=1, max_size=3
)
suppressed = [*settings().suppress_health_check, HealthCheck.function_scoped_fixture]
many = settings(max_examples=150, suppress_health_check=suppressed)
few = settings(max_examples=40, suppress_health_check=suppressed)


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
@many
@given(state_dict=STATE_DICTS)
def test_what_is_read_back_is_what_was_written(tmp_path: Path, suffix: str, state_dict: StateDict) -> None:
    path = tmp_path / f"x{suffix}"
    with path.open("wb") as stream:
        files.write(path, stream, state_dict)
    back = files.read(path)
    assert list(back) == list(state_dict)
    assert_same(back, state_dict)


@many
@given(state_dict=STATE_DICTS, compressed=st.booleans(), big=st.booleans())
def test_what_numpy_saves_is_read(tmp_path: Path, state_dict: StateDict, compressed: bool, big: bool) -> None:
    swapped = {
        key: array.astype(array.dtype.newbyteorder(">")) if big and array.dtype != BFLOAT16 else array
        for key, array in state_dict.items()
    }
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", **swapped)
    assert_same(files.read(tmp_path / "x.npz"), state_dict)


@few
@given(state_dict=STATE_DICTS)
def test_what_torch_saves_is_read(tmp_path: Path, frameworks: None, state_dict: StateDict) -> None:
    import torch

    tensors = {}
    for key, array in state_dict.items():
        view = array.view(np.int16) if array.dtype == BFLOAT16 else array
        positive = all(stride >= 0 for stride in view.strides)
        tensor = torch.from_numpy(view if positive and view.flags.writeable else view.copy())
        tensors[key] = tensor.view(torch.bfloat16) if array.dtype == BFLOAT16 else tensor
    torch.save(tensors, tmp_path / "x.pth")
    assert_same(files.read(tmp_path / "x.pth"), state_dict)


@few
@given(state_dict=STATE_DICTS, protocol=st.sampled_from([2, 3, 4]), nested=st.booleans())
def test_what_paddle_saves_is_read(
    tmp_path: Path, frameworks: None, state_dict: StateDict, protocol: int, nested: bool
) -> None:
    """As arrays, which paddle.save takes as they are; bfloat16 as the uint16 that it makes of such tensors."""
    import paddle

    plain = {key: array.view(np.uint16) if array.dtype == BFLOAT16 else array for key, array in state_dict.items()}
    paddle.save({"model": plain} if nested else plain, str(tmp_path / "x.pdparams"), protocol=protocol)
    assert_same(files.read(tmp_path / "x.pdparams"), state_dict)


def test_a_shared_storage_is_read_for_each_of_its_tensors(tmp_path: Path, frameworks: None) -> None:
    import torch

    whole = torch.arange(12.0)
    parts = {"whole": whole, "rows": whole.reshape(3, 4), "columns": whole.reshape(3, 4).T, "tail": whole[7:]}
    torch.save(parts, tmp_path / "x.pth")
    assert (tmp_path / "x.pth").stat().st_size < 3000
    assert_same(files.read(tmp_path / "x.pth"), {key: tensor.numpy() for key, tensor in parts.items()})


def test_many_names_for_one_tensor_are_within_the_limit(tmp_path: Path, frameworks: None) -> None:
    import torch

    tied = torch.zeros(3_000_000)
    torch.save({str(i): tied for i in range(6)}, tmp_path / "x.pth")
    assert len(files.read(tmp_path / "x.pth")) == 6


def test_the_names_of_slices_are_paddle_s() -> None:
    pytest.importorskip("paddle")
    from paddle.framework import io_utils

    source = Path(io_utils.__file__).read_text(encoding="utf-8")
    assert pdparams.SLICES in source
    assert all(word in source for word in ("OriginShape", "slices"))


def test_every_format_has_variants() -> None:
    assert all(len(names) >= 4 for names in WRITERS.values())
    assert len(set(itertools.chain(*WRITERS.values()))) > 15
