"""The probes: values read and replaced by hooks alone, in either framework, on models of a line or two."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from align.core.lockstep import ForwardFailed
from align.core.point import Tapped
from convert.arrays import Array

pytestmark = pytest.mark.usefixtures("frameworks")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
PATIENCE_SECONDS = 20
"""Behind which a thread that waits for another one gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """What both frameworks call the same, and the probe."""

    probe: ModuleType
    base: type
    nn: ModuleType
    tensor: Callable[[Array], Any]
    hooks: tuple[str, ...]

    def model(self, forward: Callable[..., Any], **parts: Any) -> Any:
        """Return a module with these submodules and this forward, in evaluation mode."""
        made = type("Model", (self.base,), {"forward": forward})()
        for name, part in parts.items():
            setattr(made, name, part)
        made.eval()
        return made

    def modules(self, model: Any) -> list[Any]:
        return list(model.modules()) if hasattr(model, "modules") else model.sublayers(include_self=True)

    def hooks_on(self, model: Any) -> int:
        return sum(len(getattr(module, hooks)) for module in self.modules(model) for hooks in self.hooks)


@pytest.fixture(params=["paddle", "torch"])
def framework(request: pytest.FixtureRequest, frameworks: None) -> Framework:
    probe = importlib.import_module(f"align.probes.{request.param}_probe")
    if request.param == "paddle":
        import paddle

        hooks = ("_forward_pre_hooks", "_forward_post_hooks")
        return Framework(
            probe=probe, base=paddle.nn.Layer, nn=paddle.nn, tensor=lambda a: paddle.to_tensor(a.copy()), hooks=hooks
        )
    import torch

    hooks = ("_forward_pre_hooks", "_forward_hooks")
    return Framework(
        probe=probe, base=torch.nn.Module, nn=torch.nn, tensor=lambda a: torch.from_numpy(a.copy()), hooks=hooks
    )


class Seen:
    """A tap that keeps what it is shown, and replaces what it is told to."""

    def __init__(self, **replacements: Array) -> None:
        self.shown: list[tuple[str, Array]] = []
        self.replacements = replacements

    def __call__(self, name: str, value: Array) -> Array | None:
        assert isinstance(value, np.ndarray)
        self.shown.append((name, value))
        return self.replacements.get(name)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.shown]

    def __getitem__(self, name: str) -> Array:
        (value,) = (value for shown, value in self.shown if shown == name)
        return value


def doubling(framework: Framework) -> Any:
    return framework.model(lambda _, x: x * 2)


def chain(framework: Framework) -> Any:
    """(2x + 1) · 2, of modules `first`, `inner.plus` and `last`."""
    plus = framework.model(lambda _, x: x + 1)
    inner = framework.model(lambda self, x: self.plus(x), plus=plus)
    return framework.model(
        lambda self, x: self.last(self.inner(self.first(x))),
        first=doubling(framework),
        inner=inner,
        last=doubling(framework),
    )


CHAIN = {
    "into": Tapped(module="", where="input"),
    "first": Tapped(module="first", where="output"),
    "plus": Tapped(module="inner.plus", where="output"),
    "before last": Tapped(module="last", where="input"),
    "out": Tapped(module="", where="output"),
}


def run_once(framework: Framework, model: Any, tapped: dict[str, Tapped], tap: Any, inputs: Array = X) -> Any:
    with framework.probe.tapped(model, tapped) as run:
        return run(inputs.copy(), tap)


