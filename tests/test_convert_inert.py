"""What training checkpoints hold beside weights is inert: never made, and refused only where a weight should be."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime as dt
import enum
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import array, number, storage, tensor, text, torch_zip, weight

from convert import files
from convert.errors import BadInput
from convert.files.pickles import inert_pickle
from convert.files.pickles.numpy_stand_ins import interpret
from convert.files.pickles.pickle_values import Refused
from convert.files.pickles.torch_stand_ins import interpret_torch
from convert.sources import from_file


class Phase(enum.Enum):
    TRAINING = "training"


@dataclasses.dataclass
class Settings:
    lr: float
    schedule: list[int]


class History(dict[str, list[float]]):
    """A mapping of another package."""


def _criterion() -> Any:
    import torch

    return torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))


VALUES: dict[str, tuple[Callable[[], Any], str]] = {
    "namespace": (lambda: argparse.Namespace(lr=0.1, data=Path("x")), r"argparse\.Namespace"),
    "numpy scalar": (lambda: np.float64(2.5), r"numpy\._core\.multiarray\.scalar|a NumPy scalar"),
    "numpy dtype": (lambda: np.dtype("f4"), r"numpy\.dtype|a dtype 'f4'"),
    "numpy text": (lambda: np.array(["a", "b"]), r".*_reconstruct|.*dtype 'U1'"),
    "numpy objects": (lambda: np.array([{}, Path("x")], object), r".*_reconstruct|.*dtype 'O8'"),
    "path": (lambda: Path("x"), r"pathlib\.PosixPath"),
    "date": (lambda: dt.datetime(2021, 5, 4, tzinfo=dt.UTC), r"datetime\.datetime"),
    "enum": (lambda: Phase.TRAINING, r"test_convert_inert\.Phase|getattr"),
    "defaultdict": (lambda: collections.defaultdict(list, {"loss": [1.0]}), r"collections\.defaultdict"),
    "dataclass": (lambda: Settings(0.1, [1, 2]), r"test_convert_inert\.Settings"),
    "mapping of a class": (lambda: History(loss=[1.0, 0.5]), r"test_convert_inert\.History"),
    "set": (lambda: {"a", 1, (2, 3)}, "a set"),
    "frozenset": (lambda: frozenset({"a"}), r"a (frozen)?set|__builtin__\.frozenset"),
    "complex": (lambda: 1 + 2j, "a complex"),
    "criterion": (_criterion, r"torch\.nn\.modules\.loss\.CrossEntropyLoss"),
    "odd keys": (lambda: {(0, "a"): 1, 0.5: 2, None: 3, True: 4, b"b": 5, Path("x"): 6, np.dtype("f4"): 7}, "a dict"),
}
BY_PADDLE = sorted(set(VALUES) - {"criterion"})


def by_torch(path: Path, content: dict[str, Any]) -> Path:
    import torch

    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", VALUES)
def test_a_pth_with_it_beside_the_weights_is_read(tmp_path: Path, frameworks: None, name: str) -> None:
    import torch

    content = {"state_dict": {"a": torch.arange(3.0)}, "more": VALUES[name][0](), "list": [VALUES[name][0]()]}
    assert files.read(by_torch(tmp_path / "x.pth", content))["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", VALUES)
def test_a_pth_with_it_for_a_weight_is_refused_by_its_name(tmp_path: Path, frameworks: None, name: str) -> None:
    import torch

    path = by_torch(tmp_path / "x.pth", {"state_dict": {"norm.bias": torch.zeros(3), "head.bias": VALUES[name][0]()}})
    with pytest.raises(BadInput, match=rf"'head.bias' is not a tensor but ({VALUES[name][1]})"):
        from_file(path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("name", BY_PADDLE)
def test_a_pdparams_with_it_beside_the_weights_is_read(tmp_path: Path, name: str, protocol: int) -> None:
    content = {"model": {"a": np.arange(3.0)}, "more": VALUES[name][0](), "list": [VALUES[name][0]()]}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(content, protocol))
    assert files.read(tmp_path / "x.pdparams")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("name", BY_PADDLE)
def test_a_pdparams_with_it_for_a_weight_is_refused_by_its_name(tmp_path: Path, name: str, protocol: int) -> None:
    content = {"norm.bias": np.zeros(3), "head.bias": VALUES[name][0]()}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(BadInput, match=rf"'head.bias' is not a tensor but ({VALUES[name][1]})"):
        from_file(tmp_path / "x.pdparams")


def test_the_unknown_names_are_noted_in_their_order() -> None:
    content = {"a": np.zeros(1), "b": [dt.date(2021, 5, 4), Path("x"), dt.date(2021, 6, 1)]}
    found = interpret(memoryview(pickle.dumps(content, 4)))
    assert found.foreign == ("datetime.date", "pathlib.PosixPath")
    assert interpret(memoryview(pickle.dumps({"a": np.zeros(1)}, 4))).foreign == ()


def test_the_unknown_names_of_a_pth_are_noted() -> None:
    pickled = weight(b"}" + text("a") + tensor() + b"s" + text("b") + b"cos\nsystem\n", "state_dict", 2)
    assert interpret_torch(memoryview(pickled), lambda _: memoryview(bytes(24)), room=99).foreign == ("os.system",)


SET = b"coperator\nsetitem\n"
"""What sets an entry of a dict that it is given."""
REFERENCE, KEEP = b"h\x01", b"q\x01"
TAKING: dict[str, bytes] = {
    "call": SET + b"(" + REFERENCE + text("a") + b"NtR",
    "call, in a list": SET + b"(](" + REFERENCE + b"etR",
    "call, in a dict": SET + b"(}" + text("x") + REFERENCE + b"stR",
    "call of what was made": b"cfunctools\npartial\n" + SET + b"\x85R" + REFERENCE + text("a") + b"N\x87R",
    "new object": b"cx\nKind\n" + REFERENCE + b"\x85\x81",
    "new object with keywords": b"cx\nKind\n)}" + text("a") + REFERENCE + b"s\x92",
    "state": b"cx\nKind\n)\x81}" + text("a") + REFERENCE + b"sb",
    "item": b"cx\nKind\n)\x81" + REFERENCE + b"a",
    "items": b"cx\nKind\n)\x81(" + REFERENCE + REFERENCE + b"e",
    "entry": b"cx\nKind\n)\x81" + text("a") + REFERENCE + b"s",
    "entries": b"cx\nKind\n)\x81(" + text("a") + REFERENCE + b"u",
    "scalar's object": b"cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tR(K\x03"
    + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb" + REFERENCE + b"\x86R",
}  # fmt: skip


@pytest.mark.parametrize("what", ["the weights", "a weight", "the root"])
@pytest.mark.parametrize("taking", TAKING)
def test_weights_that_something_unknown_is_given_are_refused(tmp_path: Path, taking: str, what: str) -> None:
    kept = {place: KEEP if place == what else b"" for place in ("the weights", "a weight", "the root")}
    weights = b"}" + kept["the weights"] + text("a") + array() + kept["a weight"] + b"s"
    pickled = b"\x80\x04}" + kept["the root"] + b"(" + text("model") + weights + text("more") + TAKING[taking] + b"u."
    (tmp_path / "x.pdparams").write_bytes(pickled)
    with pytest.raises(BadInput, match=r"hands its own weights to something unknown.*nothing was executed"):
        files.read(tmp_path / "x.pdparams")


def test_the_check_of_what_was_given_away_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the forged file is read, and pickle gives other weights than are read."""
    weights = b"}" + KEEP + text("a") + array() + b"s"
    forged = b"\x80\x04}(" + text("model") + weights + text("more") + TAKING["call"] + b"u."
    assert pickle.loads(forged)["model"] == {"a": None}
    (tmp_path / "x.pdparams").write_bytes(forged)
    monkeypatch.setattr(inert_pickle, "check_untouched", lambda *_: None)
    assert files.read(tmp_path / "x.pdparams")["a"].tolist() == [0, 0]


