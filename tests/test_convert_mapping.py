from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.arrays import StateDict
from convert.engine import check_finite
from convert.errors import KeyMismatch, NonFinite, ShapeMismatch, WrongDtype
from convert.mixer.init import init_state_dict
from convert.mixer.mapping import convert_state_dict
from convert.mixer.rule_tables import FROM_TIMM, TIMM_TO_PADDLE, expand
from convert.mixer.shapes import TIMM_SHAPES, timm_shapes
from convert.mixer.variants import MixerConfig
from convert.rules import KeyRule, Transform

sizes = st.lists(st.integers(2, 40), min_size=6, max_size=6, unique=True)


@st.composite
def configs(draw: st.DrawFn) -> MixerConfig:
    patch_size, hidden_dim, tokens_mlp_dim, channels_mlp_dim, num_classes, grid = draw(sizes)
    family = draw(st.sampled_from(list(TIMM_SHAPES)))
    return MixerConfig(
        family=family,
        image_size=min(grid, 7) * patch_size,
        patch_size=patch_size,
        num_blocks=draw(st.integers(1, 11)),
        hidden_dim=hidden_dim,
        tokens_mlp_dim=2 * tokens_mlp_dim if family in ("mixer", "gmixer") else 0,
        channels_mlp_dim=2 * channels_mlp_dim,
        num_classes=num_classes,
    )


def test_exactly_the_linear_weights_are_transposed() -> None:
    transposed = {rule.source for rule in TIMM_TO_PADDLE if rule.transform is Transform.TRANSPOSE}
    assert transposed == {name for table in TIMM_SHAPES.values() for name, dims in table.items() if len(dims) == 2}
    assert len(transposed) == 7


def test_square_weights_are_transposed_too(square_config: MixerConfig, square_source: StateDict) -> None:
    converted = convert_state_dict(square_source, square_config).state_dict
    name = "blocks.2.mlp_tokens.fc1.weight"
    assert square_source[name].shape == (64, 64)
    np.testing.assert_array_equal(converted[name], square_source[name].T)
    assert not np.array_equal(converted[name], square_source[name])


@given(config=configs(), seed=st.integers(0, 9))
def test_there_and_back_is_bit_exact(config: MixerConfig, seed: int) -> None:
    source = init_state_dict(config, seed)
    there = convert_state_dict(source, config)
    assert set(there.state_dict) == {rule.target for rule in there.renames}
    back = convert_state_dict(there.state_dict, config, src="paddle", dst="timm").state_dict
    assert back.keys() == source.keys()
    assert all(back[key].tobytes() == source[key].tobytes() for key in source)


@given(config=configs())
def test_shapes_follow_the_rules(config: MixerConfig) -> None:
    shapes = timm_shapes(config)
    for rule in expand(TIMM_TO_PADDLE, config):
        source = np.empty(shapes[rule.source])
        assert rule.transform.apply(source).shape == rule.transform.shape(source.shape)


def test_order_is_forward_order(config: MixerConfig) -> None:
    names = list(timm_shapes(config))
    assert names[0] == "stem.proj.weight"
    assert names[-1] == "head.bias"
    blocks = [int(name.split(".")[1]) for name in names if name.startswith("blocks.")]
    assert blocks == sorted(blocks)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_dtypes_are_kept(config: MixerConfig, source: StateDict, dtype: type) -> None:
    cast = {key: array.astype(dtype) for key, array in source.items()}
    converted = convert_state_dict(cast, config).state_dict
    assert {array.dtype for array in converted.values()} == {np.dtype(dtype)}


def test_missing_and_unexpected_keys_are_counted_and_sorted(config: MixerConfig, source: StateDict) -> None:
    broken = dict(source)
    for key in ("norm.bias", "head.bias"):
        del broken[key]
    broken["zzz"] = broken["aaa"] = np.zeros(1, np.float32)
    with pytest.raises(KeyMismatch, match=r"2 missing \(- head.bias, - norm.bias\), 2 unexpected \(\+ aaa, \+ zzz\)"):
        convert_state_dict(broken, config, name="x.pth")


def test_a_long_list_of_keys_is_cut(config: MixerConfig) -> None:
    with pytest.raises(KeyMismatch, match=r"54 missing .* and 46 more") as error:
        convert_state_dict({}, config)
    assert len(error.value.missing) == 2 + 12 * config.num_blocks + 4


def test_a_transposed_source_is_refused(config: MixerConfig, source: StateDict) -> None:
    broken = source | {"head.weight": source["head.weight"].T}
    with pytest.raises(ShapeMismatch, match=r"head.weight: x.pth has \(10, 7\), toy expects \(7, 10\)"):
        convert_state_dict(broken, config, name="x.pth", expected="toy")


def test_other_dtypes_are_refused(config: MixerConfig, source: StateDict) -> None:
    broken = source | {"norm.bias": source["norm.bias"].astype(np.float64)}
    with pytest.raises(WrongDtype, match=r"norm.bias: x.pth has dtype float64, expected float32, float16 or bfloat16"):
        convert_state_dict(broken, config, name="x.pth")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_are_named(source: StateDict, value: float) -> None:
    weight = source["blocks.1.mlp_tokens.fc1.weight"].copy()
    weight[3, 5] = weight[4, 0] = value
    with pytest.raises(NonFinite, match=r"blocks.1.mlp_tokens.fc1.weight: x has .* at index \(3, 5\), 2 element"):
        check_finite(source | {"blocks.1.mlp_tokens.fc1.weight": weight}, "x")


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(TIMM_TO_PADDLE[:-1], id="a row is missing"),
        pytest.param((*TIMM_TO_PADDLE, TIMM_TO_PADDLE[0]), id="a row twice"),
        pytest.param(
            (*TIMM_TO_PADDLE[:-1], dataclasses.replace(TIMM_TO_PADDLE[-1], target="norm.bias")), id="a target twice"
        ),
    ],
)
def test_a_faulty_table_is_caught(
    monkeypatch: pytest.MonkeyPatch, config: MixerConfig, source: StateDict, rules: tuple[KeyRule, ...]
) -> None:
    monkeypatch.setitem(FROM_TIMM, "paddle", rules)
    with pytest.raises(ValueError, match="exactly once"):
        convert_state_dict(source, config)


def test_random_weights_are_never_trivial_and_depend_on_seed_and_name(config: MixerConfig) -> None:
    first, again, other = (init_state_dict(config, seed) for seed in (0, 0, 1))
    for key, array in first.items():
        assert array.dtype == np.float32
        assert len(np.unique(array)) == array.size, f"{key} repeats values"
        assert np.array_equal(array, again[key])
        assert not np.array_equal(array, other[key])
    assert not np.array_equal(first["blocks.0.norm1.weight"], first["blocks.0.norm2.weight"])
