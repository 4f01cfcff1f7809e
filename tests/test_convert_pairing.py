"""Conversion by a pairing file: any model's checkpoint, either way, bit for bit, or one sentence that says why not."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import Run, save_safetensors

from align.pairing.file import read_pairing
from convert import files
from convert.arrays import StateDict, same_bits
from convert.errors import BadInput
from convert.evidence.recorded import manifest_path
from convert.mixer.rule_tables import route
from convert.mixer.variants import MixerConfig
from convert.pairing.file import read_file
from convert.pairing.weights import WeightTable, weights_of
from convert.rules import KeyRule, Transform

SCHEMA = 'schema = "mixer-align/pairing/1"\n'
WHY = "Paddle's BatchNorm counts no batches"
ENTRIES = f"""
[weights]
"stem.weight" = "conv.weight"
"stem.bias" = "conv.bias"
"norm.weight" = "bn.weight"
"norm.bias" = "bn.bias"
"norm.running_mean" = "bn._mean"
"norm.running_var" = "bn._variance"
"norm.num_batches_tracked" = {{ drop = "{WHY}" }}
"blocks.{{i}}.weight" = {{ to = "layers.{{i}}.fc.weight", transform = "transpose" }}
"blocks.{{i}}.bias" = "layers.{{i}}.fc.bias"
"scale" = "scale"
"index" = "index"
"steps" = "steps"
"mask" = "mask"
"nothing" = "nothing"
"exact" = "exact"
"""
NAMES = {"stem": "conv", "norm": "bn", "blocks.0": "layers.0.fc", "blocks.1": "layers.1.fc"}
BUFFERS = {"norm.running_mean": "bn._mean", "norm.running_var": "bn._variance"}


def expected(reference: StateDict) -> dict[str, np.ndarray]:
    """Return what the candidate has to hold, by a way of its own."""
    found = {}
    for key, array in reference.items():
        module, _, name = key.rpartition(".")
        target = BUFFERS.get(key) or (f"{NAMES[module]}.{name}" if module else key)
        if not key.endswith("tracked"):
            found[target] = array.T if module.startswith("blocks") and name == "weight" else array
    return found


@pytest.fixture(scope="module")
def reference() -> StateDict:
    """A square Linear weight, a BatchNorm, and buffers of several dtypes, of one element and of none."""
    rng = np.random.default_rng(0)
    shapes = {
        "stem.weight": (5, 3, 2, 2),
        **{f"norm.{name}": (5,) for name in ("weight", "bias", "running_mean", "running_var")},
        "stem.bias": (5,),
        "blocks.0.weight": (7, 7),
        "blocks.0.bias": (7,),
        "blocks.1.weight": (4, 7),
        "blocks.1.bias": (4,),
        "scale": (),
        "nothing": (0, 3),
    }
    return {
        **{key: np.asarray(rng.random(shape), np.float32) for key, shape in shapes.items()},
        "norm.num_batches_tracked": np.array(3),
        "index": np.arange(12).reshape(3, 4),
        "steps": np.array(2**40 + 1),
        "mask": np.array([True, False]),
        "exact": rng.random((2, 3)),
    }


@pytest.fixture(scope="module")
def model(frameworks: None, reference: StateDict) -> Any:
    """A model with these weights."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 5, 2)
            self.norm = torch.nn.BatchNorm2d(5)
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(7, 7), torch.nn.Linear(7, 4)])
            self.scale = torch.nn.Parameter(torch.zeros(()))
            for name in ("nothing", "index", "steps", "mask", "exact"):
                self.register_buffer(name, torch.from_numpy(np.zeros_like(reference[name])))

    net = Net()
    net.load_state_dict({key: torch.from_numpy(array) for key, array in reference.items()})
    return net


@pytest.fixture
def pairing(tmp_path: Path) -> Path:
    return written(tmp_path / "pairing.toml", ENTRIES)


