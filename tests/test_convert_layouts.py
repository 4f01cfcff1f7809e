"""Every layout there and back, and what other programs make of what is written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, save_safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from convert import files
from convert.arrays import StateDict, same_bits, tensor_sha256
from convert.evidence.recorded import manifest_path
from convert.mixer.init import init_state_dict
from convert.mixer.layouts import config_of, nearest_layout, recognise
from convert.mixer.mapping import convert_state_dict
from convert.mixer.rule_tables import FROM_TIMM, covers, layout_shapes, route
from convert.mixer.shapes import HEAD, TIMM_SHAPES
from convert.mixer.variants import VARIANTS, MixerConfig, get_variant
from convert.rules import Transform

PAIRS = [(layout, family) for layout in FROM_TIMM for family in TIMM_SHAPES if covers(layout, family)]


def family_config(config: MixerConfig, family: Any) -> MixerConfig:
    gelu = config.gelu
    tokens = config.tokens_mlp_dim if family in ("mixer", "gmixer") else 0
    return dataclasses.replace(config, family=family, tokens_mlp_dim=tokens, gelu=gelu)


def equal(a: StateDict, b: StateDict) -> bool:
    return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)


@pytest.mark.parametrize(("layout", "family"), PAIRS)
def test_there_and_back_is_bit_exact(config: MixerConfig, layout: Any, family: Any) -> None:
    config = family_config(config, family)
    source = init_state_dict(config, 0)
    there = convert_state_dict(source, config, dst=layout).state_dict
    assert {key: array.shape for key, array in there.items()} == layout_shapes(config, layout)
    assert equal(convert_state_dict(there, config, src=layout, dst="timm").state_dict, source)


@given(
    order=st.permutations([2, 3, 5, 6, 8, 10, 14]),
    pair=st.sampled_from(PAIRS),
    dst=st.sampled_from(list(FROM_TIMM)),
    num_blocks=st.integers(1, 11),
)
@settings(max_examples=60)
def test_by_way_of_any_other_layout_too(order: list[int], pair: Any, dst: Any, num_blocks: int) -> None:
    patch_size, hidden_dim, tokens_mlp_dim, channels_mlp_dim, num_classes, grid, _ = order
    layout, family = pair
    config = MixerConfig(
        image_size=patch_size * grid,
        patch_size=patch_size,
        num_blocks=num_blocks,
        hidden_dim=hidden_dim,
        tokens_mlp_dim=2 * tokens_mlp_dim if family in ("mixer", "gmixer") else 0,
        channels_mlp_dim=2 * channels_mlp_dim,
        num_classes=num_classes,
        family=family,
    )
    if not covers(dst, family):
        return
    first = convert_state_dict(init_state_dict(config, 1), config, dst=layout).state_dict
    there = convert_state_dict(first, config, src=layout, dst=dst).state_dict
    assert equal(convert_state_dict(there, config, src=dst, dst=layout).state_dict, first)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted({variant.architecture for variant in VARIANTS}))
def test_every_architecture_goes_round_at_full_size(architecture: str) -> None:
    """Each tensor holds its own count of bit patterns, so that no two elements are alike."""
    config = next(variant.config for variant in VARIANTS if variant.architecture == architecture)
    source = {
        key: np.arange(np.prod(shape, dtype=int), dtype=np.uint32).view(np.float32).reshape(shape)
        for key, shape in layout_shapes(config, "timm").items()
    }
    for layout in (layout for layout in FROM_TIMM if covers(layout, config.family)):
        there = convert_state_dict(source, config, dst=layout).state_dict
        paddle = convert_state_dict(there, config, src=layout, dst="paddle").state_dict
        assert equal(convert_state_dict(paddle, config, src="paddle", dst="timm").state_dict, source)
        assert equal(convert_state_dict(paddle, config, src="paddle", dst=layout).state_dict, there)


@pytest.mark.parametrize(("layout", "family"), PAIRS)
def test_layout_and_config_are_recognised(config: MixerConfig, layout: Any, family: Any) -> None:
    config = family_config(config, family)
    state_dict = convert_state_dict(init_state_dict(config, 0), config, dst=layout).state_dict
    shapes = {key: array.shape for key, array in state_dict.items()}
    theirs = {"google": {"gelu": "tanh"}, "mmpretrain": {"layer_norm_eps": 1e-5}}
    expected = dataclasses.replace(config, **theirs.get(layout.removesuffix("-norm"), {}))
    assert config_of(shapes, layout, "x") == expected
    recognised = recognise(state_dict, "x")
    assert recognised is not None
    assert layout in recognised[1]


def test_google_kernels_are_paddle_s_already(config: MixerConfig) -> None:
    transforms = {rule.source: rule.transform for rule in route("google", "paddle", config)}
    assert transforms["MixerBlock_0/token_mixing/Dense_0/kernel"] is Transform.IDENTITY
    assert transforms["stem/kernel"] is Transform.HWIO_TO_OIHW


def test_google_values_land_where_the_formula_wants_them(config: MixerConfig, source: StateDict) -> None:
    google = convert_state_dict(source, config, dst="google").state_dict
    height, width, channel, unit = 1, 4, 2, 7
    assert (
        google["stem/kernel"][height, width, channel, unit] == source["stem.proj.weight"][unit, channel, height, width]
    )
    assert (
        google["MixerBlock_3/channel_mixing/Dense_1/kernel"][13, 9] == source["blocks.3.mlp_channels.fc2.weight"][9, 13]
    )
    assert google["pre_head_layer_norm/scale"][4] == source["norm.weight"][4]


@pytest.mark.parametrize("transform", Transform)
def test_transforms_and_their_inverses(transform: Transform) -> None:
    rank = {Transform.TRANSPOSE: 2, Transform.SQUEEZE: 3, Transform.UNSQUEEZE: 1}.get(transform, 4)
    array = np.arange(120.0).reshape((2, 3, 4, 5))
    array = array.reshape({1: (120,), 2: (8, 15), 3: (1, 1, 120), 4: (2, 3, 4, 5)}[rank])
    there = transform.apply(array)
    assert there.shape == transform.shape(array.shape)
    assert np.array_equal(transform.inverse.apply(there), array)
    assert transform.then(transform.inverse) is Transform.IDENTITY
    assert Transform.IDENTITY.then(transform) is transform.then(Transform.IDENTITY) is transform


def test_two_unrelated_transforms_do_not_combine() -> None:
    with pytest.raises(ValueError, match="no single transform"):
        Transform.TRANSPOSE.then(Transform.SQUEEZE)


class TestGoogle:
    @pytest.fixture
    def npz(self, tmp_path: Path, config: MixerConfig, source: StateDict) -> Path:
        path = tmp_path / "Mixer-X_5.npz"
        np.savez(path, **convert_state_dict(source, config, dst="google").state_dict)
        return path

    def test_it_converts_with_the_tanh_gelu(self, mixer_convert: Run, npz: Path, source: StateDict) -> None:
        out = npz.with_name("out.pdparams")
        result = mixer_convert("--src", "google", "--checkpoint", npz, "--out", out)
        assert result.exit_code == 0, result.output
        assert "tanh GELU" in result.stderr
        manifest = json.loads(manifest_path(out).read_text())
        assert manifest["config"]["gelu"] == "tanh"
        assert manifest["layouts"] == {"source": "google", "target": "paddle"}
        np.testing.assert_array_equal(files.read(out)["head.weight"], source["head.weight"].T)

    def test_erf_is_possible_and_says_what_it_changes(self, mixer_convert: Run, npz: Path) -> None:
        out = npz.with_name("out.pdparams")
        result = mixer_convert("--src", "google", "--checkpoint", npz, "--gelu", "erf", "--out", out)
        assert result.exit_code == 0, result.output
        assert "with erf the model is another function" in result.stderr
        assert json.loads(manifest_path(out).read_text())["config"]["gelu"] == "erf"

    def test_it_aligns(self, mixer_align: Run, npz: Path) -> None:
        result = mixer_align("--src", "google", "--reference", "timm", "--checkpoint", npz)
        assert result.exit_code == 0, result.output

    def test_of_an_npz_that_is_no_mixer_no_family_is_named(self, mixer_convert: Run, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", **{"Transformer/encoder": np.zeros(3, np.float32)})
        result = mixer_convert("--src", "google", "--checkpoint", tmp_path / "x.npz", "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "no vision MLP that is known here has such names (1: Transformer/encoder)" in result.stderr
        assert "google" not in result.stderr

    def test_a_google_file_offered_as_timm_s(self, mixer_convert: Run, npz: Path) -> None:
        result = mixer_convert("--src", "timm", "--checkpoint", npz, "--out", npz.with_name("o.pdparams"))
        assert result.exit_code == 3
        assert "--src google" in result.stderr

    def test_random_weights_have_one_source(self, mixer_convert: Run, tmp_path: Path) -> None:
        asked = ("--variant", "s32", "--init", "random", "--out", tmp_path / "x.pdparams")
        result = mixer_convert("--src", "google", *asked)
        assert (result.exit_code, "--src google has no effect beside --init" in result.stderr) == (2, True)
        assert not (tmp_path / "x.pdparams").exists()

    def test_objects_in_an_npz_are_refused(self, mixer_convert: Run, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
        result = mixer_convert("--src", "google", "--checkpoint", tmp_path / "x.npz")
        assert result.exit_code == 3
        assert "allow_pickle" in result.stderr


class TestWrongLayouts:
    def test_a_mixture_is_refused(
        self, mixer_convert: Run, tmp_path: Path, config: MixerConfig, source: StateDict
    ) -> None:
        mixed = dict(source)
        mixed["patch_embed.patch_embed.weight"] = mixed.pop("stem.proj.weight")
        path = save_safetensors(tmp_path / "x.safetensors", mixed)
        result = mixer_convert("--checkpoint", path, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "1 missing (- stem.proj.weight), 1 unexpected (+ patch_embed.patch_embed.weight)" in result.stderr
        mixed["stem.proj.weight"] = source["stem.proj.weight"]
        path = save_safetensors(tmp_path / "y.safetensors", mixed)
        result = mixer_convert("--checkpoint", path, "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "not those of mixer in timm layout: 1 unexpected (+ patch_embed.patch_embed.weight)." in result.stderr

    def test_gmlp_weights_offered_as_a_mixer(self, mixer_convert: Run, tmp_path: Path) -> None:
        weights = init_state_dict(get_variant("gmlp_ti16").config, 0)
        path = save_safetensors(tmp_path / "x.safetensors", weights)
        result = mixer_convert("--checkpoint", path, "--variant", "b16_in1k", "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "its keys are not those of b16_in1k" in result.stderr
        assert "They are nearest to gmlp in timm layout" in result.stderr

    def test_facebook_s_resmlp_offered_as_a_mixer(self, mixer_convert: Run, tmp_path: Path) -> None:
        config = get_variant("resmlp_12").config
        weights = convert_state_dict(init_state_dict(config, 0), config, dst="facebook").state_dict
        path = save_safetensors(tmp_path / "x.safetensors", weights)
        result = mixer_convert("--checkpoint", path, "--variant", "b16_in1k", "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 3
        assert "They are nearest to resmlp in facebook layout" in result.stderr

    def test_a_family_that_the_source_s_layout_lacks(self, mixer_convert: Run, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", a=np.zeros(1, np.float32))
        result = mixer_convert("--src", "google", "--variant", "resmlp_12", "--checkpoint", tmp_path / "x.npz")
        assert result.exit_code == 2
        assert "no such layout for resmlp" in result.stderr


class TestPaddle:
    @pytest.mark.parametrize("layout", ["paddle", "paddlevit"])
    def test_reverse_is_what_it_was(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict, layout: str
    ) -> None:
        there, back = tmp_path / "there.pdparams", tmp_path / "back.safetensors"
        assert mixer_convert("--checkpoint", checkpoint, "--dst", layout, "--out", there).exit_code == 0
        result = mixer_convert("--src", "paddle", "--checkpoint", there, "--dst", "timm", "--out", back)
        assert result.exit_code == 0, result.output
        assert equal(files.read(back), source)
        assert mixer_convert("verify", there, checkpoint).exit_code == 0

    def test_paddlevit_takes_its_file(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.pdparams"
        mixer_convert("--checkpoint", checkpoint, "--dst", "paddlevit", "--out", out)
        names = list(files.read(out))
        assert names[0] == "patch_embed.patch_embed.weight"
        assert "mixer_layers.3.mlp_tokens.fc2.bias" in names

    @pytest.mark.parametrize("name", ["s32", "gmixer_12", "resmlp_12", "gmlp_ti16"])
    def test_timm_takes_the_reversed_file(
        self, mixer_convert: Run, tmp_path: Path, frameworks: None, name: str
    ) -> None:
        import timm
        import torch

        variant = get_variant(name)
        original = save_safetensors(tmp_path / "timm.safetensors", init_state_dict(variant.config, 0))
        there, back = tmp_path / "there.pdparams", tmp_path / "back.safetensors"
        assert mixer_convert("--checkpoint", original, "--out", there).exit_code == 0
        assert mixer_convert("--src", "paddle", "--checkpoint", there, "--dst", "timm", "--out", back).exit_code == 0
        images = torch.randn(1, 3, 224, 224)
        logits = []
        for path in (original, back):
            model = timm.create_model(variant.timm_id, checkpoint_path=str(path)).eval()
            with torch.inference_mode():
                logits.append(model(images).numpy())
        assert logits[0].any()
        assert np.array_equal(*logits)


class TestTrainingCheckpoints:
    def test_facebook_s_resmlp_is_read_like_timm_reads_it(
        self, mixer_convert: Run, tmp_path: Path, frameworks: None, config: MixerConfig
    ) -> None:
        import torch
        from timm.models.mlp_mixer import checkpoint_filter_fn

        config = family_config(config, "resmlp")
        source = init_state_dict(config, 0)
        facebook = convert_state_dict(source, config, dst="facebook").state_dict
        assert facebook["blocks.0.norm1.alpha"].shape == (10,)
        tensors = {key: torch.from_numpy(array.copy()) for key, array in facebook.items()}
        timm_s = {key: value.numpy() for key, value in checkpoint_filter_fn(dict(tensors), None).items()}
        assert equal(timm_s, source)
        torch.save({"model": tensors}, tmp_path / "resmlp.pth")
        out = tmp_path / "out.safetensors"
        result = mixer_convert("--checkpoint", tmp_path / "resmlp.pth", "--dst", "timm", "--out", out)
        assert result.exit_code == 0, result.output
        assert equal(files.read(out), source)

    def test_raw_and_averaged_weights_have_to_be_chosen(
        self, mixer_convert: Run, tmp_path: Path, frameworks: None, source: StateDict
    ) -> None:
        import torch

        raw = {f"module._orig_mod.{key}": torch.from_numpy(array) for key, array in source.items()}
        averaged = {key: torch.from_numpy(array * 2) for key, array in source.items()}
        path, out = tmp_path / "last.pth", tmp_path / "out.safetensors"
        torch.save({"epoch": 3, "state_dict": raw, "state_dict_ema": averaged}, path)
        arguments = ("--checkpoint", path, "--dst", "timm", "--out", out, "--force")
        undecided = mixer_convert(*arguments)
        assert undecided.exit_code == 2
        assert "--ema or --no-ema" in undecided.stderr
        assert mixer_convert(*arguments, "--no-ema").exit_code == 0
        assert equal(files.read(out), source)
        assert json.loads(manifest_path(out).read_text())["source"]["stripped_prefix"] == "module._orig_mod."
        assert mixer_convert(*arguments, "--ema").exit_code == 0
        assert np.array_equal(files.read(out)["norm.bias"], source["norm.bias"] * 2)

    def test_every_command_lets_the_user_choose(
        self, mixer_convert: Run, mixer_align: Run, tmp_path: Path, source: StateDict
    ) -> None:
        import torch

        raw = {key: torch.from_numpy(array) for key, array in source.items()}
        torch.save({"state_dict": raw, "state_dict_ema": dict(raw)}, tmp_path / "last.pth")
        assert mixer_convert("inspect", tmp_path / "last.pth").exit_code == 2
        assert mixer_convert("inspect", tmp_path / "last.pth", "--ema").exit_code == 0
        assert mixer_align("--checkpoint", tmp_path / "last.pth").exit_code == 2
        assert mixer_align("--checkpoint", tmp_path / "last.pth", "--no-ema").exit_code == 0

    def test_ema_of_a_file_without_it(self, mixer_convert: Run, tmp_path: Path, frameworks: None) -> None:
        import torch

        torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "x.pth")
        result = mixer_convert("--checkpoint", tmp_path / "x.pth", "--ema", "--out", tmp_path / "o.pdparams")
        assert result.exit_code == 2
        assert "no averaged weights" in result.stderr


class TestShards:
    @pytest.fixture
    def index(self, tmp_path: Path, source: StateDict) -> Path:
        keys = list(source)
        parts = {"model-00001-of-00002.safetensors": keys[:20], "model-00002-of-00002.safetensors": keys[20:]}
        for name, part in parts.items():
            save_safetensors(tmp_path / name, {key: source[key] for key in part})
        path = tmp_path / "model.safetensors.index.json"
        weight_map = {key: name for name, part in parts.items() for key in part}
        path.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))
        return path

    def test_they_are_read_as_one(self, mixer_convert: Run, index: Path, source: StateDict) -> None:
        out = index.with_name("out.pdparams")
        result = mixer_convert("--checkpoint", index, "--out", out)
        assert result.exit_code == 0, result.output
        assert len(json.loads(manifest_path(out).read_text())["source"]["shards"]) == 2
        assert set(files.read(out)) == set(source)

    def test_no_shard_is_overwritten(self, mixer_convert: Run, index: Path) -> None:
        shard = index.with_name("model-00001-of-00002.safetensors")
        before = shard.read_bytes()
        result = mixer_convert("--checkpoint", index, "--out", shard, "--force")
        assert result.exit_code == 2
        assert "the input itself" in result.stderr
        assert shard.read_bytes() == before

    def test_a_missing_shard_is_named(self, mixer_convert: Run, index: Path) -> None:
        index.with_name("model-00002-of-00002.safetensors").unlink()
        result = mixer_convert("--checkpoint", index)
        assert result.exit_code == 3
        assert "model-00002-of-00002.safetensors, which is not beside it" in result.stderr

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ('{"weight_map": {"a": "../x.safetensors"}}', "no file beside it"),
            ('{"weight_map": {"a": 3}}', "no mapping"),
            ("{}", "no index"),
            ("{", "no index"),
            (
                '{"weight_map": {"norm.bias": "model-00001-of-00002.safetensors"}}',
                "disagree about",
            ),
        ],
    )
    def test_odd_indices_are_refused(self, mixer_convert: Run, index: Path, content: str, says: str) -> None:
        index.write_text(content)
        result = mixer_convert("--checkpoint", index)
        assert result.exit_code == 3
        assert says in result.stderr


class TestDtypes:
    @pytest.fixture
    def mixed(self, tmp_path: Path, source: StateDict) -> Path:
        """Norms in float32, the rest in float16, as mixed precision leaves them."""
        halves = {key: array if "norm" in key else array.astype(np.float16) for key, array in source.items()}
        return save_safetensors(tmp_path / "mixed.safetensors", halves)

    def test_several_are_refused(self, mixer_convert: Run, mixer_align: Run, mixed: Path, tmp_path: Path) -> None:
        for run, arguments in ((mixer_convert, ("--out", tmp_path / "o.pdparams")), (mixer_align, ())):
            result = run("--checkpoint", mixed, *arguments)
            assert result.exit_code == 3
            assert "36 float16, 18 float32" in result.stderr
            assert "--dtype float32` holds each value exactly" in result.stderr
        assert not (tmp_path / "o.pdparams").exists()

    @pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
    def test_widening_is_exact_and_said(
        self, mixer_convert: Run, mixer_align: Run, mixed: Path, tmp_path: Path, suffix: str
    ) -> None:
        out = tmp_path / f"out{suffix}"
        result = mixer_convert("--checkpoint", mixed, "--dtype", "float32", "--out", out)
        assert "Cast to float32, exactly." in result.stderr
        before, after = files.read(mixed), files.read(out)
        assert {array.dtype.name for array in after.values()} == {"float32"}
        for rule in route("timm", "paddle", MixerConfig(**json.loads(manifest_path(out).read_text())["config"])):
            expected = rule.transform.apply(before[rule.source]).astype(np.float32)
            np.testing.assert_array_equal(after[rule.target], expected)
        aligned = mixer_align("--checkpoint", mixed, "--dtype", "float32", "--candidate", out)
        assert aligned.exit_code == 0, aligned.output

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_narrowing_is_said(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, dtype: str) -> None:
        out = tmp_path / "out.pdparams"
        result = mixer_convert("--checkpoint", checkpoint, "--dtype", dtype, "--out", out)
        assert f"Narrowed to {dtype}, which rounds." in result.stderr
        assert {array.dtype.name for array in files.read(out).values()} == {dtype}

    def test_what_does_not_fit_is_refused(self, mixer_convert: Run, tmp_path: Path, source: StateDict) -> None:
        large = {**source, "norm.bias": np.array([1, 2, 7e4, 3, 4, 5, 6, 7, 8, -1e5], np.float32)}
        path, out = save_safetensors(tmp_path / "x.safetensors", large), tmp_path / "out.pdparams"
        result = mixer_convert("--checkpoint", path, "--dtype", "float16", "--out", out)
        assert result.exit_code == 3
        assert "norm.bias: 70000.0 at index (2,) is too large for float16, as 2 element(s)" in result.stderr
        assert mixer_convert("--checkpoint", path, "--dtype", "bfloat16", "--out", out).exit_code == 0

    def test_a_candidate_of_several_is_diverged(
        self, mixer_align: Run, tmp_path: Path, checkpoint: Path, config: MixerConfig, source: StateDict
    ) -> None:
        converted = convert_state_dict(source, config).state_dict
        path = tmp_path / "x.pdparams"
        with path.open("wb") as stream:
            files.write(path, stream, {k: v.astype(np.float16) if "fc1" in k else v for k, v in converted.items()})
        result = mixer_align("--checkpoint", checkpoint, "--candidate", path)
        assert result.exit_code == 1
        assert "the candidate has float16" in result.stdout


class TestAdaptation:
    def test_a_fresh_head_is_recorded_and_the_rest_kept(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict
    ) -> None:
        out = tmp_path / "out.pdparams"
        result = mixer_convert("--checkpoint", checkpoint, "--num-classes", "3", "--seed", "4", "--out", out)
        assert result.exit_code == 0, result.output
        assert "Fresh random head for 3 classes, seed 4." in result.stderr
        converted = files.read(out)
        assert converted["head.weight"].shape == (10, 3)
        assert converted["head.weight"].any()
        np.testing.assert_array_equal(converted["norm.bias"], source["norm.bias"])
        manifest = json.loads(manifest_path(out).read_text())
        adapted = {t["target"] for t in manifest["tensors"] if t["adapted"]}
        assert adapted == {"head.weight", "head.bias"}
        assert manifest["config"]["num_classes"] == 3

    @pytest.mark.parametrize("names", [("head.weight", "head.bias"), ("head.bias",)])
    @pytest.mark.parametrize("layout", ["timm", "google"])
    def test_without_a_head_a_fresh_one_is_drawn(
        self,
        mixer_convert: Run,
        tmp_path: Path,
        config: MixerConfig,
        source: StateDict,
        names: tuple[str, ...],
        layout: Any,
    ) -> None:
        whole = convert_state_dict(source, config, dst=layout).state_dict
        theirs = {rule.target for rule in route("timm", layout, config) if rule.source in names}
        body = {key: np.ascontiguousarray(array) for key, array in whole.items() if key not in theirs}
        path, out = tmp_path / "body.npz", tmp_path / "out.safetensors"
        np.savez(path, **body)
        refused = mixer_convert("--checkpoint", path, "--out", out)
        assert refused.exit_code == 3
        assert all(f"- {name}" in refused.stderr for name in theirs)
        result = mixer_convert("--checkpoint", path, "--num-classes", "3", "--seed", "4", "--dst", "timm", "--out", out)
        assert result.exit_code == 0, result.output
        converted, manifest = files.read(out), json.loads(manifest_path(out).read_text())
        assert converted["head.weight"].shape == (3, 10)
        assert equal(
            {k: v for k, v in converted.items() if k not in HEAD}, {k: source[k] for k in source if k not in HEAD}
        )
        assert [t["source"] for t in manifest["tensors"] if t["target"] in HEAD] == [None, None]
        left = 2 - len(names)
        assert len(manifest["dropped"]) == left
        assert ("its own head is left out" in result.stderr.lower()) == bool(left)
        assert mixer_convert("verify", path, "--manifest", manifest_path(out)).exit_code == 0

    def test_a_trained_head_is_not_thrown_away_in_passing(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict
    ) -> None:
        out = tmp_path / "out.safetensors"
        result = mixer_convert("--checkpoint", checkpoint, "--num-classes", "7", "--dst", "timm", "--out", out)
        assert "It has 7 classes already, so its own head is kept." in result.stderr
        assert equal(files.read(out), source)

    def test_nor_under_a_variant_of_other_classes(self, mixer_convert: Run, tmp_path: Path) -> None:
        ten = dataclasses.replace(get_variant("gmlp_ti16").config, num_classes=10)
        source, out = init_state_dict(ten, 0), tmp_path / "out.safetensors"
        path = save_safetensors(tmp_path / "x.safetensors", source)
        arguments = ("--checkpoint", path, "--variant", "gmlp_ti16", "--dst", "timm", "--out", out)
        assert mixer_convert(*arguments).exit_code == 3
        assert mixer_convert(*arguments, "--num-classes", "10").exit_code == 0
        assert equal(files.read(out), source)

    def test_the_old_head_is_still_in_the_manifest(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict
    ) -> None:
        out = tmp_path / "out.pdparams"
        result = mixer_convert("--checkpoint", checkpoint, "--num-classes", "3", "--out", out)
        assert "Its own head is left out (head.bias, head.weight)." in result.stderr
        dropped = {
            entry["source"]: entry["source_sha256"] for entry in json.loads(manifest_path(out).read_text())["dropped"]
        }
        assert dropped == {name: tensor_sha256(source[name]) for name in HEAD}
        assert mixer_convert("verify", checkpoint, "--manifest", manifest_path(out)).exit_code == 0

    def test_it_never_gets_a_published_name(
        self, mixer_convert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        weights = save_safetensors(tmp_path / "x.safetensors", init_state_dict(get_variant("s32").config, 0))
        result = mixer_convert("--variant", "s32", "--checkpoint", weights, "--num-classes", "10", "--in-chans", "1")
        assert result.stdout == "mixer_s32_224.untrained.10classes.1chan.pdparams\n"

    def test_a_one_channel_stem_is_timm_s(
        self, mixer_convert: Run, checkpoint: Path, tmp_path: Path, source: StateDict, frameworks: None
    ) -> None:
        import torch
        from timm.models._manipulate import adapt_input_conv

        out = tmp_path / "out.safetensors"
        result = mixer_convert("--checkpoint", checkpoint, "--in-chans", "1", "--dst", "timm", "--out", out)
        assert result.exit_code == 0, result.output
        expected = adapt_input_conv(1, torch.from_numpy(source["stem.proj.weight"])).numpy()
        np.testing.assert_array_equal(files.read(out)["stem.proj.weight"], expected)
        assert json.loads(manifest_path(out).read_text())["config"]["in_chans"] == 1

    def test_a_one_channel_stem_that_float16_cannot_hold(
        self, mixer_convert: Run, tmp_path: Path, source: StateDict
    ) -> None:
        halves = {key: array.astype(np.float16) for key, array in source.items()}
        halves["stem.proj.weight"][0, :, 0, 0] = 60000
        path, out = save_safetensors(tmp_path / "x.safetensors", halves), tmp_path / "out.pdparams"
        result = mixer_convert("--checkpoint", path, "--in-chans", "1", "--out", out)
        assert result.exit_code == 3
        assert "stem.proj.weight: 180000.0 at index (0, 0, 0, 0) is too large for float16" in result.stderr
        assert mixer_convert("--checkpoint", path, "--in-chans", "1", "--dtype", "float32", "--out", out).exit_code == 0

    def test_the_weights_own_image_size_is_accepted(self, mixer_convert: Run, checkpoint: Path, tmp_path: Path) -> None:
        arguments = ("--checkpoint", checkpoint, "--out", tmp_path / "o.pdparams", "--image-size")
        assert mixer_convert(*arguments, "20").exit_code == 0
        refused = mixer_convert(*arguments, "40", "--force")
        assert refused.exit_code == 2
        assert "16 patches" in refused.stderr


def test_nearest_layout_prefers_the_names_that_fit() -> None:
    assert nearest_layout(["stem/kernel", "head/bias"], FROM_TIMM) == "google"
    assert nearest_layout(["mixer_layers.0.norm1.weight"], FROM_TIMM) == "paddlevit"
    assert nearest_layout(["blocks.0.attn.weight"], FROM_TIMM) == "facebook"
