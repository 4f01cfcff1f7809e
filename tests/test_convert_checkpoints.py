"""Checkpoints in the forms that frameworks, hubs and people leave behind: read bit for bit, or refused in words.

Each is made here; the same kinds as other programs wrote them lie in the shared data folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED, Run, save_safetensors, shared

from convert import files
from convert.arrays import StateDict, location_of, row_blocks, same_bits
from convert.errors import Unreadable
from convert.evidence.recorded import manifest_path
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

BODY = "stem", "blocks", "norm"


@dataclass(frozen=True)
class Fate:
    """What has to become of a file: exit code, what is said, which options it needs to be read, what is taken of it."""

    exit: int = 0
    says: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    source: Mapping[str, Any] | None = None
    """Entries of the manifest's source that it has to have."""
    equal: bool = True


def refused(*says: str, options: tuple[str, ...] = ()) -> Fate:
    return Fate(exit=3, says=says, options=options)


READ = Fate()
TWO = Fate(exit=2, says=("2 sets of weights", "(30 tensors)", "--ema or --no-ema"))
ADVICE_LEGACY = "torch.save(torch.load(FILE, weights_only=True), OTHER)"
ADVICE_PROTOCOL = "torch.save(torch.load(FILE, weights_only=False), OTHER)"
HEAD = ("--num-classes", "4")
FATES: dict[str, list[Fate]] = {
    "base.safetensors": [READ],
    "01_model_best.pth": [TWO, Fate(options=("--no-ema",)), Fate(options=("--weights-key", "state_dict"))],
    "01_model_best.pth.tar": [TWO, Fate(options=("--no-ema",))],
    "02_numpy_metric.pth": [Fate(source={"weights_key": "state_dict"})],
    "03_tutorial.pt": [Fate(source={"weights_key": "model_state_dict"})],
    "04_lightning.ckpt": [Fate(source={"weights_key": "state_dict", "stripped_prefix": "model."})],
    "04_lightning.pt": [Fate(source={"stripped_prefix": "model."})],
    "05_hf_folder": [Fate(source={"file": "model.safetensors", "stripped_prefix": "timm_model."})],
    "05b_pytorch_model.bin": [READ],
    "06_swa.pth": [Fate(says=("Left out: n_averaged (a counter)",), source={"stripped_prefix": "module."})],
    "07_mmpretrain.pth": [Fate(says=("layer_norm_eps 1e-05",))],
    "09_thop.pth": [refused("4 unexpected", "blocks.0.total_ops", "blocks.1.total_ops", "+ total_ops", "total_params")],
    "10_headless.safetensors": [refused("no head", "--num-classes N"), Fate(options=HEAD, equal=False)],
    "10c_head_no_bias.pth": [refused("- head.bias", "--num-classes N"), Fate(options=HEAD, equal=False)],
    "11_grey.safetensors": [Fate(equal=False)],
    "12_mixed_half.pth": [
        refused("20 float16, 10 float32", "--dtype float32"),
        Fate(options=("--dtype", "float32"), says=("Cast to float32, exactly",), equal=False),
    ],
    "13_model-00001-of-00002.safetensors": [refused("shard 1 of 2", "name 13_model.safetensors.index.json")],
    "13_model-00002-of-00002.safetensors": [refused("shard 2 of 2", "name 13_model.safetensors.index.json")],
    "13_model.safetensors.index.json": [READ],
    "13_pytorch_model.bin.index.json": [refused("no .safetensors but", "Name model.safetensors.index.json")],
    "14_lora.pth": [refused("lora_A", "LoRA adapters: merge them")],
    "16_bigvision.npz": [Fate(source={"stripped_prefix": "params/"}, says=("tanh GELU",))],
    "16_headless.npz": [refused("no head", "--num-classes N"), Fate(options=HEAD, equal=False)],
    "19_int8_dynamic.pth": [refused("int8 model")],
    "21_deeper.pth": [Fate(source={"weights_key": "model.state_dict"})],
    "21_ema_module.pth": [TWO, Fate(options=("--no-ema",)), Fate(options=("--weights-key", "model"))],
    "21_model_and_ema.pth": [TWO, Fate(options=("--no-ema",), source={"weights_key": "model"})],
    "21_net.pth": [Fate(source={"weights_key": "net"})],
    "22_legacy.pth": [refused("from before 1.6", ADVICE_LEGACY)],
    "22_protocol4.pth": [refused("protocol 4", ADVICE_PROTOCOL)],
    "27_model_is_config.pth": [Fate(source={"weights_key": "state_dict"})],
    "32_as_pdopt.pdopt": [refused("optimizer's state")],
    "33_backbone_prefix.pdparams": [Fate(source={"stripped_prefix": "backbone."}, says=("Nothing says which gelu",))],
    "35_static_names.pdparams": [refused("no vision MLP that is known here", "static program's parameters")],
    "36_renamed.pdparams": [refused("a static program's parameters (.pdiparams)")],
    "37_untransposed.pdparams": [refused("not transposed", "--src timm"), Fate(options=("--src", "timm"))],
}