class TestReading:
    def test_inputs_and_outputs_come_in_forward_order(self, framework: Framework) -> None:
        seen = Seen()
        returned = run_once(framework, chain(framework), CHAIN, seen)
        assert seen.names == ["into", "first", "plus", "before last", "out"]
        for name, expected in zip(CHAIN, (X, 2 * X, 2 * X + 1, 2 * X + 1, 4 * X + 2), strict=True):
            np.testing.assert_array_equal(seen[name], expected)
            assert seen[name].dtype == np.float32
        np.testing.assert_array_equal(returned, 4 * X + 2)

    def test_the_defaults_are_the_first_call_and_the_whole_value(self) -> None:
        whole = Tapped(module="a.b", where="output")
        assert (whole.call, whole.item) == (0, None)
        assert whole == Tapped(module="a.b", where="output", call=0, item=None)

    def test_nothing_tapped_is_a_plain_forward(self, framework: Framework) -> None:
        seen = Seen()
        np.testing.assert_array_equal(run_once(framework, chain(framework), {}, seen), 4 * X + 2)
        assert seen.shown == []

    def test_the_same_module_may_be_tapped_on_both_sides(self, framework: Framework) -> None:
        seen = Seen()
        tapped = {where: Tapped(module="first", where=where) for where in ("input", "output")}
        run_once(framework, chain(framework), tapped, seen)
        np.testing.assert_array_equal(2 * seen["input"], seen["output"])

    def test_a_module_that_is_called_more_than_once(self, framework: Framework) -> None:
        model = framework.model(lambda self, x: self.twice(self.twice(self.twice(x))), twice=doubling(framework))
        tapped = {
            **{f"out {call}": Tapped(module="twice", where="output", call=call) for call in (0, 1)},
            "in 1": Tapped(module="twice", where="input", call=1),
            "never": Tapped(module="twice", where="output", call=3),
        }
        with framework.probe.tapped(model, tapped) as run:
            for _ in range(2):  # calls are counted from each forward's beginning
                seen = Seen()
                run(X.copy(), seen)
                assert seen.names == ["out 0", "in 1", "out 1"]
                np.testing.assert_array_equal(seen["out 0"], 2 * X)
                np.testing.assert_array_equal(seen["in 1"], 2 * X)
                np.testing.assert_array_equal(seen["out 1"], 4 * X)

    def test_a_module_under_two_names_counts_its_calls_together(self, framework: Framework) -> None:
        shared = doubling(framework)
        model = framework.model(lambda self, x: self.b(self.a(x)), a=shared, b=shared)
        seen = Seen()
        run_once(framework, model, {"second": Tapped(module="a", where="output", call=1)}, seen)
        np.testing.assert_array_equal(seen["second"], 4 * X)

    @pytest.mark.parametrize(
        ("form", "item"), [(lambda x: (x, x * 3), 1), (lambda x: [x, x * 3], 1), (lambda x: {"a": x, "b": x * 3}, "b")]
    )
    def test_an_item_of_an_output(self, framework: Framework, form: Callable[[Any], Any], item: int | str) -> None:
        pair = framework.model(lambda _, x: form(x))
        model = framework.model(lambda self, x: self.pair(x)[item] + 1, pair=pair)
        tapped = {"item": Tapped(module="pair", where="output", item=item)}
        seen = Seen()
        np.testing.assert_array_equal(run_once(framework, model, tapped, seen), 3 * X + 1)
        np.testing.assert_array_equal(seen["item"], 3 * X)
        replaced = run_once(framework, model, tapped, Seen(item=X))
        np.testing.assert_array_equal(replaced, X + 1)

    def test_an_item_of_several_inputs(self, framework: Framework) -> None:
        add = framework.model(lambda _, x, y: x + y)
        model = framework.model(lambda self, x: self.add(x, x * 10), add=add)
        tapped = {"second": Tapped(module="add", where="input", item=1)}
        seen = Seen(second=X)
        np.testing.assert_array_equal(run_once(framework, model, tapped, seen), 2 * X)
        np.testing.assert_array_equal(seen["second"], 10 * X)

    def test_an_input_that_is_passed_by_its_name(self, framework: Framework) -> None:
        model = framework.model(lambda self, x: self.linear(input=x), linear=framework.nn.Linear(3, 3))
        seen = Seen(before=np.zeros_like(X))
        biases = run_once(framework, model, {"before": Tapped(module="linear", where="input")}, seen)
        np.testing.assert_array_equal(seen["before"], X)
        np.testing.assert_array_equal(biases[0], biases[1])

    def test_what_is_overwritten_afterwards_was_seen_before(self, framework: Framework) -> None:
        def in_place(self: Any, x: Any) -> Any:
            y = self.first(x)
            y.add_(y)
            return self.last(y)

        model = framework.model(in_place, first=doubling(framework), last=framework.model(lambda _, x: x.add_(x)))
        tapped = {"first": Tapped(module="first", where="output"), "last": Tapped(module="last", where="input")}
        seen = Seen()
        np.testing.assert_array_equal(run_once(framework, model, tapped, seen), 8 * X)
        np.testing.assert_array_equal(seen["first"], 2 * X)
        np.testing.assert_array_equal(seen["last"], 4 * X)

    def test_a_model_that_overwrites_its_input_leaves_the_caller_s(self, framework: Framework) -> None:
        inputs = X.copy()
        with framework.probe.tapped(framework.model(lambda _, x: x.add_(x)), {}) as run:
            np.testing.assert_array_equal(run(inputs, Seen()), 2 * X)
        np.testing.assert_array_equal(inputs, X)

    def test_what_was_returned_is_not_changed_by_the_next_run(self, framework: Framework) -> None:
        with framework.probe.tapped(chain(framework), CHAIN) as run:
            first = Seen()
            returned = run(X.copy(), first)
            run(X + 1, Seen())
        np.testing.assert_array_equal(returned, 4 * X + 2)
        np.testing.assert_array_equal(first["out"], 4 * X + 2)

    def test_float64_stays_float64(self, framework: Framework) -> None:
        seen = Seen()
        returned = run_once(framework, chain(framework), CHAIN, seen, X.astype("float64") / 3)
        assert {value.dtype for _, value in seen.shown} == {np.dtype("float64")}
        assert returned.dtype == np.float64


