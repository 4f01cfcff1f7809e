"""Forwards in step: what is shown, replaced, raised and ended, without a framework."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from align.core import lockstep
from align.core.lockstep import AHEAD_FROM, ForwardFailed, Kept, Side, Tap, Walk, WrongPoint, check_form, lanes, walk
from align.core.point import Point, Tapped

PATIENCE = 0.2


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
    own, forced = Side("x", walk(forward)), Side("x", walk(forward))
    own.at("a")
    forced.at("a")
    forced.replace(np.full(2, 5.0))
    assert own.at("b").tolist() == [2, 2]
    assert forced.at("b").tolist() == [10, 10]
    own.end("b")
    forced.end("b")


def test_an_error_of_the_forward_is_raised_in_the_caller() -> None:
    def failing(tap: Tap) -> None:
        tap("a", np.ones(2))
        raise ZeroDivisionError("here")

    before = threads()
    side = Side("x", walk(failing))
    side.at("a")
    with pytest.raises(ZeroDivisionError, match="here"):
        side.at("b")
    assert threads() == before


def test_a_model_that_fails_is_a_finding_at_the_point_expected() -> None:
    def failing(tap: Tap) -> None:
        tap("a", np.ones(2))
        raise ForwardFailed("its forward fails")

    side = Side("x", walk(failing))
    side.at("a")
    with pytest.raises(WrongPoint) as wrong:
        side.next("b")
    assert (wrong.value.finding.layer, wrong.value.finding.sentence) == ("b", "x: its forward fails")


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


@pytest.mark.parametrize("lane", [False, True])
def test_points_in_another_order_are_found_and_kept(lane: bool) -> None:
    def three(tap: Tap) -> None:
        for number, name in enumerate("abc"):
            tap(name, np.full(AHEAD_FROM, number, np.uint8))

    with lanes() as each:
        side = Side("x", walk(three), each.candidate if lane else None)
        found = []
        for name in "cab":
            found.append(side.at(name)[0])
            side.go_on()
        assert found == [2, 0, 1]
        side.end("c")


@pytest.mark.parametrize(("size", "is_ahead"), [(AHEAD_FROM - 1, False), (AHEAD_FROM, True)])
def test_what_follows_a_large_value_is_computed_ahead(size: int, is_ahead: bool) -> None:
    computed = threading.Event()

    def two(tap: Tap) -> None:
        tap("a", np.zeros(size, np.uint8))
        computed.set()
        tap("b", np.zeros(size, np.uint8))

    with lanes() as each, closing(Side("x", walk(two), each.candidate)) as side:
        side.at("a")
        side.go_on()
        assert computed.wait(10 if is_ahead else 0.05) is is_ahead


def test_what_is_never_shown_is_said() -> None:
    side = Side("x", walk(forward))
    side.at("a")
    with pytest.raises(WrongPoint) as wrong:
        side.at("c")
    assert (wrong.value.finding.layer, wrong.value.finding.sentence) == ("c", "x never shows c")
    assert side.at("b").tolist() == [2, 2]


def test_a_forward_ends_behind_its_last_point() -> None:
    ended = []

    def going_on(tap: Tap) -> None:
        forward(tap)
        ended.append(True)

    side = Side("x", walk(going_on))
    side.at("a")
    side.end("a")
    assert ended == [True]


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((1, 2), "float64", "x shows a float64 (2,), not float64 (1, 2)"),
        ((2,), "float32", "x shows a float64 (2,), not float32 (2,)"),
    ],
)
def test_what_is_of_another_form_is_said(shape: tuple[int, ...], dtype: str, says: str) -> None:
    tapped = Tapped(module="a")
    with pytest.raises(WrongPoint) as wrong:
        check_form("x", Point(name="a", reference=tapped, candidate=tapped), np.ones(2), shape, dtype)
    assert (wrong.value.finding.layer, wrong.value.finding.sentence) == ("a", says)


def test_a_forward_that_waits_for_ever_is_left_behind() -> None:
    """It shows nothing any more; the thread is let go of, and the point expected is blamed."""
    waiting = threading.Event()

    def stuck(tap: Tap) -> None:
        tap("a", np.ones(2))
        waiting.wait()

    side = Side("x", walk(stuck, patience=PATIENCE))
    side.at("a")
    with pytest.raises(WrongPoint) as wrong:
        side.at("b")
    assert (wrong.value.finding.layer, wrong.value.finding.sentence) == ("b", "x: it shows nothing for 0.2 s")
    waiting.set()


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

    kept = Kept(points)
    first = kept.first()
    for _ in range(taken):
        next(first)
    if taken == 2:
        assert next(first, None) is None
    first.close()
    assert [(name, value.tolist()) for name, value in kept.again()] == [("a", [1, 1]), ("b", [0, 0])]
    assert len(begun) == computed