ROWS: dict[str, tuple[str, ...]] = {
    "`.safetensors`, `.npz`, `.pdparams`, or what": ("base.safetensors", "05b_pytorch_model.bin", "no suffix"),
    "the index of `.safetensors` shards": ("13_model.safetensors.index.json",),
    "a folder with": ("05_hf_folder",),
    "a training checkpoint with one set": ("03_tutorial.pt", "21_net.pth", "21_deeper.pth", "27_model_is_config.pth"),
    "several sets": ("21_model_and_ema.pth", "21_ema_module.pth", "01_model_best.pth.tar"),
    "settings, optimizer": ("02_numpy_metric.pth", "a training script's"),
    "one prefix": ("04_lightning.ckpt", "16_bigvision.npz", "33_backbone_prefix.pdparams", "two prefixes"),
    "whole numbers": ("06_swa.pth", "swa"),
    "other tensors": ("09_thop.pth", "a criterion's weight beside"),
    "Google's": ("16_bigvision.npz", "07_mmpretrain.pth"),
    "no head": ("10_headless.safetensors", "10c_head_no_bias.pth", "16_headless.npz"),
    "several dtypes": ("12_mixed_half.pth",),
    "a shard alone": ("13_model-00001-of-00002.safetensors", "13_pytorch_model.bin.index.json"),
    "LoRA adapters": ("14_lora.pth", "19_int8_dynamic.pth", "32_as_pdopt.pdopt", "35_static_names.pdparams"),
    "TorchScript": ("22_legacy.pth", "22_protocol4.pth"),
    "a `.pdparams` with torch's orientation": ("37_untransposed.pdparams",),
}
"""How the rows of docs/convert.md begin, and what is held of each."""
SAID = {0: "read", 2: "asked", 3: "refused"}


def test_the_table_of_checkpoints_is_true() -> None:
    lines = Path(__file__).resolve().parents[1].joinpath("docs", "convert.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| what you have | what becomes of it |") + 2
    rows = [
        line.strip("| ").split(" | ") for line in itertools.takewhile(lambda line: line.startswith("|"), lines[start:])
    ]
    assert len(rows) == len(ROWS)
    for (what, becomes), (begin, names) in zip(rows, ROWS.items(), strict=True):
        assert what.startswith(begin)
        exits = {(FATES[name][0] if name in FATES else MADE[name][2]).exit for name in names}
        assert {becomes.split()[0].strip(",;:") for _ in exits} == {SAID[exit_code] for exit_code in exits}


def hold(run: Run, path: Path, fate: Fate, out: Path, base: StateDict | None) -> None:
    """Convert the file back to timm's layout and hold what has to become of it."""
    result = run("--checkpoint", path, "--dst", "timm", "--out", out, *fate.options, "--force")
    assert result.exit_code == fate.exit, result.output
    assert "Traceback" not in result.output
    assert all(said in result.stderr for said in fate.says), result.stderr
    assert out.exists() == (fate.exit == 0)
    if fate.exit:
        assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1
        return
    source = json.loads(manifest_path(out).read_text())["source"]
    assert {name: source[name] for name in fate.source or {}} == (fate.source or {})
    if base is not None and fate.equal:
        found = files.read(out)
        assert found.keys() == base.keys()
        assert all(same_bits(found[key], base[key]) for key in base)


@pytest.mark.parametrize("name", FATES)
def test_a_file_as_people_have_them(mixer_convert: Run, tmp_path: Path, name: str) -> None:
    path, base = shared(f"checkpoints/{name}"), files.read(shared("checkpoints/base.safetensors"))
    for fate in FATES[name]:
        hold(mixer_convert, path, fate, tmp_path / "out.safetensors", base)
        (tmp_path / "out.safetensors").unlink(missing_ok=True)


def test_every_shared_file_has_a_fate() -> None:
    folder = SHARED / "checkpoints"
    if not folder.is_dir():
        pytest.skip("needs the shared data folder, which is not here")
    assert {path.name for path in folder.iterdir()} - {"README.md"} == FATES.keys()