class TestReplacing:
    def test_a_replaced_output_is_what_follows_gets(self, framework: Framework) -> None:
        seen = Seen(first=X - 7)
        returned = run_once(framework, chain(framework), CHAIN, seen)
        np.testing.assert_array_equal(seen["first"], 2 * X)
        np.testing.assert_array_equal(seen["plus"], X - 6)
        np.testing.assert_array_equal(returned, 2 * (X - 6))

    def test_a_replaced_input_is_what_the_module_gets(self, framework: Framework) -> None:
        seen = Seen(**{"before last": X})
        returned = run_once(framework, chain(framework), CHAIN, seen)
        np.testing.assert_array_equal(seen["plus"], 2 * X + 1)
        np.testing.assert_array_equal(returned, 2 * X)

    def test_a_replaced_input_goes_the_other_ways_as_it_was(self, framework: Framework) -> None:
        """A functional residual takes the tensor itself, which a hook on a module does not reach."""
        model = framework.model(lambda self, x: x + self.branch(x), branch=doubling(framework))
        tapped = {"branch": Tapped(module="branch", where="input")}
        np.testing.assert_array_equal(run_once(framework, model, tapped, Seen(branch=X * 0)), X)

    def test_the_root_can_be_replaced_on_both_sides(self, framework: Framework) -> None:
        model = chain(framework)
        np.testing.assert_array_equal(run_once(framework, model, CHAIN, Seen(into=X + 1)), 4 * X + 6)
        np.testing.assert_array_equal(run_once(framework, model, CHAIN, Seen(out=X)), X)

    def test_what_replaced_may_be_overwritten_afterwards(self, framework: Framework) -> None:
        given = X.copy()
        model = framework.model(lambda self, x: self.first(x).add_(x), first=doubling(framework))
        tapped = {"first": Tapped(module="first", where="output")}
        np.testing.assert_array_equal(run_once(framework, model, tapped, Seen(first=given)), 2 * X)
        np.testing.assert_array_equal(given, X)


class TestReturned:
    @pytest.mark.parametrize(
        "form", [lambda x: (x, x * 2), lambda x: [x, (x * 2, x)], lambda x: {"logits": x, "all": [x * 2]}]
    )
    def test_it_is_what_the_model_returned_as_arrays(self, framework: Framework, form: Callable[[Any], Any]) -> None:
        returned = run_once(framework, framework.model(lambda _, x: form(x)), {}, Seen())
        assert_same_structure(returned, form(X))

    def test_nothing_is_none(self, framework: Framework) -> None:
        assert run_once(framework, framework.model(lambda _, x: None), {}, Seen()) is None

    def test_it_is_the_replaced_one(self, framework: Framework) -> None:
        model = framework.model(lambda _, x: (x, x * 2))
        tapped = {"second": Tapped(module="", where="output", item=1)}
        assert_same_structure(run_once(framework, model, tapped, Seen(second=X + 5)), (X, X + 5))


