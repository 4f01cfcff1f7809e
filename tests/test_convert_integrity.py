"""`verify FILE` against a manifest, and inputs that change while they are read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import Run, save_safetensors
from forked import Forker

from convert import files, output
from convert.arrays import StateDict
from convert.disk import mapped
from convert.disk.hashing import file_sha256
from convert.disk.mapped import HeldFile
from convert.disk.unchanged import check_unchanged, unchanged
from convert.errors import IntegrityProblem, IOProblem
from convert.evidence.recorded import manifest_path
from convert.files.content import Content
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.rule_tables import Layout
from convert.mixer.variants import MixerConfig

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(params=[".pdparams", ".safetensors"])
def out(request: pytest.FixtureRequest, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> Path:
    """An output with its manifest."""
    out = tmp_path / f"out{request.param}"
    assert mixer_convert("--checkpoint", checkpoint, "--out", out).exit_code == 0
    return out


def rewrite(path: Path, change: Change) -> None:
    """Write a checkpoint anew with other tensors."""
    tensors = {key: np.array(array) for key, array in files.read(path).items()}
    change(tensors)
    with path.open("wb") as stream:
        files.write(path, stream, tensors)


def edit(manifest: Path, change: Change) -> None:
    content = json.loads(manifest.read_text())
    change(content)
    manifest.write_text(json.dumps(content))


def in_json(result: Result) -> Any:
    return json.loads(result.stdout)


class TestVerifyFile:
    def test_what_was_written_is_intact(self, mixer_convert: Run, out: Path) -> None:
        result = mixer_convert("verify", out)
        assert result.exit_code == 0, result.output
        assert f"{out.name} is the output that {out.name}.manifest.json describes: 54 tensors" in result.stdout
        assert in_json(mixer_convert("verify", out, "--json", "-"))["intact"] is True

    @pytest.mark.parametrize(
        ("change", "sign"),
        [
            (lambda t: t["norm.bias"].view(np.uint8).__setitem__(0, t["norm.bias"].view(np.uint8)[0] ^ 1), "!"),
            (lambda t: t.update({"norm.bias": t["norm.bias"].astype(np.float16)}), "!"),
            (lambda t: t.update({"norm.bias": t["norm.bias"][None]}), "!"),
            (lambda t: t.pop("norm.bias"), "-"),
            (lambda t: t.update({"extra": t["norm.bias"]}), "+"),
        ],
        ids=["bit", "dtype", "shape", "missing", "extra"],
    )
    def test_the_tensor_that_changed_is_named(self, mixer_convert: Run, out: Path, change: Change, sign: str) -> None:
        rewrite(out, change)
        result = mixer_convert("verify", out)
        assert result.exit_code == 5
        name = "extra" if sign == "+" else "norm.bias"
        assert f"{sign} {name}: " in result.stdout
        assert "1 tensors differ of 54" in result.stdout
        found = in_json(mixer_convert("verify", out, "--json", "-"))
        assert found["intact"] is False
        assert found[{"!": "changed", "-": "missing", "+": "extra"}[sign]] == [name]

    def test_every_bit_of_the_data_counts(self, mixer_convert: Run, out: Path) -> None:
        """The last byte of the data, and the last of the file."""
        whole = out.read_bytes()
        position = whole.rindex(np.asarray(files.read(out)["head.bias"]).tobytes())
        for at in (position, len(whole) - 1):
            out.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
            assert mixer_convert("verify", out).exit_code == 5

    def test_other_bytes_with_the_same_tensors(self, mixer_convert: Run, tmp_path: Path, checkpoint: Path) -> None:
        out = tmp_path / "out.safetensors"
        assert mixer_convert("--checkpoint", checkpoint, "--out", out).exit_code == 0
        save_safetensors(out, dict(reversed(files.read(out).items())))
        result = mixer_convert("verify", out)
        assert result.exit_code == 5
        assert "! out.safetensors: its SHA-256 changed" in result.stdout
        assert "its bytes changed, its 54 tensors did not" in result.stdout

    @pytest.mark.parametrize("size", [0, 1, 100, 5000])
    def test_a_truncated_file(self, mixer_convert: Run, out: Path, size: int) -> None:
        with out.open("r+b") as stream:
            stream.truncate(size)
        result = mixer_convert("verify", out)
        assert result.exit_code == 5
        assert "cannot be read any more" in result.stdout
        assert in_json(mixer_convert("verify", out, "--json", "-"))["unreadable"]

    def test_no_manifest(self, mixer_convert: Run, checkpoint: Path) -> None:
        result = mixer_convert("verify", checkpoint)
        assert result.exit_code == 4
        assert "timm.safetensors.manifest.json: there is no such manifest. Name it with --manifest" in result.stderr

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.clear(),
            lambda m: m.pop("tensors"),
            lambda m: m.update(tensors=[1]),
            lambda m: m.update(output=None),
            lambda m: m["tensors"].append(m["tensors"][0]),
            lambda m: m["tensors"].pop(),
            lambda m: m["tensors"][3].update(target_sha256="0" * 64),
            lambda m: m["tensors"][3].update(target_sha256=7),
            lambda m: m["output"].update(sha256="x"),
            lambda m: m["source"].update(shards=[]),
        ],
    )
    def test_a_damaged_manifest(self, mixer_convert: Run, out: Path, change: Change) -> None:
        edit(manifest_path(out), change)
        result = mixer_convert("verify", out)
        assert result.exit_code == 3, result.output
        assert f"{manifest_path(out)}: it is damaged" in result.stderr

    @pytest.mark.parametrize("content", [b"", b"[", b"[]", b"\xff", b"[" * 100_000, b'{"a": 1}'])
    def test_a_manifest_that_is_none(self, mixer_convert: Run, out: Path, content: bytes) -> None:
        manifest_path(out).write_bytes(content)
        assert mixer_convert("verify", out).exit_code == 3

    def test_any_byte_of_the_manifest_or_the_file(self, mixer_convert: Run, out: Path) -> None:
        """No flipped bit brings a traceback; one in a hash never passes for another tensor."""
        for path in (manifest_path(out), out):
            whole = path.read_bytes()
            for position in range(0, len(whole), len(whole) // 97):
                path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
                result = mixer_convert("verify", out)
                assert result.exit_code in ((5,) if path == out else (0, 3, 5)), result.output
            path.write_bytes(whole)

    def test_wrong_usage(self, mixer_convert: Run, out: Path, checkpoint: Path, tmp_path: Path) -> None:
        both = mixer_convert("verify", out, checkpoint, "--manifest", manifest_path(out))
        assert both.exit_code == 2
        assert "--manifest goes with one file" in both.stderr
        none = mixer_convert("verify", tmp_path / "none.pdparams")
        assert none.exit_code == 4
        assert f"{tmp_path / 'none.pdparams'}: No such file" in none.stderr
        assert mixer_convert("verify", tmp_path, "--manifest", manifest_path(out)).exit_code == 3


class TestVerifySource:
    def test_the_source_against_the_manifest_of_the_output(
        self, mixer_convert: Run, checkpoint: Path, out: Path
    ) -> None:
        result = mixer_convert("verify", checkpoint, "--manifest", manifest_path(out))
        assert result.exit_code == 0, result.output
        assert f"timm.safetensors is the source that {out.name}.manifest.json describes" in result.stdout
        rewrite(checkpoint, lambda tensors: tensors.update({"stem.proj.bias": -tensors["stem.proj.bias"]}))
        result = mixer_convert("verify", checkpoint, "--manifest", manifest_path(out))
        assert result.exit_code == 5
        assert "! stem.proj.bias: it changed" in result.stdout
        assert "is not the source" in result.stdout

    def test_the_output_moved_elsewhere(self, mixer_convert: Run, out: Path, tmp_path: Path) -> None:
        moved = tmp_path / f"elsewhere{out.suffix}"
        shutil.copy(out, moved)
        result = mixer_convert("verify", moved, "--manifest", manifest_path(out))
        assert result.exit_code == 0
        assert "is the output" in result.stdout

    def test_a_source_that_cannot_be_read_any_more(self, mixer_convert: Run, checkpoint: Path, out: Path) -> None:
        checkpoint.write_bytes(checkpoint.read_bytes()[:999])
        result = mixer_convert("verify", checkpoint, "--manifest", manifest_path(out))
        assert result.exit_code == 5
        assert "is not the source" in result.stdout

    @pytest.mark.parametrize("change", ["tensor", "bytes", "lost"])
    def test_a_shard(self, mixer_convert: Run, tmp_path: Path, source: StateDict, change: str) -> None:
        keys = list(source)
        shards = {"1.safetensors": keys[:20], "2.safetensors": keys[20:]}
        for name, held in shards.items():
            save_safetensors(tmp_path / name, {key: source[key] for key in held})
        index, out = tmp_path / "model.safetensors.index.json", tmp_path / "out.pdparams"
        index.write_text(json.dumps({"weight_map": {key: name for name, held in shards.items() for key in held}}))
        assert mixer_convert("--checkpoint", index, "--out", out).exit_code == 0
        assert mixer_convert("verify", index, "--manifest", manifest_path(out)).exit_code == 0
        second = tmp_path / "2.safetensors"
        if change == "tensor":
            rewrite(second, lambda tensors: tensors.update({keys[-1]: tensors[keys[-1]] + 1}))
        elif change == "bytes":
            reordered = dict(reversed([(key, np.array(array)) for key, array in files.read(second).items()]))
            with second.open("wb") as stream:
                files.write(second, stream, reordered)
        else:
            second.unlink()
        result = mixer_convert("verify", index, "--manifest", manifest_path(out))
        assert result.exit_code == 5
        said = {
            "tensor": keys[-1],
            "bytes": "! 2.safetensors: its SHA-256 changed",
            "lost": "2.safetensors, which is not",
        }
        assert said[change] in result.stdout


class TestChangingInputs:
    @pytest.mark.parametrize("change", ["written", "replaced", "removed", "same size and time"])
    def test_an_input_that_changes_exits_5_and_nothing_is_written(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        """Once the last tensor was read."""
        describe = output.describe_output

        def meanwhile(*known: Any) -> dict[str, Any]:
            described = describe(*known)
            content, status = checkpoint.read_bytes(), checkpoint.stat()
            if change == "replaced":
                (tmp_path / "new").write_bytes(content)
                (tmp_path / "new").replace(checkpoint)
            elif change == "removed":
                checkpoint.unlink()
            else:
                checkpoint.write_bytes(content[:-1] + b"?" if change == "same size and time" else content + b"?")
            if change == "same size and time":
                os.utime(checkpoint, ns=(status.st_atime_ns, status.st_mtime_ns))
            return described

        monkeypatch.setattr(output, "describe_output", meanwhile)
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.pdparams")
        assert result.exit_code == 5, result.output
        assert f"{checkpoint}: it changed while it was being read" in result.stderr
        assert set(tmp_path.iterdir()) <= {checkpoint}

    def test_a_shard_that_changes(
        self, mixer_convert: Run, tmp_path: Path, source: StateDict, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shard, index = save_safetensors(tmp_path / "1.safetensors", source), tmp_path / "m.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": dict.fromkeys(source, "1.safetensors")}))
        load = files.load

        def meanwhile(path: Path) -> Content:
            found = load(path)
            shard.touch()
            return found

        monkeypatch.setattr(files, "load", meanwhile)
        result = mixer_convert("--checkpoint", index, "--out", tmp_path / "out.pdparams")
        assert result.exit_code == 5
        assert "1.safetensors: it changed" in result.stderr

    @pytest.mark.parametrize("command", ["inspect", "verify", "verify two"])
    def test_the_other_commands_notice_too(
        self, mixer_convert: Run, checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, command: str
    ) -> None:
        load = files.load

        def meanwhile(path: Path) -> Content:
            content = load(path)
            path.touch()
            return content

        monkeypatch.setattr(files, "load", meanwhile)
        name, *more = command.split()
        result = mixer_convert(name, out, *([checkpoint] if more else []))
        assert result.exit_code == 5
        assert "changed while it was being read" in result.stderr

    def test_an_untouched_file_is_unchanged(self, checkpoint: Path) -> None:
        with unchanged(checkpoint) as snapshots:
            checkpoint.read_bytes()
        check_unchanged(snapshots)

    def test_a_change_is_said_rather_than_what_it_brought_about(self, checkpoint: Path) -> None:
        def read() -> None:
            with unchanged(checkpoint):
                checkpoint.touch()
                raise ValueError("damaged")

        with pytest.raises(IntegrityProblem, match="changed"):
            read()


class TestCutShort:
    """A mapped file that another program truncates: not a crash by SIGBUS, but a sentence."""

    @pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
    def test_at_every_step(self, forker: Forker, tmp_path: Path, square_config: MixerConfig, suffix: str) -> None:
        config = replace(square_config, num_blocks=1)
        path, out = tmp_path / f"source{suffix}", tmp_path / "out.safetensors"
        src: Layout = "paddle" if suffix == ".pdparams" else "timm"
        with path.open("wb") as stream:
            files.write(path, stream, convert_state_dict(init_state_dict(config, 0), config, dst=src).state_dict)
        arguments = "--src", src, "--checkpoint", path, "--out", out
        assert forker.run(*arguments)["status"] == 0
        whole, right, step, said = path.read_bytes(), file_sha256(out), 0, ""
        while path.stat().st_size < len(whole) or step == 0:
            step += 1
            path.write_bytes(whole)
            out.unlink(missing_ok=True)
            manifest_path(out).unlink(missing_ok=True)
            ended = forker.run(*arguments, cut=(str(path), 4096, step))
            said += ended["said"]
            assert ended["status"] in ((3, 5) if not out.exists() else (0,)), ended
            assert not out.exists() or file_sha256(out) == right
            assert out.exists() or ended["said"].count("Error: ") == 1
        assert step > 20
        if src == "timm":  # the other reader copies tensors as small as these
            assert f"Error: {path}: it was cut short while it was being read" in said, "the signal never came"
        assert f"Error: {path}: it changed while it was being read" in said

    @pytest.mark.slow
    def test_what_torch_has_mapped(
        self, forker: Forker, frameworks: None, tmp_path: Path, square_source: StateDict
    ) -> None:
        import torch

        path, out = tmp_path / "source.pth", tmp_path / "out.pdparams"
        torch.save({key: torch.from_numpy(np.array(array)) for key, array in square_source.items()}, path)
        ended = forker.run("--checkpoint", path, "--out", out, cut=(str(path), 4096, ".mixer-tmp-"))
        assert ended["status"] == 5, ended
        assert "cut short" in ended["said"]
        assert not out.exists()


CUT = """
import os, sys
from pathlib import Path
import numpy as np
from convert.disk import mapped
from convert.errors import IntegrityProblem, IOProblem
from convert.sources import from_file

