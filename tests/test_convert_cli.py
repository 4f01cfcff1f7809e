from __future__ import annotations

import importlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from conftest import Run, save_safetensors

from convert import files, job
from convert.arrays import StateDict, tensor_sha256
from convert.evidence.recorded import manifest_path
from convert.mixer.rule_tables import route
from convert.mixer.variants import VARIANTS, MixerConfig
from convert.rules import Transform


def said(result: Result) -> str:
    """Return the one error sentence."""
    assert "Traceback" not in result.output
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1
    return result.stderr


class TestConversion:
    def test_output_and_manifest(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict, config: MixerConfig
    ) -> None:
        out = tmp_path / "out.pdparams"
        result = mixer_convert("--src", "timm", "--checkpoint", checkpoint, "--out", out)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{out}\n"
        assert "54 tensors, 17 Linear weights transposed" in result.stderr
        converted = files.read(out)
        manifest = json.loads(manifest_path(out).read_text())
        assert [entry["target"] for entry in manifest["tensors"]] == list(converted)
        rules = {rule.source: rule for rule in route("timm", "paddle", config)}
        for entry in manifest["tensors"]:
            rule, array = rules[entry["source"]], source[entry["source"]]
            assert entry["transform"] == rule.transform.value
            assert entry["source_sha256"] == tensor_sha256(array)
            expected = array.T if rule.transform is Transform.TRANSPOSE else array
            assert entry["target_sha256"] == tensor_sha256(expected) == tensor_sha256(converted[entry["target"]])
            assert tuple(entry["source_shape"]) == array.shape
        assert manifest["source"]["kind"] == "file"
        assert manifest["config"]["tokens_mlp_dim"] == config.tokens_mlp_dim
        assert manifest["versions"]["numpy"] == np.__version__

    def test_nothing_else_is_left(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.pdparams")
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["out.pdparams", "out.pdparams.manifest.json", "timm.safetensors"]

    def test_both_formats_hold_the_same(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        outs = [tmp_path / "a.pdparams", tmp_path / "b.safetensors"]
        for out in outs:
            assert mixer_convert("--checkpoint", checkpoint, "--out", out).exit_code == 0
        fingerprints = {json.loads(manifest_path(out).read_text())["output"]["fingerprint"] for out in outs}
        assert len(fingerprints) == 1
        assert mixer_convert("verify", *outs).exit_code == 0

    def test_default_name_is_architecture_and_tag(
        self, mixer_convert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert mixer_convert("--variant", "s32", "--init", "random", "--seed", "3").exit_code == 0
        random = Path("mixer_s32_224.random_seed3.pdparams")
        assert random.exists(), "random weights must not get a published checkpoint's name"
        assert mixer_convert("--variant", "s32", "--checkpoint", _timm_s32(tmp_path)).exit_code == 0
        assert Path("mixer_s32_224.untrained.pdparams").exists()

    def test_json_on_stdout_is_the_manifest(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.pdparams"
        result = mixer_convert("--checkpoint", checkpoint, "--out", out, "--json", "-")
        assert json.loads(result.stdout) == json.loads(manifest_path(out).read_text())

    def test_wrapper_prefix_is_stripped_and_recorded(
        self, mixer_convert: Run, tmp_path: Path, source: StateDict
    ) -> None:
        wrapped = save_safetensors(tmp_path / "x.safetensors", {f"module.{k}": v for k, v in source.items()})
        out = tmp_path / "out.pdparams"
        assert mixer_convert("--checkpoint", wrapped, "--out", out).exit_code == 0
        assert json.loads(manifest_path(out).read_text())["source"]["stripped_prefix"] == "module."
        assert set(files.read(out)) == set(source)

    def test_a_wrong_readback_exits_5_and_writes_nothing(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out.pdparams"
        read = files.read

        def flip(path: Path) -> StateDict:
            state_dict = dict(read(path))
            if path != checkpoint:
                state_dict["norm.bias"] = state_dict["norm.bias"] * 2
            return state_dict

        monkeypatch.setattr(job.files, "read", flip)
        result = mixer_convert("--checkpoint", checkpoint, "--out", out)
        assert result.exit_code == 5
        assert "read back" in said(result)
        assert sorted(tmp_path.iterdir()) == [checkpoint]


def _timm_s32(folder: Path) -> Path:
    from convert.mixer.init import init_state_dict
    from convert.mixer.variants import get_variant

    return save_safetensors(folder / "s32.safetensors", init_state_dict(get_variant("s32").config, 0))


Breakage = Callable[[dict[str, np.ndarray]], object]


def _nan(state_dict: dict[str, np.ndarray]) -> None:
    state_dict["norm.bias"] = state_dict["norm.bias"].copy()
    state_dict["norm.bias"][4] = np.nan


class TestFileAsArgument:
    """`mixer-convert my.safetensors`: what is no command and looks like a file is the checkpoint."""

    def test_it_is_converted(self, mixer_convert: Run, source: StateDict, tmp_path: Path) -> None:
        folder = tmp_path / "a folder, ü"
        folder.mkdir()
        file = save_safetensors(folder / "my mixer.safetensors", source)
        named = mixer_convert("--checkpoint", file, "--out", tmp_path / "named.pdparams")
        alone = mixer_convert(file, "--out", tmp_path / "alone.pdparams")
        behind = mixer_convert("--dst", "timm", file, "--out", tmp_path / "behind.safetensors")
        assert [run.exit_code for run in (named, alone, behind)] == [0, 0, 0], alone.stderr + behind.stderr
        assert (tmp_path / "named.pdparams").read_bytes() == (tmp_path / "alone.pdparams").read_bytes()

    def test_two_are_refused(self, mixer_convert: Run) -> None:
        for arguments in (("a.pth", "b.pth"), ("--checkpoint", "a.pth", "b.pth")):
            result = mixer_convert(*arguments)
            assert (result.exit_code, "a.pth and b.pth: one file at a time" in result.stderr) == (2, True)

    def test_one_that_is_not_there_is_said(self, mixer_convert: Run, tmp_path: Path) -> None:
        result = mixer_convert(tmp_path / "none.pth")
        assert (result.exit_code, "No such file" in result.stderr) == (4, True)

    def test_commands_stay_commands(self, mixer_convert: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "inspect").write_bytes(b"")
        monkeypatch.chdir(tmp_path)
        assert "Usage: main inspect" in mixer_convert("inspect", "--help").stdout
        assert "No such command 'inspekt'" in mixer_convert("inspekt").stderr

    def test_two_files_are_told_the_options_that_compare_them(self, mixer_align: Run) -> None:
        result = mixer_align("a b.pth", "c.pdparams")
        assert result.exit_code == 2
        assert "Two files are compared with --checkpoint 'a b.pth' --candidate c.pdparams." in result.stderr

    def test_the_other_commands_name_their_options(self, mixer_align: Run) -> None:
        result = mixer_align("a.pth")
        assert result.exit_code == 2
        assert "a.pth is no command. A file is named by --checkpoint or --candidate" in result.stderr


def test_a_variant_s_begin_is_completed(mixer_convert: Run) -> None:
    result = mixer_convert("--variant", "b16", "--init", "random")
    assert result.exit_code == 2
    assert "Did you mean b16_in21k, b16_in1k, " in result.stderr


class TestBadInput:
    """Each: its exit code, one sentence that names file or key, nothing written."""

    @pytest.mark.parametrize(
        ("breakage", "names"),
        [
            pytest.param(lambda s: s.pop("norm.weight"), ["1 missing (- norm.weight)", "x.safetensors"], id="missing"),
            pytest.param(lambda s: s.update(extra=s["norm.bias"]), ["1 unexpected (+ extra)"], id="unexpected"),
            pytest.param(
                lambda s: s.update({"head.weight": s["head.weight"].T}),
                ["head.weight", "(10, 7)", "(7, 10)"],
                id="shape",
            ),
            pytest.param(
                lambda s: s.update({"norm.bias": s["norm.bias"].astype(np.int32)}), ["norm.bias", "int32"], id="dtype"
            ),
            pytest.param(
                lambda s: s.update({"stem.proj.weight": np.zeros((10, 3, 0, 0), np.float32)}),
                ["size", "0"],
                id="zero size",
            ),
            pytest.param(_nan, ["norm.bias", "nan", "(4,)"], id="NaN"),
            pytest.param(
                lambda s: s.pop("head.bias"),
                ["x.safetensors: it has no head: - head.bias", "--num-classes"],
                id="no head",
            ),
        ],
    )
    def test_wrong_tensors(
        self, mixer_convert: Run, tmp_path: Path, source: StateDict, breakage: Breakage, names: list[str]
    ) -> None:
        state_dict = dict(source)
        breakage(state_dict)
        path = save_safetensors(tmp_path / "x.safetensors", state_dict)
        result = mixer_convert("--checkpoint", path, "--out", tmp_path / "out.pdparams")
        assert result.exit_code == 3
        assert all(name in said(result) for name in names)
        assert list(tmp_path.iterdir()) == [path]

    def test_wrong_class_count_for_the_variant(self, mixer_convert: Run, tmp_path: Path) -> None:
        result = mixer_convert(
            "--variant", "b16_in21k", "--checkpoint", _timm_s32(tmp_path), "--out", tmp_path / "o.pdparams"
        )
        assert result.exit_code == 3
        path = tmp_path / "c.safetensors"
        from convert.mixer.init import init_state_dict
        from convert.mixer.variants import get_variant

        save_safetensors(path, init_state_dict(get_variant("b16_in1k").config, 0))
        result = mixer_convert("--variant", "b16_in21k", "--checkpoint", path, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "head.weight: c.safetensors has (1000, 768), b16_in21k expects (21843, 768)" in said(result)

    @pytest.mark.parametrize(
        ("content", "names"),
        [
            (b"", "empty"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
            (b"<html></html>", "HTML page"),
            (b'\x10\0\0\0\0\0\0\0{"a":', "truncated"),
        ],
    )
    def test_a_file_that_is_not_what_its_suffix_says(
        self, mixer_convert: Run, tmp_path: Path, content: bytes, names: str
    ) -> None:
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        result = mixer_convert("--checkpoint", path, "--out", tmp_path / "out.pdparams")
        assert result.exit_code == 3
        assert names in said(result)
        assert str(path) in said(result)
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            (["--variant", "b16_in2k"], "Did you mean b16_in21k"),
            (["--variant", "mixer_b16_224_in21k"], "b16_in21k or b16_in1k"),
            (["--variant", "s32"], "publishes no weights"),
            (["--variant", "s32", "--init", "random", "--checkpoint", "x.safetensors"], "exclude each other"),
            (["--init", "random"], "Pass --variant NAME"),
            (["--variant", "s32", "--init", "random", "--ema"], "go with --checkpoint"),
            (["--variant", "s32", "inspect", "x.safetensors"], "belong to a conversion"),
            (["--variant", "s32", "--seed", "1"], "--seed goes with --init random"),
            (["--variant", "s32", "--init", "random", "--num-classes", "9" * 20], "a head has 1 to"),
            (["--src", "google", "--variant", "b16_in1k"], "Pass --checkpoint FILE. Google's files are at"),
            (["--variant", "gmlp_ti16", "--init", "random", "--dst", "paddlevit"], "no paddlevit layout for gmlp"),
            (
                ["--variant", "s32", "--init", "random", "--dst", "timm", "--out", "x.pdparams"],
                "timm reads .safetensors",
            ),
            (["--variant", "s32", "--init", "random", "--image-size", "256"], "49 patches"),
            (["--variant", "s32", "--init", "random", "--in-chans", "4"], "only 3 can be adapted, to 1"),
            (["--variant", "s32", "--init", "random", "--out", "x.onnx"], "cannot write .onnx"),
        ],
    )
    def test_wrong_usage(
        self, mixer_convert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], names: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = mixer_convert(*arguments)
        assert result.exit_code == 2
        assert names in said(result)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_not_there(self, mixer_convert: Run, tmp_path: Path) -> None:
        result = mixer_convert("--checkpoint", tmp_path / "none.safetensors")
        assert result.exit_code == 4
        assert "none.safetensors" in said(result)

    def test_a_folder_is_no_checkpoint(self, mixer_convert: Run, tmp_path: Path) -> None:
        (tmp_path / "d.safetensors").mkdir()
        result = mixer_convert("--checkpoint", tmp_path / "d.safetensors")
        assert result.exit_code == 3
        assert "a folder without model.safetensors" in said(result)

    @pytest.mark.parametrize("which", ["output", "manifest"])
    def test_existing_output_is_kept_without_force(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, which: str
    ) -> None:
        out = tmp_path / "out.pdparams"
        existing = out if which == "output" else manifest_path(out)
        existing.write_text("old")
        result = mixer_convert("--checkpoint", checkpoint, "--out", out)
        assert result.exit_code == 2
        assert "--force" in said(result)
        assert existing.read_text() == "old"
        assert mixer_convert("--checkpoint", checkpoint, "--out", out, "--force").exit_code == 0
        assert len(files.read(out)) == 54

    def test_output_is_not_the_input(self, mixer_convert: Run, checkpoint: Path) -> None:
        before = checkpoint.read_bytes()
        result = mixer_convert("--checkpoint", checkpoint, "--out", checkpoint, "--force")
        assert result.exit_code == 2
        assert "input itself" in said(result)
        assert checkpoint.read_bytes() == before

    def test_missing_folder(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "none" / "out.pdparams")
        assert result.exit_code == 4
        assert "no such folder" in said(result)

    def test_unwritable_folder(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Root may write anywhere, so the refusal is the operating system's answer played back."""
        from convert.disk import temporary

        def refuse(*_: object) -> int:
            raise PermissionError(13, os.strerror(13))

        monkeypatch.setattr(temporary.os, "open", refuse)
        result = mixer_convert("--checkpoint", checkpoint, "--out", tmp_path / "out.pdparams")
        assert result.exit_code == 4
        assert "Permission denied" in said(result)
        assert list(tmp_path.iterdir()) == [checkpoint]

    def test_debug_shows_the_traceback(self, mixer_convert: Run, tmp_path: Path) -> None:
        result = mixer_convert("--debug", "--checkpoint", tmp_path / "none.safetensors")
        assert "Traceback" in result.stderr
        assert "FileNotFoundError" in result.stderr
        assert result.stderr.endswith("none.safetensors: No such file or directory.\n")
        assert result.exit_code == mixer_convert("--checkpoint", tmp_path / "none.safetensors").exit_code == 4

    @pytest.mark.parametrize("module", ["convert", "align", "reports"])
    def test_every_command_can_show_it(self, module: str) -> None:
        group = importlib.import_module(f"{module}.commands.cli").main
        commands = {"": group, **group.commands}
        assert [name for name, one in commands.items() if not any("--debug" in p.opts for p in one.params)] == []

    def test_ctrl_c_is_no_failed_gate(self, mixer_convert: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("convert.commands.cli._list", interrupted)
        result = mixer_convert("--list")
        assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")

    def test_a_defect_is_no_gate_failure(self, mixer_convert: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("boom")

        monkeypatch.setattr(job, "choose_source", fail)
        result = mixer_convert("--variant", "s32", "--init", "random")
        assert result.exit_code == 70
        assert "boom" in said(result)


class TestListInspectVerify:
    def test_list_has_every_variant(self, mixer_convert: Run) -> None:
        lines = mixer_convert("--list").stdout.splitlines()
        assert [line.split()[0] for line in lines[1:]] == [variant.name for variant in VARIANTS]
        data = json.loads(mixer_convert("--list", "--json", "-").stdout)["variants"]
        assert data[0]["config"]["hidden_dim"] == 512
        assert all(row["source"] and row["parameters"] for row in data)

    def test_inspect(self, mixer_convert: Run, checkpoint: Path, source: StateDict) -> None:
        assert "an MLP-Mixer in timm layout; 54 tensors" in mixer_convert("inspect", checkpoint).stdout
        data = json.loads(mixer_convert("inspect", checkpoint, "--json", "-").stdout)
        assert data["layouts"] == ["timm"]
        assert {t["name"]: t["sha256"] for t in data["tensors"]} == {k: tensor_sha256(a) for k, a in source.items()}

    def test_inspect_takes_what_is_no_mixer(self, mixer_convert: Run, tmp_path: Path) -> None:
        path = save_safetensors(tmp_path / "x.safetensors", {"a": np.zeros(3, np.int64)})
        assert "no MLP-Mixer that we know; 1 tensors, 3 parameters" in mixer_convert("inspect", path).stdout

    def test_verify_across_format_and_layout(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.pdparams"
        mixer_convert("--checkpoint", checkpoint, "--out", out)
        for pair in ((checkpoint, out), (out, checkpoint), (out, out)):
            result = mixer_convert("verify", *pair)
            assert result.exit_code == 0, result.output
            assert "the same 54 tensors, bit for bit" in result.stdout

    @pytest.mark.parametrize(
        ("breakage", "says"),
        [
            (lambda s: s.pop("norm.bias"), "- norm.bias: only in timm.safetensors"),
            (lambda s: s.update(extra=s["norm.bias"]), "+ extra: only in other.safetensors"),
            (
                lambda s: s.update({"norm.bias": -s["norm.bias"]}),
                "! norm.bias: 10 of 10 elements differ, first at (0,)",
            ),
            (
                lambda s: s.update({"norm.bias": s["norm.bias"].astype(np.float16)}),
                "float32 (10,) against float16 (10,)",
            ),
        ],
    )
    def test_verify_names_the_difference(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict, breakage: Breakage, says: str
    ) -> None:
        state_dict = dict(source)
        breakage(state_dict)
        result = mixer_convert("verify", checkpoint, save_safetensors(tmp_path / "other.safetensors", state_dict))
        assert result.exit_code == 1
        assert says in result.stdout

    def test_verify_sees_through_a_wrapper_s_prefix(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict
    ) -> None:
        wrapped = save_safetensors(tmp_path / "x.safetensors", {f"module.{k}": v for k, v in source.items()})
        assert mixer_convert("verify", wrapped, checkpoint).exit_code == 0

    def test_verify_finds_one_extra_key_and_no_more(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict
    ) -> None:
        extra = save_safetensors(tmp_path / "x.safetensors", {**source, "extra": source["norm.bias"]})
        result = mixer_convert("verify", extra, checkpoint)
        assert result.exit_code == 1
        assert "differ in 1 tensors; 54 are equal" in result.stdout

    @pytest.mark.parametrize("dtype", [np.float64, np.complex128, np.int8, np.bool_])
    def test_verify_compares_any_dtype(self, mixer_convert: Run, tmp_path: Path, dtype: type) -> None:
        for name, value in (("a", [0, 1]), ("b", [0, 0])):
            np.savez(tmp_path / f"{name}.npz", x=np.array(value, dtype))
        a, b = tmp_path / "a.npz", tmp_path / "b.npz"
        assert mixer_convert("verify", a, a).exit_code == 0
        result = mixer_convert("verify", a, b)
        assert result.exit_code == 1
        assert "1 of 2 elements differ, first at (1,)" in result.stdout

    def test_verify_sees_negative_zero(self, mixer_convert: Run, tmp_path: Path) -> None:
        paths = [
            save_safetensors(tmp_path / f"{name}.safetensors", {"a": np.array([value], np.float32)})
            for name, value in (("a", 0.0), ("b", -0.0))
        ]
        assert mixer_convert("verify", *paths).exit_code == 1

    def test_verify_names_single_numbers_too(self, mixer_convert: Run, tmp_path: Path, source: StateDict) -> None:
        paths = [tmp_path / f"{count}.pdparams" for count in (5, 6)]
        for path in paths:
            path.write_bytes(pickle.dumps({**source, "n_averaged": np.array(int(path.stem))}, 4))
        result = mixer_convert("verify", *paths)
        assert result.exit_code == 1
        assert "! n_averaged: 1 of 1 elements differ, first at (): 5 against 6" in result.stdout

    @pytest.mark.parametrize("change", ["float64", "half a head"])
    def test_verify_compares_what_cannot_be_converted(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict, change: str
    ) -> None:
        out = tmp_path / "out.pdparams"
        mixer_convert("--checkpoint", checkpoint, "--out", out)
        wide = {key: array.astype(np.float64) for key, array in source.items()}
        part = {key: array for key, array in source.items() if key != "head.bias"}
        other = save_safetensors(tmp_path / "x.safetensors", wide if change == "float64" else part)
        for pair in ((other, out), (out, other)):
            assert mixer_convert("verify", *pair).exit_code == 1
        assert mixer_convert("verify", other, other).exit_code == 0

    def test_a_manifest_s_names_steer_no_terminal(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.pdparams"
        mixer_convert("--checkpoint", checkpoint, "--out", out)
        content = json.loads(manifest_path(out).read_text())
        for name in ("\ud800", "\x1b[31mred\nnext line"):
            content["tensors"][0]["source"] = name
            manifest_path(out).write_text(json.dumps(content))
            result = mixer_convert("verify", checkpoint, "--manifest", manifest_path(out))
            assert result.exit_code == 5
            assert all(line.isprintable() for line in result.stdout.splitlines())

    def test_a_source_of_the_output_s_name(self, mixer_convert: Run, tmp_path: Path, source: StateDict) -> None:
        for folder in ("in", "out"):
            (tmp_path / folder).mkdir()
        path, out = tmp_path / "in" / "x.pdparams", tmp_path / "out" / "x.pdparams"
        path.write_bytes(pickle.dumps({"a": dict(source), "b": dict(source)}, 4))
        chosen = ("--checkpoint", path, "--src", "timm", "--weights-key", "a", "--out", out)
        assert mixer_convert(*chosen).exit_code == 0
        assert mixer_convert("verify", path, "--manifest", manifest_path(out)).exit_code == 0

    def test_names_are_no_markup(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        from convert.commands.tables import print_table

        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        print_table(("tensor", "dtype"), [("[/b] [red]x", "f4")], title="y[bold]z")
        shown = capsys.readouterr().out
        assert "[/b] [red]x" in shown
        assert "y[bold]z" in shown

    def test_two_empty_checkpoints_are_not_equal(self, mixer_convert: Run, tmp_path: Path) -> None:
        path = save_safetensors(tmp_path / "x.safetensors", {})
        assert mixer_convert("verify", path, path).exit_code == 3


CONVERT = [sys.executable, "-m", "convert.commands.cli"]


class TestNobodyListens:
    """The reader of a pipe has gone, or the streams are closed: nothing is said of it, and the exit code stays."""

    @pytest.mark.parametrize("code", [0, 1])
    def test_the_reader_goes(self, two_files: tuple[Path, Path], code: int) -> None:
        one, other = two_files
        reader, writer = os.pipe()
        os.close(reader)
        arguments = ["verify", str(one), str(other if code else one)]
        run = subprocess.run([*CONVERT, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writer)
        assert (run.returncode, run.stderr) == (code, "")

    def test_errors_go_nowhere_too(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        run = subprocess.run([*CONVERT, "inspect", "none.pth"], stdout=writer, stderr=writer, check=False)
        os.close(writer)
        assert run.returncode == 4

    @pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", ">&- 2>&- <&-"])
    def test_they_are_closed(self, two_files: tuple[Path, Path], tmp_path: Path, closed: str) -> None:
        """No file that is opened afterwards takes their place, to be printed into."""
        out = tmp_path / "out.pdparams"
        command = f'exec "$0" -m convert.commands.cli --checkpoint "$1" --out "$2" {closed}'
        shell = ["sh", "-c", command, sys.executable, str(two_files[0]), str(out)]
        assert subprocess.run(shell, check=False).returncode == 0
        assert subprocess.run([*CONVERT, "verify", str(out)], check=False, capture_output=True).returncode == 0


@pytest.fixture
def two_files(source: StateDict, tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints of which one has another bias."""
    other = {**source, "head.bias": source["head.bias"] + np.float32(1)}
    return save_safetensors(tmp_path / "a.safetensors", source), save_safetensors(tmp_path / "b.safetensors", other)
