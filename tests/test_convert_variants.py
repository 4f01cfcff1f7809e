from __future__ import annotations

import pytest

from convert.errors import AmbiguousVariant, UnknownVariant
from convert.mixer.shapes import infer_config, parameter_count, timm_shapes
from convert.mixer.variants import DEPRECATED, VARIANTS, MixerConfig, get_variant, variants_of

BY_NAME = {variant.name: variant for variant in VARIANTS}


def test_the_ten_mixers_are_there() -> None:
    assert list(BY_NAME)[:10] == [
        *("s32", "s16", "b32", "l32"),
        *("b16_in21k", "b16_in1k", "b16_miil_in21k", "b16_miil_in1k", "l16_in21k", "l16_in1k"),
    ]


def test_b16_in21k_is_google_s_21843_class_checkpoint() -> None:
    variant = get_variant("b16_in21k")
    assert variant.timm_id == "mixer_b16_224.goog_in21k"
    assert variant.config.num_classes == 21843


@pytest.mark.parametrize("name", BY_NAME)
def test_full_timm_id_is_accepted(name: str) -> None:
    assert get_variant(BY_NAME[name].timm_id) is BY_NAME[name]


@pytest.mark.parametrize("name", DEPRECATED)
def test_deprecated_names_are_refused_with_candidates(name: str) -> None:
    with pytest.raises(AmbiguousVariant) as error:
        get_variant(name)
    assert all(candidate in str(error.value) for candidate in DEPRECATED[name])


def test_deprecated_names_are_timm_s_own(frameworks: None) -> None:
    from timm.models._registry import _deprecated_models

    ours = {name for name in _deprecated_models if name.startswith(("mixer_", "gmixer_", "resmlp_", "gmlp_"))}
    assert ours == set(DEPRECATED)


def test_an_architecture_of_several_checkpoints_is_ambiguous() -> None:
    with pytest.raises(AmbiguousVariant, match=r"b16_in21k.*b16_miil_in1k"):
        get_variant("mixer_b16_224")


def test_unknown_variant_gets_a_suggestion() -> None:
    with pytest.raises(UnknownVariant, match="Did you mean b16_in21k"):
        get_variant("b16_in21")


@pytest.mark.parametrize("name", BY_NAME)
def test_row_agrees_with_timm(name: str, frameworks: None) -> None:
    import timm
    import torch

    variant = BY_NAME[name]
    cfg = timm.get_pretrained_cfg(variant.timm_id)
    assert cfg is not None
    assert (cfg.num_classes, cfg.interpolation, cfg.crop_pct) == (
        variant.config.num_classes,
        variant.interpolation,
        variant.crop_pct,
    )
    assert (tuple(cfg.mean), tuple(cfg.std)) == (variant.mean, variant.std)
    assert bool(cfg.hf_hub_id) == variant.pretrained
    with torch.device("meta"):
        model = timm.create_model(variant.timm_id)
    found = {key: tuple(parameter.shape) for key, parameter in model.state_dict().items()}
    assert found == timm_shapes(variant.config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameter_count(variant.config)


def test_the_table_is_timm_s_registry_of_the_module(frameworks: None) -> None:
    """Fails when timm gains an architecture or a tag in mlp_mixer.py."""
    from timm.models.mlp_mixer import default_cfgs

    registered = {f"{name}.{tag}" for name, cfgs in default_cfgs.items() for tag in cfgs.cfgs}
    assert registered == {variant.timm_id for variant in VARIANTS}
    assert len(BY_NAME) == len(VARIANTS)


@pytest.mark.parametrize("name", BY_NAME)
def test_config_is_inferred_from_shapes(name: str) -> None:
    config = BY_NAME[name].config
    assert infer_config(timm_shapes(config), "x") == config
    assert BY_NAME[name] in variants_of(config)


def test_inference_takes_sizes_that_no_variant_has(config: MixerConfig) -> None:
    assert infer_config(timm_shapes(config), "x") == config
    assert variants_of(config) == []
