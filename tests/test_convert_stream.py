"""A conversion in one pass: the same tensors as by the plain way, whatever the blocks, and no fault goes unnoticed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import Result
from conftest import Run, save_safetensors

from convert import arrays, engine, files, job, output
from convert.arrays import Array, StateDict, location_of, row_blocks, tensor_sha256
from convert.disk import proofread
from convert.disk.hashing import file_sha256
from convert.disk.mapped import MappedFile
from convert.disk.proofread import PIECE_BYTES, Proofread
from convert.errors import IntegrityProblem
from convert.files import safetensors
from convert.files.pickles import array_pickle
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.rule_tables import Layout
from convert.mixer.shapes import TIMM_SHAPES
from convert.mixer.variants import MixerConfig, MixerKind
from convert.rules import Transform

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks a tensor, of which the last is shorter."""
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 100)


def unpickled(path: Path) -> dict[str, Any]:
    """Return what the standard library's unpickler gives, which knows nothing of ours."""
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore", DeprecationWarning)
        return pickle.load(file)  # type: ignore[no-any-return]


def refused(result: Result, code: int, says: str, folder: Path, *left: Path) -> None:
    """Check for one sentence, the exit code, and that nothing is in the folder but what was there."""
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert set(folder.iterdir()) == set(left)