@pytest.fixture(params=[".pth", ".safetensors"])
def given(request: pytest.FixtureRequest, tmp_path: Path, reference: StateDict) -> Path:
    """The model's checkpoint, as torch or safetensors write it."""
    path: Path = tmp_path / f"model{request.param}"
    if path.suffix == ".safetensors":
        return save_safetensors(path, reference)
    model = request.getfixturevalue("model")
    import torch

    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def saved(tmp_path: Path, reference: StateDict) -> Path:
    """The model's checkpoint, as safetensors writes it."""
    return save_safetensors(tmp_path / "model.safetensors", reference)


def written(path: Path, entries: str) -> Path:
    path.write_text(SCHEMA + entries)
    return path


def table_of(path: Path, entries: str) -> WeightTable:
    table = read_pairing(written(path / "table.toml", "[weights]\n" + entries)).weights
    assert table is not None
    return table


def plain(path: Path, state_dict: StateDict) -> Path:
    path.write_bytes(pickle.dumps(dict(state_dict), 4))
    return path


def converted(result: Result, out: Path) -> StateDict:
    assert result.exit_code == 0, result.output
    return files.read(out)


def said(result: Result, code: int) -> str:
    """Return the one error sentence."""
    assert result.exit_code == code, result.output
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1
    return result.stderr


def check_same(found: StateDict, wanted: StateDict) -> None:
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert same_bits(found[key], array), key