@pytest.mark.parametrize(
    ("command", "name"), [("align", "21_model_and_ema.pth"), ("align", "33_backbone_prefix.pdparams")]
)
def test_the_gate_reads_them_too(mixer_align: Run, command: str, name: str) -> None:
    path = shared(f"checkpoints/{name}")
    options = ["--weights-key", "model"] if "ema" in name else []
    result = mixer_align("--checkpoint", path, *options)
    assert result.exit_code == 0, result.output


Torch = Callable[[Any, dict[str, Any]], Any]


def _adam(torch: Any, weights: dict[str, Any]) -> dict[str, Any]:
    module = torch.nn.ParameterDict(
        {key.replace(".", "_"): torch.nn.Parameter(w.clone()) for key, w in weights.items()}
    )
    optimizer = torch.optim.AdamW(module.parameters())
    sum(w.sum() for w in module.values()).backward()
    optimizer.step()
    return optimizer.state_dict()


def _training(torch: Any, weights: dict[str, Any]) -> dict[str, Any]:
    return {
        "epoch": 3,
        "state_dict": weights,
        "optimizer": _adam(torch, weights),
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(59.9),
    }


def _prefixed(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in weights.items()}


MADE: dict[str, tuple[str, Torch, Fate]] = {
    "a training script's": ("x.pth.tar", _training, Fate(source={"weights_key": "state_dict"})),
    "an upper-case suffix": ("x.PTH", lambda torch, w: w, READ),
    "no suffix": ("x", lambda torch, w: w, READ),
    "deep, under odd names": (
        "x.ckpt",
        lambda torch, w: {"a": [{"b": {"c": w}}]},
        Fate(source={"weights_key": "a.0.b.c"}),
    ),
    "swa": (
        "x.pt",
        lambda torch, w: OrderedDict({"n_averaged": torch.tensor(7), **_prefixed(w, "module.")}),
        Fate(says=("n_averaged (a counter)",), source={"stripped_prefix": "module."}),
    ),
    "two prefixes": (
        "x.bin",
        lambda torch, w: _prefixed(w, "model._orig_mod."),
        Fate(source={"stripped_prefix": "model._orig_mod."}),
    ),
    "a criterion's weight beside": (
        "x.ckpt",
        lambda torch, w: {"state_dict": {**_prefixed(w, "model."), "criterion.weight": torch.ones(7)}},
        refused("1 unexpected (+ criterion.weight)"),
    ),
    "counters of operations": (
        "x.pth",
        lambda torch, w: {**w, "total_ops": torch.zeros(1, dtype=torch.float64)},
        refused("1 unexpected (+ total_ops)"),
    ),
    "a pickled model": ("x.pth", lambda torch, w: torch.nn.Linear(2, 2), refused("torch.nn.modules.linear.Linear")),
    "adapters": (
        "x.pth",
        lambda torch, w: {**w, "blocks.0.mlp_tokens.fc1.lora_A.weight": torch.zeros(2, 2)},
        refused("LoRA adapters"),
    ),
    "the optimizer alone": ("x.pth", _adam, refused("optimizer's state")),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_kind_made_by_torch(
    mixer_convert: Run, tmp_path: Path, frameworks: None, source: StateDict, kind: str
) -> None:
    import torch

    name, make, fate = MADE[kind]
    weights = {key: torch.from_numpy(array.copy()) for key, array in source.items()}
    torch.save(make(torch, weights), tmp_path / name)
    hold(mixer_convert, tmp_path / name, fate, tmp_path / "out.safetensors", source)


def test_a_folder_of_the_hub_s(mixer_convert: Run, tmp_path: Path, source: StateDict, monkeypatch: Any) -> None:
    folder = tmp_path / "my mixer"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert mixer_convert("--checkpoint", folder).exit_code == 3
    save_safetensors(folder / "model.safetensors", source)
    monkeypatch.chdir(tmp_path)
    result = mixer_convert("--checkpoint", folder)
    assert result.stdout == "my mixer.pdparams\n"
    assert mixer_convert("verify", folder, "my mixer.pdparams").exit_code == 0
    assert mixer_convert("inspect", folder).exit_code == 0


class TestPaddle:
    @pytest.fixture
    def weights(self, config: MixerConfig, source: StateDict) -> dict[str, Any]:
        converted = convert_state_dict(source, config).state_dict
        return {key: np.ascontiguousarray(array) for key, array in converted.items()}

    @pytest.mark.parametrize("prefix", ["_layers.", "backbone.", "model.backbone."])
    def test_a_prefix(
        self, mixer_convert: Run, tmp_path: Path, source: StateDict, weights: dict[str, Any], prefix: str
    ) -> None:
        path = tmp_path / "x.pdparams"
        path.write_bytes(pickle.dumps(_prefixed(weights, prefix), 4))
        hold(mixer_convert, path, Fate(source={"stripped_prefix": prefix}), tmp_path / "out.safetensors", source)

    def test_torch_s_layout(self, mixer_convert: Run, tmp_path: Path, source: StateDict) -> None:
        path, out = tmp_path / "x.pdparams", tmp_path / "out.safetensors"
        path.write_bytes(pickle.dumps(dict(source), 4))
        hold(mixer_convert, path, refused("x.pdparams: its Linear weights are not transposed"), out, None)
        hold(mixer_convert, path, Fate(options=("--src", "timm")), out, source)

    def test_an_optimizer_s_state(self, mixer_convert: Run, tmp_path: Path, weights: dict[str, Any]) -> None:
        state = {f"linear_{i}.w_0_moment1_0": array for i, array in enumerate(weights.values())}
        path = tmp_path / "x.pdparams"
        path.write_bytes(pickle.dumps(state, 4))
        hold(mixer_convert, path, refused("optimizer's state"), tmp_path / "out.safetensors", None)

    def test_nothing_chosen_where_all_weights_are_square(self, mixer_convert: Run, tmp_path: Path) -> None:
        from convert.mixer.init import init_state_dict

        square = MixerConfig(
            image_size=8, patch_size=2, num_blocks=2, hidden_dim=6, tokens_mlp_dim=16, channels_mlp_dim=6, num_classes=6
        )
        weights, out = init_state_dict(square, 0), tmp_path / "out.safetensors"
        plain = save_safetensors(tmp_path / "x.safetensors", weights)
        fate = Fate(exit=2, says=("its layout could be timm or paddle", "Pass --src to say which"))
        hold(mixer_convert, plain, fate, out, None)
        hold(mixer_convert, plain, Fate(options=("--src", "timm")), out, weights)
        there = tmp_path / "there.safetensors"
        assert mixer_convert("--checkpoint", plain, "--src", "timm", "--out", there).exit_code == 0
        hold(mixer_convert, there, READ, out, weights)

    def test_a_wrong_shape_in_a_file_of_either_is_said_of_its_own_layout(
        self, mixer_convert: Run, tmp_path: Path, weights: dict[str, Any]
    ) -> None:
        path = save_safetensors(tmp_path / "x.safetensors", {**weights, "head.weight": weights["head.weight"].T})
        says = ("head.weight: x.safetensors has (7, 10), mixer in paddle layout expects (10, 7)",)
        hold(mixer_convert, path, refused(*says), tmp_path / "out.safetensors", None)

    def test_a_pdparams_just_works(self, mixer_align: Run, tmp_path: Path, weights: dict[str, Any]) -> None:
        import convert

        path = tmp_path / "x.pdparams"
        path.write_bytes(pickle.dumps(weights, 4))
        with pytest.warns(UserWarning, match="nothing says which gelu"):
            model = convert.load_paddle(checkpoint=path)
        assert np.array_equal(model.head.weight.numpy(), weights["head.weight"])
        assert mixer_align("--checkpoint", path).exit_code == 0


class TestStoredInAPth:
    """A storage of more than a block, of which the last has a rest."""

    @pytest.fixture
    def weight(self) -> StateDict:
        return {"weight": np.random.default_rng(0).random((700, 1001), np.float32)}

    @pytest.fixture
    def path(self, frameworks: None, weight: StateDict, tmp_path: Path) -> Path:
        import torch

        torch.save({key: torch.from_numpy(array) for key, array in weight.items()}, tmp_path / "x.pth")
        return tmp_path / "x.pth"

    def test_its_tensors_are_read_from_the_file(self, path: Path, weight: StateDict) -> None:
        """What is only mapped counts as memory, a whole checkpoint in the end."""
        found = files.read(path)["weight"]
        stored, offset = location_of(found) or (None, 0)
        assert stored is not None
        assert offset == path.read_bytes().index(weight["weight"].tobytes())
        assert same_bits(np.concatenate([block.copy() for block in row_blocks(found)]), weight["weight"])

    @pytest.mark.parametrize("at", [0, 1 << 20, 2 << 20, -1])
    def test_an_altered_byte_is_found(self, path: Path, weight: StateDict, at: int) -> None:
        content, data = bytearray(path.read_bytes()), weight["weight"].tobytes()
        content[content.index(data) + at % len(data)] ^= 1
        path.write_bytes(content)
        with pytest.raises(Unreadable, match="checksum"):
            files.read(path)