class TestSameAsThePlainWay:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("family", TIMM_SHAPES)
    def test_every_family_and_dtype(
        self,
        mixer_convert: Run,
        tmp_path: Path,
        config: MixerConfig,
        family: MixerKind,
        dtype: type,
        small_blocks: None,
    ) -> None:
        """In timm's layout whatever has two axes is a Linear weight."""
        weights = init_state_dict(replace(config, family=family), 0)
        cast = {key: array.astype(dtype) for key, array in weights.items()}
        checkpoint = save_safetensors(tmp_path / "timm.safetensors", cast)
        assert mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "x.pdparams").exit_code == 0
        found = unpickled(tmp_path / "x.pdparams")
        found.pop("StructuredToParameterName@@")
        assert found.keys() == cast.keys()
        for key, array in cast.items():
            expected = array.view(np.uint16) if dtype is ml_dtypes.bfloat16 else array
            np.testing.assert_array_equal(found[key], expected.T if array.ndim == 2 else expected, strict=True)

    @pytest.mark.parametrize("transform", Transform)
    @pytest.mark.parametrize("where", ["in memory", "in a file", "turned in a file"])
    def test_every_transform_in_blocks(
        self, tmp_path: Path, transform: Transform, where: str, small_blocks: None
    ) -> None:
        axes = {Transform.TRANSPOSE: 2, Transform.HWIO_TO_OIHW: 4, Transform.OIHW_TO_HWIO: 4, Transform.SQUEEZE: 3}
        shape = {1: (101,), 2: (7, 13), 3: (1, 1, 101), 4: (5, 3, 4, 7)}[axes.get(transform, 1)]
        plain = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        stored = plain.T if where == "turned in a file" else plain
        path = save_safetensors(tmp_path / "x.safetensors", {"before": plain[..., :1], "x": stored})
        array = plain if where == "in memory" else files.read(path)["x"]
        array = array.T if where == "turned in a file" else array
        expected = transform.apply(plain)
        target = np.empty(expected.shape, np.float32)
        engine.lay_out(array, transform, target)
        np.testing.assert_array_equal(target, expected, strict=True)
        assert tensor_sha256(array) == tensor_sha256(plain)

    def test_blocks_of_a_file_are_read_and_not_touched(self, tmp_path: Path, small_blocks: None) -> None:
        array = np.arange(1000, dtype=np.float32).reshape(100, 10)
        read = files.read(save_safetensors(tmp_path / "x.safetensors", {"x": array}))["x"]
        blocks = [(block.copy(), np.shares_memory(block, read)) for block in row_blocks(read)]
        assert len(blocks) == 50
        np.testing.assert_array_equal(np.concatenate([block for block, _ in blocks]), array)
        assert not any(shared for _, shared in blocks)

    @pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (1,), (3, 1)])
    def test_odd_shapes_come_whole(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        array, path = np.ones(shape, np.float32), tmp_path / "x.safetensors"
        with path.open("wb") as file:
            files.write(path, file, {"x": array, "y": np.ones(3)})
        read = files.read(path)["x"]
        assert location_of(read) is not None
        assert sum(block.size for block in row_blocks(read)) == array.size
        assert tensor_sha256(read) == tensor_sha256(array)

    def test_no_more_are_laid_out_than_there_is_memory_for(
        self, monkeypatch: pytest.MonkeyPatch, config: MixerConfig, source: StateDict
    ) -> None:
        monkeypatch.setattr(engine, "SMALL_BYTES", 0)
        tensors = engine.laid_out(source, convert_state_dict(source, config))
        taken = [next(tensors) for _ in range(engine.TENSORS)]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, tensors)
            assert not wait([waiting], timeout=0.2).done
            taken[0].done()
            following = waiting.result(timeout=30)
        assert following.key not in [laid.key for laid in taken]

    def test_a_slice_of_a_file_is_found_where_it_lies(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        np.arange(100, dtype=np.uint8).tofile(path)
        whole = np.frombuffer(MappedFile(path), np.uint8)
        location = location_of(whole[40:].view(np.uint16)[3:])
        assert location is not None
        assert location[1] == 46
        assert location_of(whole[::2]) is None
        assert location_of(whole.copy()) is None


class TestBadSource:
    def test_a_nan_in_the_last_tensor_leaves_nothing(
        self, mixer_convert: Run, tmp_path: Path, source: StateDict, small_blocks: None
    ) -> None:
        last = list(source)[-1]
        assert last == "head.bias"
        broken = {**source, last: source[last].copy()}
        broken[last][-1] = np.inf
        checkpoint = save_safetensors(tmp_path / "x.safetensors", broken)
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.pdparams")
        refused(result, 3, f"{last}: x.safetensors has inf at index (6,), 1 element(s)", tmp_path, checkpoint)

    def test_of_two_the_first_in_the_file_is_named(self, mixer_convert: Run, tmp_path: Path, source: StateDict) -> None:
        broken = {key: source[key].copy() for key in reversed(source)}
        broken["stem.proj.bias"][0] = broken["head.weight"][3, 2] = np.nan
        path = tmp_path / "x.safetensors"
        with path.open("wb") as file:
            files.write(path, file, broken)
        result = mixer_convert("--checkpoint", path, "--out", tmp_path / "out.pdparams")
        refused(result, 3, "head.weight: x.safetensors has nan at index (3, 2)", tmp_path, path)

    @pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
    def test_a_source_that_gets_shorter_is_an_integrity_problem(
        self, mixer_convert: Run, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its last page is gone after its header was read; to touch the mapping there would kill the process."""
        config = MixerConfig(
            image_size=16,
            patch_size=4,
            num_blocks=1,
            hidden_dim=8,
            tokens_mlp_dim=4,
            channels_mlp_dim=6,
            num_classes=2000,
        )
        src: Layout = "timm" if suffix == ".safetensors" else "paddle"
        path, mapping = tmp_path / f"x{suffix}", job._map
        with path.open("wb") as file:
            files.write(path, file, convert_state_dict(init_state_dict(config, 0), config, dst=src).state_dict)

        def cut(*arguments: Any) -> Any:
            os.truncate(path, 4096)
            return mapping(*arguments)

        monkeypatch.setattr(job, "_map", cut)
        out = tmp_path / "out.safetensors"
        result = mixer_convert("--src", src, "--dst", "timm", "--checkpoint", path, "--out", out)
        refused(result, 5, f"{path}: it was cut short while it was being read", tmp_path, path)

    def test_a_nan_that_is_gone_again_is_an_integrity_problem(
        self, mixer_convert: Run, tmp_path: Path, source: StateDict, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = {**source, "norm.bias": np.full_like(source["norm.bias"], np.nan)}
        checkpoint = save_safetensors(tmp_path / "x.safetensors", broken)
        monkeypatch.setattr(engine, "check_finite", lambda *_: None)
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.pdparams")
        refused(result, 5, "changed while it was read", tmp_path, checkpoint)


def _flipped(write: Callable[[Array], memoryview]) -> Callable[[Array], memoryview]:
    def flip(array: Array) -> memoryview:
        data = bytearray(write(array))
        data[len(data) // 2] ^= 1
        return memoryview(data)

    return flip


class TestWriterFaults:
    """Whatever the writer or the disk does wrong, the output does not appear."""

    SAYS = "what was read back is not what was written"

    @pytest.mark.parametrize(("module", "suffix"), [(array_pickle, ".pdparams"), (safetensors, ".safetensors")])
    def test_a_writer_that_flips_a_bit(
        self,
        mixer_convert: Run,
        checkpoint: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        module: Any,
        suffix: str,
    ) -> None:
        monkeypatch.setattr(module, "canonical_bytes", _flipped(module.canonical_bytes))
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / f"out{suffix}")
        refused(result, 5, self.SAYS, tmp_path, checkpoint)

    @pytest.mark.parametrize("fault", ["another name", "another shape", "a byte more", "names exchanged"])
    def test_a_writer_whose_tensors_are_not_found(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
    ) -> None:
        write = files.write

        def wrong(path: Path, file: Any, state_dict: StateDict, contents: Iterator[Array], metadata: Any) -> None:
            heads = dict(state_dict)
            if fault == "another shape":
                heads["norm.bias"] = heads["norm.bias"][None]
            names = {"another name": {"norm.bias": "norm.bia"}}.get(fault, {})
            if fault == "names exchanged":
                names = {"norm.bias": "norm.weight", "norm.weight": "norm.bias"}
            write(path, file, {names.get(key, key): array for key, array in heads.items()}, contents, metadata)
            if fault == "a byte more":
                file.write(b"x")

        monkeypatch.setattr(output.files, "write", wrong)
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.safetensors", "--dst", "timm")
        assert result.exit_code == 5
        assert list(tmp_path.iterdir()) == [checkpoint]

    @pytest.mark.parametrize("at", [0, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 4])
    def test_a_disk_that_flips_a_bit(self, tmp_path: Path, at: int) -> None:
        data = np.random.default_rng(0).bytes(2 * PIECE_BYTES + 5)
        path = tmp_path / "x"

        class Faulty(io.FileIO):
            def write(self, piece: Any) -> int:
                wrong = bytearray(piece)
                if 0 <= at - self.tell() < len(wrong):
                    wrong[at - self.tell()] ^= 1
                return super().write(wrong)

        with Faulty(path, "wb+") as file, Proofread(file, path) as proofread:
            proofread.write(data)
            with pytest.raises(IntegrityProblem, match=self.SAYS):
                proofread.finish()

    def test_a_sound_disk_has_what_was_written(self, tmp_path: Path) -> None:
        data = np.random.default_rng(0).bytes(2 * PIECE_BYTES + 5)
        digest, done = hashlib.sha256(b"of a tensor "), threading.Event()
        with io.FileIO(tmp_path / "x", "wb+") as file, Proofread(file, tmp_path / "x") as proofread:
            proofread.write(b"head")
            assert proofread.expect(memoryview(data), digest, done.set) == 4
            proofread.write(data)
            proofread.write(b"tail")
            sha256 = proofread.finish()
        assert done.is_set()
        assert (tmp_path / "x").read_bytes() == b"head" + data + b"tail"
        assert sha256 == file_sha256(tmp_path / "x")
        assert digest.hexdigest() == hashlib.sha256(b"of a tensor " + data).hexdigest()

    def test_after_a_fault_memory_still_comes_back(
        self, mixer_convert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
    ) -> None:
        """More tensors follow than there is memory for at a time; were one kept, the writer would wait forever."""
        monkeypatch.setattr(engine, "SMALL_BYTES", 0)
        preadv = os.preadv
        monkeypatch.setattr(proofread.os, "preadv", lambda fd, buffers, at: preadv(fd, buffers, max(0, at - 1)))
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.pdparams")
        refused(result, 5, self.SAYS, tmp_path, checkpoint)

    def test_a_full_disk_ends_the_reading_too(
        self, mixer_convert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
    ) -> None:
        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        before = threading.active_count()
        monkeypatch.setattr(output.files, "write", refuse)
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.pdparams")
        refused(result, 4, "The disk is full", tmp_path, checkpoint)
        assert threading.active_count() == before