def test_a_tensor_whose_storage_is_given_away_is_refused(tmp_path: Path) -> None:
    """Something may write to the storage by a second tensor in it, or by the storage itself."""
    for given in (tensor(), storage()):
        more = b"ctorch\nFloatTensor.fill_\n" + given + b"K\x01\x86R"
        content = b"\x80\x02}(" + text("model") + b"}" + text("a") + tensor() + b"s" + text("more") + more + b"u."
        (tmp_path / "x.pth").write_bytes(torch_zip(content))
        with pytest.raises(BadInput, match="hands its own weights"):
            files.read(tmp_path / "x.pth")


@pytest.mark.parametrize(("size", "refused"), [(50, False), (51, True)])
def test_arrays_that_share_bytes_share_them_in_numpy_too(tmp_path: Path, size: int, refused: bool) -> None:
    data = b"B" + (4 * size).to_bytes(4, "little") + bytes(4 * size) + b"q\x05"
    shape = number(size) + b"\x85"
    more = b"cx\nfill\n" + array(shape, data=b"h\x05") + b"\x85R"
    content = b"\x80\x04}(" + text("model") + b"}" + text("a") + array(shape, data=data) + b"s" + text("b") + more
    (tmp_path / "x.pdparams").write_bytes(content + b"u.")
    if refused:
        with pytest.raises(BadInput, match="hands its own weights"):
            files.read(tmp_path / "x.pdparams")
    else:
        assert list(files.read(tmp_path / "x.pdparams")) == ["a"]


