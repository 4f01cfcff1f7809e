"""Forwards in step: what is shown, replaced, raised and ended, without a framework."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from align.core import lockstep
from align.core.lockstep import Kept, Side, Tap, Walk, WrongPoint, walk
from align.mixer.points import Layer

A, B = Layer(name="a", shape=(2,)), Layer(name="b", shape=(2,))


def forward(tap: Tap) -> None:
    x = np.ones(2)
    answer = tap("a", x)
    tap("b", 2 * (x if answer is None else answer))


def threads() -> int:
    return threading.active_count()


def test_points_come_one_at_a_time() -> None:
    reached = []

    def noting(tap: Tap) -> None:
        for name in "abc":
            reached.append(name)
            tap(name, np.ones(1))

    points = walk(noting)
    assert next(points)[0] == "a"
    assert next(points)[0] == "b"
    assert reached == ["a", "b"]
    points.close()
    assert reached == ["a", "b"]


def test_a_replacement_is_what_the_forward_goes_on_with() -> None:
    own, forced = Side("x", walk(forward), "float64"), Side("x", walk(forward), "float64")
    own.at(A)
    forced.at(A)
    forced.replace(np.full(2, 5.0))
    assert own.at(B).tolist() == [2, 2]
    assert forced.at(B).tolist() == [10, 10]
    own.end()
    forced.end()


def test_an_error_of_the_forward_is_raised_in_the_caller() -> None:
    def failing(tap: Tap) -> None:
        tap("a", np.ones(2))
        raise ZeroDivisionError("here")

    before = threads()
    side = Side("x", walk(failing), "float64")
    side.at(A)
    with pytest.raises(ZeroDivisionError, match="here"):
        side.at(B)
    assert threads() == before


def deaf(tap: Tap) -> None:
    """A forward that takes any exception for one of its own."""
    for name in "ab":
        try:
            tap(name, np.ones(2))
        except BaseException:  # noqa: BLE001
            continue


@pytest.mark.parametrize("forward", [forward, deaf])
def test_no_thread_outlives_its_walk(forward: Callable[[Tap], Any]) -> None:
    before = threads()
    points = walk(forward)
    next(points)
    assert threads() == before + 1
    points.close()
    assert threads() == before
    walk(forward).close()
    assert threads() == before


def follow(side: Side, expected: tuple[Layer, ...]) -> None:
    for layer in expected:
        side.at(layer)
    side.end()


@pytest.mark.parametrize(
    ("expected", "dtype", "says"),
    [
        ((B,), "float64", "x shows a float64 (2,), not b float64 (2,)"),
        ((Layer(name="a", shape=(1, 2)),), "float64", "x shows a float64 (2,), not a float64 (1, 2)"),
        ((A,), "float32", "x shows a float64 (2,), not a float32 (2,)"),
        ((A,), "float64", "x shows b after its last point"),
        ((A, B, Layer(name="c", shape=(2,))), "float64", "x never shows c"),
    ],
)
def test_what_is_not_expected_is_said(expected: tuple[Layer, ...], dtype: str, says: str) -> None:
    side = Side("x", walk(forward), dtype)
    with pytest.raises(WrongPoint) as wrong:
        follow(side, expected)
    side.close()
    assert wrong.value.finding.sentence == says


@pytest.mark.parametrize(("room", "taken", "computed"), [(32, 2, 1), (31, 2, 2), (32, 1, 2)])
def test_what_is_small_and_was_taken_to_the_end_is_computed_once(
    monkeypatch: pytest.MonkeyPatch, room: int, taken: int, computed: int
) -> None:
    """Both points take 32 bytes in float64; where the first time broke off after one, the second begins anew."""
    monkeypatch.setattr(lockstep, "KEPT_BYTES", room)
    begun = []

    def points() -> Walk:
        begun.append(True)
        yield "a", np.ones(2)
        yield "b", np.zeros(2)

    kept = Kept(points, (A, B))
    first = kept.first()
    for _ in range(taken):
        next(first)
    if taken == 2:
        assert next(first, None) is None
    first.close()
    assert [(name, value.tolist()) for name, value in kept.again()] == [("a", [1, 1]), ("b", [0, 0])]
    assert len(begun) == computed
