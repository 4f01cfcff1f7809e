from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.core.bounds import FLOAT64, UNBOUNDED, Tolerance
from align.core.compare import compare, largest
from convert.arrays import Array

ABSOLUTE = Tolerance(atol=0.5, rtol=0.0)
RELATIVE = Tolerance(atol=0.0, rtol=1e-6)


def passed(reference: object, candidate: object, tolerance: Tolerance = ABSOLUTE) -> bool:
    reference, candidate = np.asarray(reference), np.asarray(candidate)
    return compare("x", reference, candidate, tolerance, largest(reference)).passed


def test_figures() -> None:
    reference = np.array([[1.0, 2.0], [3.0, -8.0]], np.float32)
    candidate = np.array([[1.0, 2.25], [2.0, -8.0]], np.float32)
    diff = compare("x", reference, candidate, ABSOLUTE, largest(reference))
    assert (diff.max_abs_diff, diff.worst_index) == (1.0, (1, 0))
    assert (diff.reference_value, diff.candidate_value) == (3.0, 2.0)
    assert (diff.num_over, diff.num_elements, diff.passed) == (1, 4, False)
    assert diff.max_ulp_diff == 1.0 / (8 * 2**-23)
    assert diff.shape == (2, 2)


@pytest.mark.parametrize("tolerance", [ABSOLUTE, UNBOUNDED])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_passes(value: float, tolerance: Tolerance) -> None:
    assert not passed([1.0, value], [1.0, 2.0], tolerance)
    assert not passed([1.0, 2.0], [1.0, value], tolerance)
    assert not passed([1.0, value], [1.0, value], tolerance)


def test_the_worst_index_of_a_nan_is_where_it_is() -> None:
    diff = compare("x", np.ones(5), np.array([1, 9, 1, math.nan, 1]), ABSOLUTE, 1.0)
    assert diff.worst_index == (3,)
    assert math.isnan(diff.max_abs_diff)
    assert diff.num_over == 2


def test_an_empty_comparison_does_not_pass() -> None:
    assert not passed(np.zeros((0, 3)), np.zeros((0, 3)), UNBOUNDED)


def test_shapes_are_not_broadcast() -> None:
    assert not passed(np.ones((3, 1)), np.ones((1, 3)), UNBOUNDED)
    assert not passed(np.ones((1, 3)), np.ones(3), UNBOUNDED)


def test_differences_of_float32_are_taken_exactly() -> None:
    reference, candidate = np.array([1e8], np.float32), np.array([0.123], np.float32)
    diff = compare("x", reference, candidate, UNBOUNDED, 1e8)
    assert diff.max_abs_diff == float(reference[0]) - float(candidate[0])


@given(scale=st.floats(1e-6, 1e6), share=st.floats(0, 2))
def test_a_bound_is_a_bound(scale: float, share: float) -> None:
    bound = FLOAT64.bound(scale)
    assert bound == 1e-12 * max(1.0, scale)
    difference = np.array([bound * share])
    assert compare("x", np.zeros(1), difference, FLOAT64, scale).passed == bool(difference[0] <= bound)


@pytest.mark.parametrize(
    ("array", "magnitude"), [(np.array([-3.0, 2.0]), 3.0), (np.array([]), 0.0), (np.array([[0.0, 5.0]]), 5.0)]
)
def test_largest(array: Array, magnitude: float) -> None:
    assert largest(array) == magnitude


def test_largest_of_a_nan_is_nan() -> None:
    assert math.isnan(largest(np.array([1.0, math.nan])))


def test_all_zero_layers_compare() -> None:
    diff = compare("x", np.zeros(3), np.zeros(3), RELATIVE, 0.0)
    assert diff.passed
    assert diff.max_ulp_diff == 0
    assert not compare("x", np.zeros(3), np.full(3, 1e-30), RELATIVE, 0.0).passed
