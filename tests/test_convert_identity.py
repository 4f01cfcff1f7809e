"""What the bits do not carry, tanh and another epsilon: planted once, found by each command, in both formats."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, save_safetensors
from safetensors import safe_open

import convert
from convert import files
from convert.arrays import StateDict
from convert.errors import UsageProblem
from convert.evidence.recorded import manifest_path
from convert.identity import METADATA
from convert.mixer.mapping import convert_state_dict
from convert.mixer.variants import MixerConfig

PLANTED = ("--gelu", "tanh", "--layer-norm-eps", "1e-5")
CHOSEN = {"gelu": "tanh", "layer_norm_eps": 1e-5}


def chosen_of(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in CHOSEN}


def manifest_of(out: Path) -> dict[str, Any]:
    return json.loads(manifest_path(out).read_text())


def without(out: Path, *names: str) -> None:
    """Take lines out of the manifest's config."""
    content = manifest_of(out)
    for name in names:
        del content["config"][name]
    manifest_path(out).write_text(json.dumps(content))


@pytest.fixture
def planted(mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> Path:
    """A .pdparams for tanh and 1e-5, with its manifest."""
    out = tmp_path / "planted.pdparams"
    result = mixer_convert("--checkpoint", checkpoint, *PLANTED, "--out", out)
    assert result.exit_code == 0, result.output
    return out


class TestEveryWay:
    @pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
    def test_there_and_back_and_on(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, suffix: str) -> None:
        there, back, on = tmp_path / f"there{suffix}", tmp_path / "back.safetensors", tmp_path / "on.pdparams"
        mixer_convert("--checkpoint", checkpoint, *PLANTED, "--out", there)
        mixer_convert("--checkpoint", there, "--dst", "timm", "--out", back)
        mixer_convert("--checkpoint", back, "--out", on)
        for out in (there, back, on):
            assert chosen_of(manifest_of(out)["config"]) == CHOSEN

    def test_metadata_alone_is_enough(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        there, on = tmp_path / "there.safetensors", tmp_path / "on.pdparams"
        mixer_convert("--checkpoint", checkpoint, *PLANTED, "--out", there)
        manifest_path(there).unlink()
        result = mixer_convert("--checkpoint", there, "--out", on)
        assert "Nothing says" not in result.stderr
        assert chosen_of(manifest_of(on)["config"]) == CHOSEN
        with safe_open(there, framework="numpy") as file:
            said = json.loads(file.metadata()[METADATA])
        assert (said["layout"], said["config"]["hidden_dim"]) == ("paddle", 10)

    def test_a_variant_s_preprocessing_goes_along(self, mixer_convert: Run, tmp_path: Path) -> None:
        from convert.mixer.init import init_state_dict
        from convert.mixer.variants import get_variant

        source = save_safetensors(tmp_path / "s.safetensors", init_state_dict(get_variant("gmlp_ti16").config, 0))
        there, on = tmp_path / "there.safetensors", tmp_path / "on.pdparams"
        mixer_convert("--checkpoint", source, "--variant", "gmlp_ti16", "--out", there)
        mixer_convert("--checkpoint", there, "--out", on)
        found = manifest_of(on)
        assert found["variant"]["name"] == "gmlp_ti16"
        assert found["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
        refused = mixer_convert("--checkpoint", there, "--variant", "gmlp_s16", "--out", on, "--force")
        assert refused.exit_code == 2
        assert "the metadata of there.safetensors says that there.safetensors is gmlp_ti16" in refused.stderr

    def test_random_weights_are_no_variant_s(self, mixer_convert: Run, tmp_path: Path) -> None:
        there, on = tmp_path / "there.safetensors", tmp_path / "on.pdparams"
        mixer_convert("--variant", "gmlp_ti16", "--init", "random", "--out", there)
        mixer_convert("--checkpoint", there, "--out", on)
        assert manifest_of(on)["random"] is True
        on.unlink()
        stated = mixer_convert("--checkpoint", there, "--variant", "gmlp_ti16", "--out", on, "--force")
        assert stated.exit_code == 0
        assert manifest_of(on)["random"] is True

    def test_nor_for_the_reports(self, frameworks: None, mixer_convert: Run, tmp_path: Path) -> None:
        from convert.mixer.variants import get_variant
        from convert.request import Request
        from reports.score.weights import read_weights

        there, on = tmp_path / "there.safetensors", tmp_path / "on.pdparams"
        mixer_convert("--variant", "gmlp_ti16", "--init", "random", "--out", there)
        mixer_convert("--checkpoint", there, "--variant", "gmlp_ti16", "--out", on)
        weights = read_weights(Request(checkpoint=on, variant=get_variant("gmlp_ti16")))
        assert (weights.upstream, weights.known_from) == (None, f"random weights, says {manifest_path(on).name}")

    def test_shards_say_it_too(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        folder, on = tmp_path / "hub", tmp_path / "on.pdparams"
        folder.mkdir()
        shard = folder / "model-00001-of-00001.safetensors"
        mixer_convert("--checkpoint", checkpoint, *PLANTED, "--dst", "timm", "--out", shard)
        index = {"weight_map": dict.fromkeys(files.read(shard), shard.name)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        result = mixer_convert("--checkpoint", folder, "--out", on)
        assert "Of the folder, model.safetensors.index.json was taken." in result.stderr
        assert chosen_of(manifest_of(on)["config"]) == CHOSEN


class TestCommands:
    """Each reads it back; where the manifest does not say it, each falls back to timm's, and says so."""

    def test_inspect(self, mixer_convert: Run, planted: Path) -> None:
        def found() -> dict[str, Any]:
            return json.loads(mixer_convert("inspect", planted, "--json", "-").stdout)["config"]

        assert chosen_of(found()) == CHOSEN
        without(planted, "gelu", "layer_norm_eps")
        assert chosen_of(found()) == {"gelu": "erf", "layer_norm_eps": 1e-6}

    def test_convert(self, mixer_convert: Run, planted: Path, tmp_path: Path) -> None:
        without(planted, "gelu")
        out = tmp_path / "out.pdparams"
        result = mixer_convert("--checkpoint", planted, "--out", out)
        assert (
            "Nothing says which gelu planted.pdparams is for: timm's, gelu erf, assumed (--gelu says)." in result.stderr
        )
        assert chosen_of(manifest_of(out)["config"]) == {"gelu": "erf", "layer_norm_eps": 1e-5}

    def test_verify(self, mixer_convert: Run, planted: Path, checkpoint: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.pdparams"
        mixer_convert("--checkpoint", checkpoint, "--gelu", "erf", "--layer-norm-eps", "1e-5", "--out", other)
        result = mixer_convert("verify", planted, other)
        assert result.exit_code == 1
        assert "! gelu: tanh against erf" in result.stdout
        assert "layer_norm_eps" not in result.stdout
        without(planted, "gelu")
        assert mixer_convert("verify", planted, other).exit_code == 0

    def test_load_paddle(self, frameworks: None, planted: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert chosen_of(vars_of(convert.load_paddle(checkpoint=planted).config)) == CHOSEN
        manifest_path(planted).unlink()
        with pytest.warns(UserWarning, match="nothing says which gelu and layer_norm_eps"):
            model = convert.load_paddle(checkpoint=planted)
        assert chosen_of(vars_of(model.config)) == {"gelu": "erf", "layer_norm_eps": 1e-6}
        stated = convert.load_paddle(checkpoint=planted, gelu="tanh", layer_norm_eps=1e-5)
        assert chosen_of(vars_of(stated.config)) == CHOSEN

    def test_load_paddle_computes_what_is_said(self, frameworks: None, planted: Path, config: MixerConfig) -> None:
        import paddle

        images = paddle.to_tensor(np.random.default_rng(0).standard_normal((2, 3, 20, 20), np.float32))
        right = convert.load_paddle(checkpoint=planted)(images).numpy()
        without(planted, "gelu", "layer_norm_eps")
        with pytest.warns(UserWarning, match="nothing says"):
            wrong = convert.load_paddle(checkpoint=planted)(images).numpy()
        assert np.abs(right - wrong).max() > 1e-6  # the two functions; float32 rounds logits of 0.1 by 1e-8

    def test_align(self, mixer_align: Run, planted: Path, tmp_path: Path) -> None:
        out = tmp_path / "result.json"
        assert mixer_align("--checkpoint", planted, "--json", out).exit_code == 0
        assert chosen_of(json.loads(out.read_text())["settings"]["config"]) == CHOSEN
        without(planted, "gelu")
        result = mixer_align("--checkpoint", planted, "--json", out)
        assert "nothing says which gelu" in result.stderr
        assert json.loads(out.read_text())["settings"]["config"]["gelu"] == "erf"

    def test_a_candidate(self, mixer_align: Run, planted: Path, checkpoint: Path) -> None:
        refused = mixer_align("--checkpoint", checkpoint, "--candidate", planted)
        assert refused.exit_code == 2
        assert "planted.pdparams.manifest.json says gelu tanh, the reference says erf" in refused.stderr
        assert mixer_align("--checkpoint", checkpoint, *PLANTED, "--candidate", planted).exit_code == 0
        without(planted, "gelu", "layer_norm_eps")
        assert mixer_align("--checkpoint", checkpoint, "--candidate", planted).exit_code == 0

    def test_a_trace(self, mixer_align: Run, planted: Path, checkpoint: Path, tmp_path: Path) -> None:
        trace = tmp_path / "trace.json"
        assert mixer_align("record", "--checkpoint", planted, "--out", trace).exit_code == 0
        assert chosen_of(json.loads(trace.read_text())["config"]) == CHOSEN
        assert mixer_align("check", "--trace", trace, "--candidate", planted).exit_code == 0
        other = tmp_path / "other.json"
        assert mixer_align("record", "--checkpoint", checkpoint, "--out", other).exit_code == 0
        assert mixer_align("check", "--trace", other, "--candidate", planted).exit_code == 2

    def test_the_reports(self, frameworks: None, mixer_convert: Run, tmp_path: Path, square_source: StateDict) -> None:
        from convert.job import request_of
        from convert.request import Request
        from reports.score.weights import read_weights

        source, out = save_safetensors(tmp_path / "s.safetensors", square_source), tmp_path / "out.pdparams"
        mixer_convert("--checkpoint", source, *PLANTED, "--out", out)
        weights = read_weights(Request(checkpoint=out))
        assert chosen_of(weights.as_data()["config"]) == CHOSEN
        assert "weights_key" in weights.as_data()
        with pytest.raises(UsageProblem, match="gelu"):
            read_weights(request_of(checkpoint=out, gelu="erf"))
        without(out, "gelu")
        assert read_weights(Request(checkpoint=out)).config.gelu == "erf"


class TestContradictions:
    @pytest.mark.parametrize(("option", "value"), [("--gelu", "erf"), ("--layer-norm-eps", "1e-6")])
    def test_the_user_against_the_manifest(
        self, mixer_convert: Run, mixer_align: Run, planted: Path, tmp_path: Path, option: str, value: str
    ) -> None:
        out = tmp_path / "out.pdparams"
        for run, arguments in (
            (mixer_convert, ("--checkpoint", planted, "--out", out)),
            (mixer_align, ("--checkpoint", planted)),
        ):
            result = run(*arguments, option, value)
            assert result.exit_code == 2
            assert "planted.pdparams.manifest.json says" in result.stderr
            assert f"{option} " in result.stderr
        assert not out.exists()

    def test_the_source_stated_against_the_layout_recorded(
        self, mixer_convert: Run, planted: Path, tmp_path: Path
    ) -> None:
        result = mixer_convert("--checkpoint", planted, "--src", "timm", "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 2
        assert "planted.pdparams.manifest.json says that it has paddle's layout" in result.stderr

    def test_the_metadata_against_the_manifest(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "there.safetensors"
        mixer_convert("--checkpoint", checkpoint, *PLANTED, "--out", out)
        content = manifest_of(out)
        content["config"]["gelu"] = "erf"
        manifest_path(out).write_text(json.dumps(content))
        result = mixer_convert("--checkpoint", out, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 2
        assert (
            "the metadata of there.safetensors says gelu tanh, there.safetensors.manifest.json says erf"
            in result.stderr
        )

    @pytest.mark.parametrize(
        ("what", "value"),
        [("variant", {"name": "b16_in1k"}), ("layouts", {"target": "timm"})],
    )
    def test_whatever_metadata_and_manifest_part_in(
        self, mixer_convert: Run, tmp_path: Path, what: str, value: object
    ) -> None:
        out = tmp_path / "there.safetensors"
        mixer_convert("--variant", "gmlp_ti16", "--init", "random", "--out", out)
        content = manifest_of(out)
        manifest_path(out).write_text(json.dumps({**content, what: value}))
        result = mixer_convert("--checkpoint", out, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 2
        assert "the metadata of there.safetensors says" in result.stderr

    def test_a_variant_of_other_sizes(self, mixer_convert: Run, planted: Path, tmp_path: Path) -> None:
        content = manifest_of(planted)
        manifest_path(planted).write_text(json.dumps({**content, "variant": {"name": "s32"}}))
        result = mixer_convert("--checkpoint", planted, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "it says that planted.pdparams is s32, whose image_size is 224, not 20" in result.stderr

    def test_a_candidate_with_a_manifest_about_other_sizes(
        self, mixer_align: Run, planted: Path, checkpoint: Path
    ) -> None:
        content = manifest_of(planted)
        content["config"]["hidden_dim"] = 99
        manifest_path(planted).write_text(json.dumps(content))
        assert mixer_align("--checkpoint", checkpoint, *PLANTED, "--candidate", planted).exit_code == 3

    def test_metadata_count_though_the_manifest_is_about_another_file(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path
    ) -> None:
        tanh, erf = tmp_path / "tanh.safetensors", tmp_path / "erf.safetensors"
        for out, gelu in ((tanh, "tanh"), (erf, "erf")):
            mixer_convert("--checkpoint", checkpoint, "--gelu", gelu, "--dst", "timm", "--out", out)
        content = manifest_of(tanh)
        content["output"]["sha256"] = "0" * 64
        manifest_path(tanh).write_text(json.dumps(content))
        result = mixer_convert("verify", tanh, erf)
        assert result.exit_code == 1
        assert "! gelu: tanh against erf" in result.stdout
        inspected = mixer_convert("inspect", tanh)
        assert "is about another file than tanh.safetensors" in inspected.stdout

    def test_a_manifest_about_another_file(self, mixer_convert: Run, planted: Path, tmp_path: Path) -> None:
        changed = {**files.read(planted), "norm.bias": np.zeros(10, np.float32)}
        with planted.open("wb") as stream:
            files.write(planted, stream, changed)
        result = mixer_convert("--checkpoint", planted, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 5
        assert "planted.pdparams.manifest.json: it is about another file than planted.pdparams" in result.stderr

    def test_a_manifest_about_other_sizes(self, mixer_convert: Run, planted: Path, tmp_path: Path) -> None:
        content = manifest_of(planted)
        content["config"]["hidden_dim"] = 11
        manifest_path(planted).write_text(json.dumps(content))
        result = mixer_convert("--checkpoint", planted, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "it says hidden_dim 11, planted.pdparams has 10" in result.stderr

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("gelu", "relu"),
            ("gelu", ["tanh"]),
            ("gelu", None),
            ("layer_norm_eps", None),
            ("layer_norm_eps", 0.002),
            ("layer_norm_eps", "1e-5"),
            ("layer_norm_eps", -1),
            ("layer_norm_eps", True),
            ("hidden_dim", 10.0),
            ("family", "vit"),
        ],
    )
    def test_a_manifest_that_says_nonsense(
        self, mixer_convert: Run, planted: Path, tmp_path: Path, name: str, value: object
    ) -> None:
        content = manifest_of(planted)
        content["config"][name] = value
        manifest_path(planted).write_text(json.dumps(content))
        result = mixer_convert("--checkpoint", planted, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "it does not say what checkpoint it is about" in result.stderr

    @pytest.mark.parametrize("value", ["text", [], 0, False, ""])
    @pytest.mark.parametrize("part", ["variant", "layouts", "source", "config", "output"])
    def test_a_manifest_with_something_else_for_a_mapping(
        self, mixer_convert: Run, planted: Path, tmp_path: Path, part: str, value: object
    ) -> None:
        content = manifest_of(planted)
        content[part] = value
        manifest_path(planted).write_text(json.dumps(content))
        assert mixer_convert("--checkpoint", planted, "--out", tmp_path / "o.pdparams").exit_code == 3


class TestCallers:
    """What the command line checks before, `load_paddle` does too."""

    @pytest.mark.parametrize(
        "said",
        [
            {"gelu": "TANH"},
            {"layer_norm_eps": -1.0},
            {"layer_norm_eps": "1e-5"},
            {"layer_norm_eps": float("nan")},
            {"layer_norm_eps": 0.002},
            {"dtype": "float64"},
            {"num_classes": 0},
            {"num_classes": 2**62},
        ],
    )
    def test_nonsense_is_refused(self, frameworks: None, checkpoint: Path, said: dict[str, Any]) -> None:
        with pytest.raises(UsageProblem):
            convert.load_paddle(checkpoint=checkpoint, **said)

    @pytest.mark.parametrize("option", ["dst", "image_size", "nonsense"])
    def test_what_is_no_option_of_it(self, frameworks: None, checkpoint: Path, option: str) -> None:
        with pytest.raises(TypeError, match=option):
            convert.load_paddle(checkpoint=checkpoint, **{option: "timm"})

    def test_an_epsilon_that_no_layer_norm_of_paddle_takes(self, mixer_align: Run, checkpoint: Path) -> None:
        assert mixer_align("--checkpoint", checkpoint, "--layer-norm-eps", "0.002").exit_code == 2


class TestGoogle:
    """The issue that showed it: tanh in the manifest, and erf in everything that was made of the file."""

    @pytest.fixture
    def converted(self, mixer_convert: Run, tmp_path: Path, config: MixerConfig, source: StateDict) -> Path:
        np.savez(tmp_path / "g.npz", **convert_state_dict(source, config, dst="google").state_dict)
        out = tmp_path / "out.pdparams"
        assert mixer_convert("--checkpoint", tmp_path / "g.npz", "--out", out).exit_code == 0
        return out

    def test_tanh_stays(self, mixer_convert: Run, mixer_align: Run, converted: Path, tmp_path: Path) -> None:
        back, result = tmp_path / "back.safetensors", tmp_path / "result.json"
        assert convert.load_paddle(checkpoint=converted).config.gelu == "tanh"
        mixer_convert("--checkpoint", converted, "--dst", "timm", "--out", back)
        assert manifest_of(back)["config"]["gelu"] == "tanh"
        assert mixer_align("--checkpoint", converted, "--json", result).exit_code == 0
        assert json.loads(result.read_text())["settings"]["config"]["gelu"] == "tanh"


class TestMmpretrain:
    """Its LayerNorms have mmcv's epsilon, which no name or shape tells."""

    @pytest.mark.parametrize("layout", ["mmpretrain", "mmpretrain-norm"])
    def test_its_epsilon_is_written_down(
        self, mixer_convert: Run, tmp_path: Path, config: MixerConfig, source: StateDict, layout: Any
    ) -> None:
        theirs = convert_state_dict(source, config, dst=layout).state_dict
        assert ("backbone.ln1.weight" in theirs) == (layout == "mmpretrain")
        path, out = save_safetensors(tmp_path / "mm.safetensors", theirs), tmp_path / "out.pdparams"
        result = mixer_convert("--checkpoint", path, "--out", out)
        assert "layer_norm_eps 1e-05" in result.stderr
        assert manifest_of(out)["config"]["layer_norm_eps"] == 1e-5
        assert manifest_of(out)["layouts"]["source"] == layout


def vars_of(config: MixerConfig) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(config)