def assert_same_structure(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same_structure(found[key], value)
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        for one, value in zip(found, expected, strict=True):
            assert_same_structure(one, value)
    else:
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, expected)


class TestNothingStays:
    def test_hooks_are_gone_afterwards(self, framework: Framework) -> None:
        model = chain(framework)
        with framework.probe.tapped(model, CHAIN) as run:
            run(X.copy(), Seen())
        assert framework.hooks_on(model) == 0

    def test_a_hook_of_the_user_s_stays(self, framework: Framework) -> None:
        model, fired = chain(framework), []
        model.first.register_forward_pre_hook(lambda *_: fired.append(1))
        run_once(framework, model, CHAIN, Seen())
        assert fired
        assert framework.hooks_on(model) == 1

    def test_after_an_exception_of_the_model(self, framework: Framework) -> None:
        def fail(_: Any, __: Any) -> Any:
            raise ZeroDivisionError

        model = chain(framework)
        model.last = framework.model(fail)
        seen = Seen()
        with pytest.raises(ForwardFailed, match="ZeroDivisionError"):
            run_once(framework, model, CHAIN, seen)
        assert seen.names == ["into", "first", "plus", "before last"]
        assert framework.hooks_on(model) == 0

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_after_an_exception_of_the_tap(self, framework: Framework, error: type[BaseException]) -> None:
        def tap(name: str, _: Array) -> None:
            if name == "plus":
                raise error

        model = chain(framework)
        with pytest.raises(error):
            run_once(framework, model, CHAIN, tap)
        assert framework.hooks_on(model) == 0

    def test_one_forward_that_failed_does_not_spoil_the_next(self, framework: Framework) -> None:
        def tap(_: str, __: Array) -> None:
            raise ZeroDivisionError

        with framework.probe.tapped(chain(framework), CHAIN) as run:
            with pytest.raises(ZeroDivisionError):
                run(X.copy(), tap)
            seen = Seen()
            run(X.copy(), seen)
        assert seen.names == list(CHAIN)

    def test_after_a_module_that_is_not_there(self, framework: Framework) -> None:
        model = chain(framework)
        missing, seen = {**CHAIN, "missing": Tapped(module="inner.minus", where="output")}, Seen()
        run_once(framework, model, missing, seen)
        assert seen.names == list(CHAIN)
        assert framework.hooks_on(model) == 0


class TestThreads:
    def in_two_threads(self, run_one: Callable[[Array, Any], Any], run_other: Callable[[Array, Any], Any]) -> None:
        """Run two forwards in step: neither goes on from a point before the other is at one."""
        together = Barrier(2)

        def go(run: Callable[[Array, Any], Any], inputs: Array) -> tuple[Seen, Array]:
            seen = Seen()

            def tap(name: str, value: Array) -> None:
                seen(name, value)
                together.wait(PATIENCE_SECONDS)

            return seen, run(inputs, tap)

        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(go, run, inputs) for run, inputs in ((run_one, X.copy()), (run_other, X + 50))]
            results = [future.result() for future in running]
        for (seen, returned), inputs in zip(results, (X, X + 50), strict=True):
            assert seen.names == list(CHAIN)
            np.testing.assert_array_equal(seen["before last"], 2 * inputs + 1)
            np.testing.assert_array_equal(returned, 4 * inputs + 2)

    def test_two_forwards_of_one_instance(self, framework: Framework) -> None:
        with framework.probe.tapped(chain(framework), CHAIN) as run:
            self.in_two_threads(run, run)

    def test_two_taps_of_one_instance(self, framework: Framework) -> None:
        model = chain(framework)
        with framework.probe.tapped(model, CHAIN) as one, framework.probe.tapped(model, CHAIN) as other:
            self.in_two_threads(one, other)
        assert framework.hooks_on(model) == 0

    def test_only_the_tap_of_the_run_is_shown_anything(self, framework: Framework) -> None:
        model = chain(framework)
        with framework.probe.tapped(model, CHAIN) as one, framework.probe.tapped(model, CHAIN) as other:
            first, second = Seen(), Seen()
            one(X.copy(), first)
            other(X + 1, second)
            model(framework.tensor(X))  # by its user, who taps nothing
        assert first.names == second.names == list(CHAIN)
        np.testing.assert_array_equal(first["into"], X)
        np.testing.assert_array_equal(second["into"], X + 1)