def manifest_of(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(manifest_path(out).read_text())
    return content


class TestBothWays:
    @pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
    def test_bits_there_and_back(
        self, mixer_convert: Run, pairing: Path, given: Path, reference: StateDict, tmp_path: Path, suffix: str
    ) -> None:
        there, back = tmp_path / f"there{suffix}", tmp_path / "back.safetensors"
        run = mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", there)
        check_same(converted(run, there), expected(reference))
        run = mixer_convert("--pairing", pairing, "--checkpoint", there, "--out", back)
        kept = {key: array for key, array in reference.items() if not key.endswith("tracked")}
        check_same(converted(run, back), kept)
        assert mixer_convert("verify", given, back).exit_code == 0

    def test_each_framework_loads_its_own(
        self, mixer_convert: Run, pairing: Path, given: Path, model: Any, reference: StateDict, tmp_path: Path
    ) -> None:
        import copy

        import paddle
        import torch
        from safetensors.torch import load_file

        there, back = tmp_path / "there.pdparams", tmp_path / "back.safetensors"
        assert mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", there).exit_code == 0
        loaded = {key: tensor.numpy() for key, tensor in paddle.load(str(there)).items()}
        check_same(loaded, expected(reference))
        assert mixer_convert("--pairing", pairing, "--checkpoint", there, "--out", back).exit_code == 0
        other = copy.deepcopy(model)
        with torch.no_grad():
            for tensor in other.state_dict().values():
                tensor.zero_()
        other.load_state_dict(load_file(back))  # strict; BatchNorm's counter is torch's to fill in
        check_same(
            {k: t.numpy() for k, t in other.state_dict().items() if "tracked" not in k},
            {k: a for k, a in reference.items() if "tracked" not in k},
        )

    def test_default_outputs(
        self, mixer_convert: Run, pairing: Path, given: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        there = mixer_convert("--pairing", pairing, "--checkpoint", given)
        assert there.stdout == "model.pdparams\n"
        assert mixer_convert("--pairing", pairing, "--checkpoint", "model.pdparams").stdout == "model.safetensors\n"

    @pytest.mark.parametrize(
        ("transform", "shape", "moved"),
        [
            ("HWIO to OIHW", (2, 3, 4, 5), lambda a: a.transpose(3, 2, 0, 1)),
            ("OIHW to HWIO", (2, 3, 4, 5), lambda a: a.transpose(2, 3, 1, 0)),
            ("(D) to (1, 1, D)", (5,), lambda a: a[None, None]),
            ("(1, 1, D) to (D)", (1, 1, 5), lambda a: a[0, 0]),
            ("identity", (2, 3), lambda a: a),
        ],
    )
    def test_every_transform(
        self, mixer_convert: Run, tmp_path: Path, transform: str, shape: tuple[int, ...], moved: Any
    ) -> None:
        array = np.random.default_rng(0).random(shape, np.float32)
        given, there, back = (tmp_path / name for name in ("given.safetensors", "there.pdparams", "back.safetensors"))
        save_safetensors(given, {"a.x": array})
        pairing = written(tmp_path / "p.toml", f'[weights]\n"a.x" = {{ to = "b.x", transform = "{transform}" }}\n')
        run = mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", there)
        check_same(converted(run, there), {"b.x": np.ascontiguousarray(moved(array))})
        run = mixer_convert("--pairing", pairing, "--checkpoint", there, "--out", back)
        check_same(converted(run, back), {"a.x": array})

    def test_the_transforms_are_all_tried(self) -> None:
        marks = TestBothWays.test_every_transform.pytestmark[0].args[1]  # type: ignore[attr-defined]
        assert {mark[0] for mark in marks} | {"transpose"} == {one.value for one in Transform}

    def test_a_dtype_is_that_of_what_is_real(
        self, mixer_convert: Run, pairing: Path, given: Path, reference: StateDict, tmp_path: Path
    ) -> None:
        out = tmp_path / "half.pdparams"
        run = mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", out, "--dtype", "float16")
        wanted = {k: a.astype(np.float16) if a.dtype.kind == "f" else a for k, a in expected(reference).items()}
        check_same(converted(run, out), wanted)


class TestSets:
    def test_a_training_checkpoint(
        self, mixer_convert: Run, pairing: Path, model: Any, reference: StateDict, tmp_path: Path
    ) -> None:
        import torch

        given, out = tmp_path / "last.pth", tmp_path / "out.pdparams"
        averaged = {
            key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in model.state_dict().items()
        }
        state = torch.optim.Adam(model.parameters()).state_dict()
        torch.save(
            {"state_dict": model.state_dict(), "state_dict_ema": averaged, "optimizer": state, "epoch": 3}, given
        )
        arguments = ("--pairing", pairing, "--checkpoint", given, "--out", out)
        assert "2 sets of weights" in said(mixer_convert(*arguments), 2)
        check_same(converted(mixer_convert(*arguments, "--no-ema"), out), expected(reference))
        run = mixer_convert(*arguments, "--ema", "--force")
        check_same(converted(run, out), expected({key: tensor.detach().numpy() for key, tensor in averaged.items()}))
        assert mixer_convert("verify", given, "--manifest", manifest_path(out)).exit_code == 0

    def test_a_sharded_one_in_a_folder(
        self, mixer_convert: Run, pairing: Path, reference: StateDict, tmp_path: Path
    ) -> None:
        folder, out = tmp_path / "sharded", tmp_path / "out.pdparams"
        folder.mkdir()
        keys = list(reference)
        shards = {"model-00001-of-00002.safetensors": keys[:5], "model-00002-of-00002.safetensors": keys[5:]}
        for name, part in shards.items():
            save_safetensors(folder / name, {key: reference[key] for key in part})
        index = {"metadata": {}, "weight_map": {key: name for name, part in shards.items() for key in part}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        run = mixer_convert("--pairing", pairing, "--checkpoint", folder, "--out", out)
        check_same(converted(run, out), expected(reference))
        assert manifest_of(out)["source"]["shards"].keys() == shards.keys()

    @pytest.mark.parametrize("before", ["module.", "_orig_mod.", "model.module."])
    def test_what_stands_before_every_name_is_taken_away(
        self, mixer_convert: Run, pairing: Path, reference: StateDict, tmp_path: Path, before: str
    ) -> None:
        given, out = tmp_path / "x.safetensors", tmp_path / "out.pdparams"
        save_safetensors(given, {before + key: array for key, array in reference.items()})
        run = mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", out)
        check_same(converted(run, out), expected(reference))
        assert manifest_of(out)["source"]["stripped_prefix"] == before
        for arguments in (("verify", out), ("verify", given, "--manifest", manifest_path(out))):
            run = mixer_convert(*arguments)
            assert run.exit_code == 0, run.output

    def test_what_stands_before_some_names_is_not(
        self, mixer_convert: Run, pairing: Path, reference: StateDict, tmp_path: Path
    ) -> None:
        given, out = tmp_path / "x.safetensors", tmp_path / "out.pdparams"
        save_safetensors(given, {("module." * (key != "scale")) + key: array for key, array in reference.items()})
        assert "no entry takes this tensor" in said(
            mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", out), 3
        )

    def test_what_is_no_tensor_is_said_to_be_left_out(self, mixer_convert: Run, tmp_path: Path) -> None:
        given = plain(tmp_path / "x.pdparams", {"a": np.ones(3, np.float32), "epoch": 3})  # type: ignore[dict-item]
        pairing = written(tmp_path / "p.toml", '[weights]\n"a" = "b"\n')
        run = mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", tmp_path / "out.pdparams")
        assert run.exit_code == 0
        assert "epoch" in run.stderr


ALIKE = '[weights]\n"fc.weight" = { to = "fc.weight", transform = "transpose" }\n"fc.bias" = "fc.bias"\n'
SQUARE = {"fc.weight": np.arange(9, dtype=np.float32).reshape(3, 3), "fc.bias": np.ones(3, np.float32)}


class TestDirection:
    """Names that are the same on both sides; the Linear weight is square, so that nothing in the tensors tells."""

    def layouts(self, mixer_convert: Run, folder: Path, given: Path, *options: str) -> tuple[dict[str, str], str]:
        pairing, out = written(folder / "p.toml", ALIKE), folder / "out.safetensors"
        run = mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", out, "--force", *options)
        check_same(converted(run, out), {**SQUARE, "fc.weight": SQUARE["fc.weight"].T.copy()})
        return manifest_of(out)["layouts"], run.stderr

    def test_paddle_by_default_and_said(self, mixer_convert: Run, tmp_path: Path) -> None:
        given = save_safetensors(tmp_path / "x.safetensors", SQUARE)
        layouts, sentence = self.layouts(mixer_convert, tmp_path, given)
        assert layouts == {"source": "torch", "target": "paddle"}
        assert "names are those of both layouts" in sentence

    def test_the_option_decides(self, mixer_convert: Run, tmp_path: Path) -> None:
        given = save_safetensors(tmp_path / "x.safetensors", SQUARE)
        for dst, src in (("torch", "paddle"), ("paddle", "torch")):
            layouts, _ = self.layouts(mixer_convert, tmp_path, given, "--dst", dst)
            assert layouts == {"source": src, "target": dst}

    def test_the_tool_that_wrote_it_decides(self, mixer_convert: Run, tmp_path: Path) -> None:
        given = plain(tmp_path / "x.pdparams", SQUARE)
        assert self.layouts(mixer_convert, tmp_path, given)[0] == {"source": "paddle", "target": "torch"}

    def test_what_a_file_says_of_itself_decides(self, mixer_convert: Run, tmp_path: Path) -> None:
        given = save_safetensors(tmp_path / "x.safetensors", SQUARE)
        self.layouts(mixer_convert, tmp_path, given)
        (tmp_path / "there.safetensors").write_bytes((tmp_path / "out.safetensors").read_bytes())
        pairing, back = written(tmp_path / "p.toml", ALIKE), tmp_path / "back.safetensors"
        run = mixer_convert("--pairing", pairing, "--checkpoint", tmp_path / "there.safetensors", "--out", back)
        check_same(converted(run, back), SQUARE)
        assert manifest_of(back)["layouts"] == {"source": "paddle", "target": "torch"}

    def test_a_file_that_is_there_already(self, mixer_convert: Run, pairing: Path, given: Path, tmp_path: Path) -> None:
        run = mixer_convert(
            "--pairing", pairing, "--checkpoint", given, "--dst", "torch", "--out", tmp_path / "x.safetensors"
        )
        assert "no entry takes this tensor" in said(run, 3)


class TestEvidence:
    @pytest.fixture(params=[".pdparams", ".safetensors"])
    def out(
        self, request: pytest.FixtureRequest, mixer_convert: Run, pairing: Path, reference: StateDict, tmp_path: Path
    ) -> Path:
        given, out = save_safetensors(tmp_path / "model.safetensors", reference), tmp_path / f"out{request.param}"
        run = mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", out)
        assert run.exit_code == 0, run.output
        assert WHY in run.stderr
        return out

    def test_the_manifest_names_the_pairing_and_the_rules(self, out: Path, pairing: Path, reference: StateDict) -> None:
        manifest = manifest_of(out)
        assert manifest["pairing"] == {
            "file": "pairing.toml",
            "sha256": hashlib.sha256(pairing.read_bytes()).hexdigest(),
        }
        assert manifest["layouts"] == {"source": "torch", "target": "paddle"}
        rules = {entry["source"]: (entry["target"], entry["transform"]) for entry in manifest["tensors"]}
        assert len(rules) == len(reference) - 1
        assert rules["blocks.0.weight"] == ("layers.0.fc.weight", "transpose")
        assert rules["norm.running_var"] == ("bn._variance", "identity")
        dropped = manifest["dropped"]
        assert [(one["source"], one["reason"]) for one in dropped] == [("norm.num_batches_tracked", WHY)]

    def test_verify_takes_both_ends(self, mixer_convert: Run, out: Path, tmp_path: Path) -> None:
        assert "every bit" in mixer_convert("verify", out).stdout
        run = mixer_convert("verify", tmp_path / "model.safetensors", "--manifest", manifest_path(out))
        assert "every bit" in run.stdout
        assert run.exit_code == 0

    @pytest.mark.parametrize("key", ["layers.0.fc.weight", "steps"])
    def test_an_altered_byte_is_seen(self, mixer_convert: Run, out: Path, reference: StateDict, key: str) -> None:
        content, wanted = bytearray(out.read_bytes()), expected(reference)[key].tobytes()
        at = content.index(wanted)
        content[at] ^= 1
        out.write_bytes(content)
        run = mixer_convert("verify", out)
        assert run.exit_code == 5
        assert f"! {key}: it changed" in run.stdout

    def test_inspect_shows_every_tensor(self, mixer_convert: Run, out: Path, reference: StateDict) -> None:
        run = mixer_convert("inspect", out, "--json", "-")
        found = json.loads(run.stdout)
        wanted = expected(reference)
        assert {t["name"]: (t["dtype"], tuple(t["shape"])) for t in found["tensors"]} == {
            key: (array.dtype.name, array.shape) for key, array in wanted.items()
        }
        assert found["summary"].startswith(f"{out.name}: converted by pairing.toml; {len(wanted)} tensors")
        assert found["notes"] == []

    def test_names_that_begin_as_those_of_two_mixers_are_kept(self, mixer_convert: Run, tmp_path: Path) -> None:
        """What stands before a Mixer's names is taken away elsewhere, and two such are two models."""
        keys = [f"{part}.norm.{name}" for part in ("encoder", "decoder") for name in ("weight", "bias")]
        weights = {key: np.full(3, i, np.float32) for i, key in enumerate(keys)}
        given, out = save_safetensors(tmp_path / "x.safetensors", weights), tmp_path / "out.pdparams"
        pairing = written(tmp_path / "p.toml", "[weights]\n" + "".join(f'"{key}" = "{key}"\n' for key in keys))
        run = mixer_convert("--pairing", pairing, "--checkpoint", given, "--out", out)
        check_same(converted(run, out), weights)
        for arguments in (("verify", out), ("verify", given, "--manifest", manifest_path(out)), ("inspect", out)):
            run = mixer_convert(*arguments)
            assert run.exit_code == 0, run.output

    def test_a_mixer_by_a_pairing_is_a_mixer(
        self, mixer_convert: Run, checkpoint: Path, config: MixerConfig, tmp_path: Path
    ) -> None:
        """A family reads what a pairing file wrote, and the other way round, whatever their manifests say."""
        pairing = written(tmp_path / "p.toml", mixer_entries(config))
        one, other = tmp_path / "one.pdparams", tmp_path / "other.pdparams"
        assert mixer_convert("--pairing", pairing, "--checkpoint", checkpoint, "--out", one).exit_code == 0
        assert mixer_convert("--checkpoint", checkpoint, "--out", other).exit_code == 0
        assert mixer_convert("verify", one, other).exit_code == 0
        for number, (how, given) in enumerate([(("--dst", "timm"), one), (("--pairing", pairing), other)]):
            back = tmp_path / f"back{number}.safetensors"
            run = mixer_convert(*how, "--checkpoint", given, "--out", back)
            check_same(converted(run, back), files.read(checkpoint))

    def test_a_family_takes_away_what_stands_before_its_names(
        self, mixer_convert: Run, checkpoint: Path, config: MixerConfig, tmp_path: Path
    ) -> None:
        """Where it converts; to look at such a file leaves its names alone."""
        pairing, there = written(tmp_path / "p.toml", mixer_entries(config, "net.")), tmp_path / "there.pdparams"
        assert mixer_convert("--pairing", pairing, "--checkpoint", checkpoint, "--out", there).exit_code == 0
        assert mixer_convert("verify", there).exit_code == 0
        shown = json.loads(mixer_convert("inspect", there, "--json", "-").stdout)
        assert all(tensor["name"].startswith("net.") for tensor in shown["tensors"])
        back = tmp_path / "back.safetensors"
        run = mixer_convert("--checkpoint", there, "--dst", "timm", "--out", back)
        check_same(converted(run, back), files.read(checkpoint))


def mixer_entries(config: MixerConfig, before: str = "") -> str:
    """Return the table of a Mixer, with something before Paddle's names."""
    return "[weights]\n" + "".join(
        f'"{rule.source}" = {{ to = "{before}{rule.target}", transform = "{rule.transform.value}" }}\n'
        for rule in route("timm", "paddle", config)
    )


MALFORMED: dict[str, tuple[str, str, str]] = {
    "a number": ('"scale" = "scale"', '"scale" = 7', "scale"),
    "no name": ('"scale" = "scale"', '"scale" = " "', "scale"),
    "unknown field": ('"scale" = "scale"', '"scale" = { too = "scale" }', "too"),
    "no quotes": ('"stem.bias" = ', "stem.bias = ", "quotes"),
    "renamed and dropped": ('"scale" = "scale"', '"scale" = { to = "scale", drop = "gone" }', "scale"),
    "dropped and transformed": ('"scale" = "scale"', '"scale" = { drop = "gone", transform = "identity" }', "scale"),
    "neither renamed nor dropped": ('"scale" = "scale"', '"scale" = { transform = "identity" }', "scale"),
    "dropped for no reason": (f'"{WHY}"', '""', "drop"),
    "unknown transform": ('"transpose"', '"transposed"', "transposed"),
    "unknown placeholder": ("layers.{i}.fc.bias", "layers.{j}.fc.bias", "{j}"),
    "placeholder that is lost": ("layers.{i}.fc.bias", "layers.fc.bias", "blocks.{i}.bias"),
    "placeholder that is none": ('"scale" = "scale"', '"scale" = "sc{1}ale"', "sc{1}ale"),
    "placeholders that touch": ('"blocks.{i}.bias" = "layers', '"blocks.{i}{j}.bias" = "layers{j}', "blocks.{i}{j}"),
    "two of one name": ('"scale" = "scale"', '"scale" = "mask"', "becomes 'mask'"),
    "no table": ("[weights]", "[modules]", "[weights]"),
    "an unknown table": ("[weights]", "[weight]", "'weight'"),
    "no TOML": ('"scale" = ', '"scale" ', "TOML"),
    "twice": ('"scale" = "scale"', '"scale" = "scale"\n"scale" = "again"', "TOML"),
    "another schema": ("pairing/1", "pairing/2", "pairing/2"),
}
"""What is replaced in a right file, by what, and what the sentence has to name."""
UNSUITABLE: dict[str, tuple[str, str, str]] = {
    "a tensor that no entry takes": ('"stem.bias" = "conv.bias"\n', "", "stem.bias"),
    "an entry that takes none": ('"scale" = "scale"', '"scale" = "scale"\n"shift" = "shift"', "shift"),
    "a pattern that takes none": ('"scale" = "scale"', '"scale" = "scale"\n"s{i}" = "s{i}"', "s{i}"),
    "two patterns": ('"scale" = "scale"', '"scale" = "scale"\n"blocks.{j}.bias" = "b.{j}"', "blocks.0.bias"),
    "two that become one": ('"scale" = "scale"', '"scale" = "layers.0.fc.bias"', "layers.0.fc.bias"),
    "a transform of two axes on one": (
        '"stem.bias" = "conv.bias"',
        '"stem.bias" = { to = "conv.bias", transform = "transpose" }',
        "stem.bias",
    ),
    "a transform of three axes on one": (
        '"stem.bias" = "conv.bias"',
        '"stem.bias" = { to = "conv.bias", transform = "(1, 1, D) to (D)" }',
        "stem.bias",
    ),
    "a name that leads elsewhere": ('"scale" = "scale"', '"scale" = "../scale"', "../scale"),
}


class TestRefused:
    @pytest.mark.parametrize("case", [*MALFORMED, *UNSUITABLE])
    def test_one_sentence_names_file_and_entry(
        self, mixer_convert: Run, saved: Path, tmp_path: Path, case: str
    ) -> None:
        old, new, named = {**MALFORMED, **UNSUITABLE}[case]
        right = SCHEMA + ENTRIES
        assert right.count(old) == 1
        pairing, out = tmp_path / "wrong.toml", tmp_path / "out.pdparams"
        pairing.write_text(right.replace(old, new))
        sentence = said(mixer_convert("--pairing", pairing, "--checkpoint", saved, "--out", out), 3)
        assert "wrong.toml" in sentence
        assert named in sentence
        assert not out.exists()

    def test_a_file_too_large(self, mixer_convert: Run, saved: Path, pairing: Path) -> None:
        with pairing.open("a") as stream:
            stream.write("#" * (8 << 20))
        assert "bytes" in said(mixer_convert("--pairing", pairing, "--checkpoint", saved), 3)

    def test_one_that_is_not_there(self, mixer_convert: Run, saved: Path, tmp_path: Path) -> None:
        assert "nowhere.toml" in said(mixer_convert("--pairing", tmp_path / "nowhere.toml", "--checkpoint", saved), 4)

    @pytest.mark.parametrize(
        "options",
        [
            ("--variant", "b16_in21k"),
            ("--src", "timm"),
            ("--init", "random"),
            ("--num-classes", "3"),
            ("--in-chans", "1"),
            ("--image-size", "224"),
            ("--gelu", "erf"),
            ("--layer-norm-eps", "1e-5"),
            ("--dst", "timm"),
            ("--dst", "paddlevit"),
        ],
        ids=" ".join,
    )
    def test_options_that_make_no_sense(
        self, mixer_convert: Run, pairing: Path, saved: Path, tmp_path: Path, options: tuple[str, ...]
    ) -> None:
        out = tmp_path / "out.pdparams"
        sentence = said(mixer_convert("--pairing", pairing, "--checkpoint", saved, "--out", out, *options), 2)
        assert options[0] in sentence
        assert "--pairing" in sentence
        assert not out.exists()

    def test_without_a_checkpoint(self, mixer_convert: Run, pairing: Path) -> None:
        assert "--checkpoint" in said(mixer_convert("--pairing", pairing), 2)

    def test_torch_reads_no_pdparams(self, mixer_convert: Run, pairing: Path, saved: Path, tmp_path: Path) -> None:
        there = tmp_path / "there.pdparams"
        assert mixer_convert("--pairing", pairing, "--checkpoint", saved, "--out", there).exit_code == 0
        run = mixer_convert("--pairing", pairing, "--checkpoint", there, "--out", tmp_path / "back.pdparams")
        assert ".safetensors" in said(run, 2)

    @pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
    def test_a_dtype_that_paddle_does_not_load(self, mixer_convert: Run, tmp_path: Path, dtype: str) -> None:
        saved = save_safetensors(tmp_path / "x.safetensors", {"a": np.ones(3, dtype)})
        pairing, out = written(tmp_path / "p.toml", '[weights]\n"a" = "a"\n'), tmp_path / "out.pdparams"
        sentence = said(mixer_convert("--pairing", pairing, "--checkpoint", saved, "--out", out), 3)
        assert dtype in sentence
        assert " a " in sentence

    def test_a_weight_that_is_not_finite(
        self, mixer_convert: Run, pairing: Path, reference: StateDict, tmp_path: Path
    ) -> None:
        weights = {key: array.copy() for key, array in reference.items()}
        weights["blocks.1.weight"][1, 2] = np.nan
        saved, out = save_safetensors(tmp_path / "x.safetensors", weights), tmp_path / "out.pdparams"
        assert "blocks.1.weight" in said(mixer_convert("--pairing", pairing, "--checkpoint", saved, "--out", out), 3)
        assert not out.exists()


class TestWeightTable:
    def test_a_literal_entry_wins(self, tmp_path: Path) -> None:
        table = table_of(tmp_path, '"a.{i}" = "b.{i}"\n"a.1" = { to = "first", transform = "transpose" }\n')
        rules, dropped = table.rules_for(["a.0", "a.1"])
        assert list(rules) == [
            KeyRule(source="a.0", target="b.0", transform=Transform.IDENTITY),
            KeyRule(source="a.1", target="first", transform=Transform.TRANSPOSE),
        ]
        assert not dropped

    def test_a_number_that_returns_is_the_same(self, tmp_path: Path) -> None:
        table = table_of(tmp_path, '"a.{i}.b{i}" = "c.{i}"\n')
        assert [rule.target for rule in table.rules_for(["a.12.b12"])[0]] == ["c.12"]
        with pytest.raises(BadInput, match=r"a\.1\.b2"):
            table.rules_for(["a.12.b12", "a.1.b2"])

    def test_placeholders_may_change_places(self, tmp_path: Path) -> None:
        table = table_of(tmp_path, '"a.{i}.{j}" = "b.{j}.{i}"\n')
        keys = [f"a.{i}.{j}" for i in range(3) for j in range(10, 12)]
        rules, _ = table.rules_for(keys)
        assert [rule.target for rule in rules] == [f"b.{j}.{i}" for i in range(3) for j in range(10, 12)]
        assert list(table.rules_back([rule.target for rule in rules])) == list(rules.inverse)

    def test_dropped_ones_and_why(self, tmp_path: Path) -> None:
        table = table_of(tmp_path, '"a" = "a"\n"n.{i}" = { drop = "counted" }\n')
        rules, dropped = table.rules_for(["n.0", "a", "n.1"])
        assert [rule.source for rule in rules] == ["a"]
        assert dropped == {"n.0": "counted", "n.1": "counted"}
        assert [rule.target for rule in table.rules_back(["a"])] == ["a"]

    @pytest.mark.parametrize(
        ("keys", "named"), [(["b.0", "c"], "c"), ([], "a.{i}"), (["b.0", "first"], "first"), (["b.0", "b.1"], "b.1")]
    )
    def test_what_does_not_lead_back(self, tmp_path: Path, keys: list[str], named: str) -> None:
        """The last: a.1, which it would become, leads to another name."""
        entries = '"a.{i}" = "b.{i}"\n' + ('"a.1" = { drop = "odd" }\n' if "b.1" in keys else "")
        with pytest.raises(BadInput) as refused:
            table_of(tmp_path, entries).rules_back(keys)
        assert "table.toml" in str(refused.value)
        assert f" {named}:" in str(refused.value)

    def test_what_the_aligner_alone_reads_is_let_through(self, tmp_path: Path) -> None:
        tables = '[inputs]\nx = 1\n[accepted]\nx = 1\n[weights]\n"a" = "b"\n'
        weights = weights_of(read_file(written(tmp_path / "p.toml", tables)))
        assert weights is not None
        assert len(weights.entries) == 1

    def test_there_may_be_none(self, tmp_path: Path) -> None:
        assert read_pairing(written(tmp_path / "p.toml", '[modules]\n"a" = "b"\n')).weights is None