def test_numpy_does_share_them() -> None:
    """What the test above is for."""
    data = bytes(4000)
    arrays = [np.zeros(0, "f4"), np.zeros(0, "f4")]
    for one in arrays:
        one.__setstate__((1, (1000,), np.dtype("f4"), False, data))
    assert np.shares_memory(*arrays)
    assert arrays[0].flags.writeable


def test_a_key_that_may_equal_the_weights_name_is_refused(tmp_path: Path) -> None:
    """numpy.str_ is a kind of text: with it pickle replaces the entry that is there already."""
    key = b"cnumpy\nstr_\n" + text("model") + b"\x85R"
    other = b"}" + text("a") + array(data=b"B\x08\x00\x00\x00" + b"\x01" * 8) + b"s"
    forged = b"\x80\x04}(" + text("model") + b"}" + text("a") + array() + b"s" + key + other + b"u."
    assert pickle.loads(forged)["model"]["a"].tolist() != [0, 0]
    (tmp_path / "x.pdparams").write_bytes(forged)
    with pytest.raises(BadInput, match="hands its own weights"):
        files.read(tmp_path / "x.pdparams")


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (b"}" + text("items") + text("x") + b"s", "attributes of an OrderedDict"),
        (b"}(" + text("_metadata") + b"}" + text("keys") + b"Nu", "attributes of an OrderedDict"),
        (b"}", "attributes of an OrderedDict"),
        (b"N}" + text("_metadata") + b"}s\x86", "attributes of an OrderedDict"),
    ],
)
def test_attributes_of_a_dict_are_refused(tmp_path: Path, opcodes: bytes, reason: str) -> None:
    weights = b"ccollections\nOrderedDict\n)R" + text("a") + array() + b"s" + opcodes + b"b"
    (tmp_path / "x.pdparams").write_bytes(b"\x80\x04" + weights + b".")
    with pytest.raises(BadInput, match=reason):
        files.read(tmp_path / "x.pdparams")


def test_a_dict_with_the_modules_versions_is_read(tmp_path: Path) -> None:
    weights = b"ccollections\nOrderedDict\n)R" + text("a") + array() + b"s}" + text("_metadata") + b"}sb"
    (tmp_path / "x.pdparams").write_bytes(b"\x80\x04" + weights + b".")
    assert list(files.read(tmp_path / "x.pdparams")) == ["a"]
    (tmp_path / "x.pdparams").write_bytes(b"\x80\x04}" + text("a") + array() + b"s}" + text("_metadata") + b"}sb.")
    with pytest.raises(BadInput, match="not an array"):  # a plain dict has no attributes
        files.read(tmp_path / "x.pdparams")


A_SET, A_SET_OF_A_LIST = b"cbuiltins\nset\n]\x85R", b"cbuiltins\nfrozenset\n](]e\x85R"


@pytest.mark.parametrize("key", [b"]", b"}", b"](K\x01e\x85", b"(K\x01}tK\x02\x86", b"\x8f", A_SET, A_SET_OF_A_LIST])
def test_a_key_without_a_hash_is_refused_as_by_pickle(key: bytes) -> None:
    pickled = b"\x80\x04}(" + text("a") + array() + text("b") + b"}" + key + b"Nsu."
    with pytest.raises(TypeError):
        pickle.loads(pickled)
    with pytest.raises(Refused, match="no hash"):
        interpret(memoryview(pickled))


def test_a_name_of_a_megabyte_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "x.pdparams").write_bytes(weight(text("m" * 10**6) + text("x") + b"\x93"))
    with pytest.raises(BadInput, match="a name of 1,000,001 characters"):
        files.read(tmp_path / "x.pdparams")


def test_nothing_of_it_is_done_for_python_2(tmp_path: Path) -> None:
    from convert.files.pickles.numpy_stand_ins import interpret_python2

    for opcodes in (b"cos\nsystem\n", b"\x8f", b"(\x91"):
        with pytest.raises(Refused, match=r"os\.system|uses (EMPTY_SET|FROZENSET)"):
            interpret_python2(weight(opcodes))
