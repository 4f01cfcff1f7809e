"""The sizes of operations against rounding that happens, and the bounds that follow from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.core.bounds import ALLOWED, FLOAT64, INHERITED_MARGIN, MARGIN, ROUNDOFF, Roundings
from align.core.case import Settings
from align.mixer.case import Subject, case_of
from align.mixer.specimens import small
from align.rounding.sizes import size_of_affine, size_of_layer_norm, size_of_mean, size_of_sum
from align.run import align
from convert.arrays import Array
from convert.mixer.init import init_state_dict
from convert.mixer.variants import MixerConfig, MixerKind

U32, U64 = ROUNDOFF["float32"], ROUNDOFF["float64"]
NO_BIAS = np.zeros(1)
DRAWN: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "a mean that is large": lambda rng, n: 300 + rng.standard_normal(n),
    "equal": lambda rng, n: np.full(n, rng.uniform(0.1, 1)),
    "sorted by sign": lambda rng, n: np.sort(rng.standard_normal(n)),
    "one outlier": lambda rng, n: np.append(rng.standard_normal(n - 1), 1e4),
    "tiny": lambda rng, n: 1e-30 * rng.standard_normal(n),
}


def one_after_another(terms: Array) -> np.float32:
    """Add up in float32 in the most naive way."""
    total = np.float32(0)
    for term in terms.astype(np.float32):
        total = np.float32(total + term)
    return total


def in_lanes(terms: Array, lanes: int = 8) -> np.float32:
    """Add up as the slowest matrix kernels do: one after another in each lane of a vector, then the lanes."""
    return one_after_another(np.array([one_after_another(terms[lane::lanes]) for lane in range(lanes)]))


class TestSizes:
    @given(seed=st.integers(0, 10**6), x=st.sampled_from(list(DRAWN)), w=st.sampled_from(list(DRAWN)))
    def test_a_product_errs_by_less_than_is_allowed(self, seed: int, x: str, w: str) -> None:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 600))
        row, weight = (DRAWN[kind](rng, n).astype(np.float32).astype(np.float64) for kind in (x, w))
        size = size_of_affine(row[None], weight[None], NO_BIAS, row[None] @ weight[None].T)
        terms = (row.astype(np.float32) * weight.astype(np.float32)).astype(np.float32)
        assert abs(float(in_lanes(terms)) - math.fsum(row * weight)) <= ALLOWED * U32 * size + 2.0**-126

    @given(seed=st.integers(0, 10**6), kind=st.sampled_from(list(DRAWN)))
    def test_a_naive_mean_errs_by_less_than_is_allowed(self, seed: int, kind: str) -> None:
        rng = np.random.default_rng(seed)
        x = DRAWN[kind](rng, int(rng.integers(2, 400))).astype(np.float32).astype(np.float64)[None, :, None]
        size = size_of_mean(x, x.mean(axis=1), axis=1)
        found = one_after_another(x[0, :, 0]) / np.float32(x.shape[1])
        assert abs(float(found) - math.fsum(x[0, :, 0]) / x.shape[1]) <= ALLOWED * U32 * size

    @given(seed=st.integers(0, 10**6), kind=st.sampled_from(list(DRAWN)))
    def test_a_layer_norm_errs_by_less_than_is_allowed(self, seed: int, kind: str) -> None:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 400))
        x32, weight = DRAWN[kind](rng, n).astype(np.float32)[None], rng.standard_normal(n)
        x = x32.astype(np.float64)
        mean = x.mean(axis=-1, keepdims=True)
        centred = x - mean
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-6)
        true = centred / deviation * weight
        size = size_of_layer_norm(mean, centred, deviation, true, weight)
        centred32 = x32 - one_after_another(x32[0]) / np.float32(n)
        deviation32 = np.sqrt(np.square(centred32).mean(axis=-1, keepdims=True) + np.float32(1e-6))
        found = centred32 / deviation32 * weight.astype(np.float32)
        assert np.abs(found - true).max() <= ALLOWED * U32 * size

    def test_what_cancels_counts(self) -> None:
        x, weight = np.array([[1e6, 1.0]]), np.array([[1.0, 1.0], [-1.0, 1.0]])
        small = size_of_affine(np.ones((1, 2)), weight, NO_BIAS, np.array([[2.0, 0.0]]))
        assert small == pytest.approx(size_of_sum(2, math.sqrt(2), 2.0))
        assert size_of_affine(x, weight, NO_BIAS, x @ weight.T) > 1e5 * small

    def test_of_many_rows_the_greatest_count(self) -> None:
        x = np.ones((1000, 3))
        x[777, 1] = 50.0
        weight = np.eye(3)
        one = x[777:778]
        assert size_of_affine(x, weight, NO_BIAS, x) == size_of_affine(one, weight, NO_BIAS, one)


class TestBounds:
    def test_a_known_operation_is_held_to_its_size(self) -> None:
        known = Roundings(sizes={"x": 100.0}, found={"x": 1e-3})
        assert known.introduced("x", "float32").bound(1e9) == ALLOWED * U32 * 100
        assert known.introduced("x", "float64").bound(1.0) == FLOAT64.atol
        large = Roundings(sizes={"x": 1e6})
        assert large.introduced("x", "float64").bound(1.0) == ALLOWED * U64 * 1e6

    def test_an_unknown_one_to_the_reference_s_own_rounding(self) -> None:
        unknown = Roundings(found={"x": 1e-3})
        assert unknown.introduced("x", "float32").bound(1.0) == MARGIN * 1e-3
        behind_a_gap = Roundings(sizes={"x": 100.0}, found={"x": 1e-3})
        assert behind_a_gap.introduced("x", "float32", follows=False).bound(1.0) == MARGIN * 1e-3

    def test_float64_inherits_what_float32_shows(self) -> None:
        assert Roundings(found={"x": 1e-7}).whole("x").bound(1.0) == FLOAT64.atol
        assert Roundings(found={"x": 1e-2}).whole("x").bound(1.0) == INHERITED_MARGIN * 1e-2 * U64 / U32
        assert Roundings().whole("x").bound(8.0) == FLOAT64.bound(8.0)

    def test_a_single_element_is_not_taken_at_its_word(self) -> None:
        roundings = Roundings(sizes={"pooled": 2.0, "logits": 5.0})
        roundings.note_found("pooled", 40 * U32, 1000)
        roundings.note_found("logits", 0.0, 1)
        assert roundings.found["logits"] == pytest.approx(20 * 5 * U32)


@pytest.mark.usefixtures("frameworks")
class TestRightPorts:
    """Each was failed by bounds relative to the result."""

    def verdict(self, config: MixerConfig, seed: int, offsets: dict[str, float], settings: Settings) -> str:
        source = {
            key: array + np.float32(next((by for end, by in offsets.items() if key.endswith(end)), 0))
            for key, array in init_state_dict(config, seed).items()
        }
        return align(case_of(Subject(source=source, config=config, name="right"), settings), settings).verdict

    @pytest.mark.parametrize("kind", ["mixer", "gmixer", "gmlp"])
    def test_a_mean_that_cancels_in_float64_too(self, kind: MixerKind) -> None:
        offsets = {"stem.proj.bias": 3e4}
        assert self.verdict(small(kind), 0, offsets, Settings()) in ("aligned", "rounding")

    @pytest.mark.parametrize("seed", range(6))
    def test_one_class_and_one_image(self, seed: int) -> None:
        settings = Settings(batch=1, input_seed=seed)
        assert self.verdict(replace(small("mixer"), num_classes=1), seed, {}, settings) in ("aligned", "rounding")

    def test_activations_that_are_all_but_zero(self) -> None:
        offsets = {"mlp_channels.fc1.bias": -300.0}
        assert self.verdict(small("gmixer"), 0, offsets, Settings()) in ("aligned", "rounding")