path, how = Path(sys.argv[1]), sys.argv[2]
if how == "mapped":
    mapped.a_cut_is_told = lambda: True
if how == "read":
    whole = os.preadv
    def preadv(descriptor, buffers, offset):
        os.truncate(path, 4096)
        return whole(descriptor, [buffers[0][:4096]], offset)
    os.preadv = preadv
try:
    source = from_file(path)
    total = 0.0
    for array in source.state_dict.values():
        os.truncate(path, 4096)
        total += float(np.abs(array).sum())
    assert total > 0
    source.check_unchanged()
except IntegrityProblem as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pdparams"])
@pytest.mark.parametrize("how", ["used", "read"])
def test_a_cut_input_is_an_exception_in_a_process_that_is_not_ours(
    tmp_path: Path, square_config: MixerConfig, square_source: StateDict, suffix: str, how: str
) -> None:
    ended = cut_meanwhile(tmp_path / f"source{suffix}", square_config, square_source, how)
    assert ended.returncode == 0, ended.stderr
    assert f"source{suffix}: it changed while it was being read" in ended.stdout


def test_what_is_held_is_whole_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 64)
    assert bytes(HeldFile(path)) == path.read_bytes()
    with path.open("r+b") as stream:
        stream.truncate(2**40)  # a hole, which takes neither disk nor memory
    held = HeldFile(path)
    assert (len(held), held[:256], held[-5:]) == (2**40, bytes(range(256)), bytes(5))
    read = os.preadv

    def cut(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        os.truncate(path, 100)
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", cut)
    with pytest.raises(IntegrityProblem, match="it was cut short while it was being read"):
        HeldFile(path)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nothing tells how much memory is used here")
def test_a_sparse_file_takes_no_more_memory_than_what_is_written(tmp_path: Path) -> None:
    """A few bytes in each of its large pages: with such pages it would take 512 times as much."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    path, apart, count = tmp_path / "x", 2 << 20, 64
    with path.open("wb") as stream:
        for number in range(count):
            stream.seek(number * apart)
            stream.write(b"written")
    before = resident()
    held = HeldFile(path)
    assert held[-7:] == b"written"
    assert resident() - before < count * apart / 8


def test_a_system_without_large_pages_reads_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 64)
    monkeypatch.setattr(mapped.mmap, "MADV_HUGEPAGE", -1, raising=False)  # which no kernel knows
    assert bytes(HeldFile(path)) == path.read_bytes()


def test_a_mapped_input_that_is_cut_kills_such_a_process(
    tmp_path: Path, square_config: MixerConfig, square_source: StateDict
) -> None:
    """The proof that the cut is one."""
    ended = cut_meanwhile(tmp_path / "source.safetensors", square_config, square_source, "mapped")
    assert ended.returncode == -signal.SIGBUS


def test_a_file_that_does_not_fit_into_memory_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixer_convert: Run
) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 9 kB\nMemAvailable:       1 kB\n")
    monkeypatch.setattr("convert.disk.mapped.MEMORY", memory)
    with pytest.raises(IOProblem, match="do not fit into the memory that is free"):
        files.read(checkpoint)
    assert mixer_convert("inspect", checkpoint).exit_code == 0


def cut_meanwhile(path: Path, config: MixerConfig, source: StateDict, how: str) -> subprocess.CompletedProcess[str]:
    if path.suffix == ".npz":
        np.savez(path, **source)
    else:
        with path.open("wb") as stream:
            dst: Layout = "paddle" if path.suffix == ".pdparams" else "timm"
            files.write(path, stream, convert_state_dict(source, config, dst=dst).state_dict)
    command = [sys.executable, "-c", CUT, path, how]
    return subprocess.run(command, capture_output=True, text=True, check=False)