class TestCast:
    def test_floating_parameters_and_buffers_go_to_float64_and_back(self, framework: Framework) -> None:
        model = framework.model(lambda self, x: self.linear(x) * self.scale, linear=framework.nn.Linear(3, 4))
        model.register_buffer("scale", framework.tensor(np.array([1 / 3], dtype=np.float32)))
        before = {key: array.copy() for key, array in framework.probe.parameters(model).items()}
        framework.probe.cast(model, "float64")
        wide = framework.probe.parameters(model)
        assert {array.dtype for array in wide.values()} == {np.dtype("float64")}
        assert all(np.array_equal(wide[key], array) for key, array in before.items())
        returned = run_once(framework, model, {}, Seen(), X.astype("float64"))
        assert returned.dtype == np.float64
        framework.probe.cast(model, "float32")
        after = framework.probe.parameters(model)
        assert all(after[key].tobytes() == array.tobytes() for key, array in before.items())

    @pytest.mark.parametrize("dtype", ["int64", "int32", "bool"])
    @pytest.mark.parametrize("persistent", [True, False])
    def test_buffers_of_whole_numbers_stay_what_they_are(
        self, framework: Framework, dtype: str, persistent: bool
    ) -> None:
        index = np.array([2, 0, 1]).astype(dtype)
        model = framework.model(lambda self, x: self.linear(x)[:, self.index], linear=framework.nn.Linear(3, 3))
        model.register_buffer("index", framework.tensor(index), persistent)
        expected = run_once(framework, model, {}, Seen())
        for precision in ("float64", "float32"):
            framework.probe.cast(model, precision)
            kept = model.index.numpy()
            assert kept.dtype == index.dtype
            np.testing.assert_array_equal(kept, index)
            returned = run_once(framework, model, {}, Seen(), X.astype(precision))
            np.testing.assert_allclose(returned, expected, rtol=0, atol=1e-5)

    def test_whole_numbers_that_no_float_holds_survive(self, framework: Framework) -> None:
        model = framework.model(lambda self, x: self.linear(x), linear=framework.nn.Linear(3, 3))
        large = np.array([2**53 + 1, 2**62 + 1])
        model.register_buffer("large", framework.tensor(large))
        framework.probe.cast(model, "float64")
        framework.probe.cast(model, "float32")
        np.testing.assert_array_equal(model.large.numpy(), large)

    def test_tied_weights_stay_tied(self, framework: Framework) -> None:
        one, other = framework.nn.Linear(3, 3), framework.nn.Linear(3, 3)
        other.weight = one.weight
        model = framework.model(lambda self, x: self.other(self.one(x)), one=one, other=other)
        before = run_once(framework, model, {}, Seen())
        for precision in ("float64", "float32"):
            framework.probe.cast(model, precision)
            assert model.one.weight is model.other.weight
            held = framework.probe.parameters(model)
            assert set(held) == {"one.weight", "one.bias", "other.weight", "other.bias"}
            assert held["one.weight"].dtype == held["other.weight"].dtype == np.dtype(precision)
        np.testing.assert_array_equal(run_once(framework, model, {}, Seen()), before)

    def test_a_module_under_two_names_is_saved_under_both_and_hooked_once(self, framework: Framework) -> None:
        shared = framework.nn.Linear(3, 3)
        model = framework.model(lambda self, x: self.b(self.a(x)), a=shared, b=shared)
        assert set(framework.probe.parameters(model)) == {"a.weight", "a.bias", "b.weight", "b.bias"}
        assert framework.probe.modules(model) == {"", "a"}
