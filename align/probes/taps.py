"""The hooks' side of a tapped forward, the same for every framework: which call, which item, whose thread."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

from align.core.inputs import together
from align.core.lockstep import ForwardFailed, Tap
from align.core.point import Item, Tapped, steps_to
from align.core.probe import Forward
from convert.arrays import Array, Shape
from convert.errors import BadInput, printable


class Taps:
    """What a model's hooks do with what they are given. Each thread's forward sees only its own calls.

    Args:
        points: What to show, by name.
        to_array: Copies a tensor, which the model may overwrite; returns None for anything else.
        to_tensor: Turns an array back into a tensor.
    """

    def __init__(
        self,
        points: Mapping[str, Tapped],
        to_array: Callable[[Any], Array | None],
        to_tensor: Callable[[Array], Any],
    ) -> None:
        self._points: dict[tuple[str, str], list[tuple[str, Tapped]]] = {}
        for name, tapped in points.items():
            self._points.setdefault((tapped.module, tapped.where), []).append((name, tapped))
        self._to_array, self._to_tensor = to_array, to_tensor
        self._running = threading.local()

    @contextlib.contextmanager
    def on(self, modules: Iterable[tuple[str, Any]], after: str, forward: Callable[[Array], Any]) -> Iterator[Forward]:
        """Yield the tapped forward of a model, whose hooks are removed on exit.

        Args:
            modules: The modules, with their paths.
            after: The name of the method that registers a hook after a module's forward.
            forward: Runs the model.
        """
        handles = []
        for path, module in modules:
            if (path, "input") in self._points:
                before = partial(self._before, path)
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            if (path, "output") in self._points:
                handles.append(getattr(module, after)(partial(self._after, path)))

        def run(inputs: Array, tap: Tap) -> Any:
            with self.shown_to(tap):
                return forward(inputs)

        try:
            yield run
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def shown_to(self, tap: Tap) -> Iterator[None]:
        """Show the tap what this thread's forward passes while the body runs."""
        self._running.tap, self._running.calls = tap, Counter[tuple[str, str]]()
        self._running.error = None
        try:
            yield
        except ForwardFailed as failed:
            raise self._running.error or failed from None
        finally:
            self._running.tap = None

    def inputs(
        self, module: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a module's inputs, by position and by name, after showing them in this order."""
        shown = self._through(module, "input", (*args, *kwargs.values()))
        return shown[: len(args)], dict(zip(kwargs, shown[len(args) :], strict=True))

    def output(self, module: str, output: Any) -> Any:
        """Return a module's output after showing it."""
        return self._through(module, "output", output)

    def _before(self, path: str, _: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.inputs(path, args, kwargs)

    def _after(self, path: str, _: object, __: object, output: Any) -> Any:
        return self.output(path, output)

    def _through(self, module: str, where: str, value: Any) -> Any:
        tap: Tap | None = getattr(self._running, "tap", None)
        if tap is None:
            return value
        call = self._running.calls[module, where]
        self._running.calls[module, where] += 1
        for name, tapped in self._points.get((module, where), ()):
            if tapped.call == call:
                item = 0 if where == "input" and tapped.item is None else tapped.item
                value = self._shown(name, replace(tapped, item=item), value, tap)
        return value

    def _shown(self, name: str, tapped: Tapped, value: Any, tap: Tap) -> Any:
        array = self._to_array(item_of(value, tapped))
        if array is None:
            raise ForwardFailed(f"{tapped} is {type(item_of(value, tapped)).__name__}, not a tensor")
        try:
            replacement = tap(name, array)
        except Exception as error:  # of the tap, not of the model
            self._running.error = error
            raise
        if replacement is None:
            return value
        return _with_item(value, steps_to(tapped.item), self._to_tensor(replacement))


@contextlib.contextmanager
def shapes_given(layers: Mapping[str, Any]) -> Iterator[dict[str, Shape | None]]:
    """Yield the shape of the tensor that each layer is first given, by path; None if that is not a single tensor."""
    found: dict[str, Shape | None] = {}

    def note(path: str, _: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        alone = len(args) == 1 and not kwargs and hasattr(args[0], "shape")
        found.setdefault(path, tuple(args[0].shape) if alone else None)

    with contextlib.ExitStack() as hooks:
        for path, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(partial(note, path), with_kwargs=True).remove)
        yield found


def item_of(value: Any, tapped: Tapped) -> Any:
    """Return the tapped item of a value.

    Raises:
        ForwardFailed: There is no such item.
    """
    try:
        for step in steps_to(tapped.item):
            value = _item(value, step)
    except (AttributeError, TypeError, KeyError, IndexError) as error:
        raise ForwardFailed(f"{tapped}: {type(value).__name__} has no such item") from error
    return value


def _item(value: Any, step: int | str) -> Any:
    by_name = isinstance(step, str) and _has_fields(value)
    return getattr(value, str(step)) if by_name else value[step]


def _with_item(value: Any, steps: Sequence[int | str], new: Any) -> Any:
    """Return a value of the same type with one item replaced, however deep it lies."""
    if not steps:
        return new
    item, *further = steps
    new = _with_item(_item(value, item), further, new) if further else new
    if isinstance(item, str) and hasattr(value, "_fields"):
        return value._replace(**{item: new})
    if isinstance(item, str) and _has_fields(value):
        changed = copy.copy(value)
        object.__setattr__(changed, item, new)  # also if it is frozen
        return changed
    if not isinstance(value, tuple):
        changed = copy.copy(value)
        changed[item] = new
        return changed
    items = [new if i == item else old for i, old in enumerate(value)]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _has_fields(value: Any) -> bool:
    """Return whether a value is a namedtuple or a dataclass; one that is also a dict counts as a dict."""
    return not isinstance(value, dict) and (hasattr(value, "_fields") or is_dataclass(value))


def called(model: Any, inputs: Mapping[str, Any]) -> Any:
    """Return a model's output for these inputs, passed by name, or by position if there is only one."""
    return model(inputs[""]) if "" in inputs else model(**inputs)


def after_call(inputs: Mapping[str, Any], to_array: Callable[[Any], Array]) -> Array:
    """Return the inputs as they are after a call, as a batch."""
    arrays = {name: to_array(one) for name, one in inputs.items()}
    return arrays[""] if "" in arrays else together(arrays)


def as_arrays(value: Any, to_array: Callable[[Any], Array | None]) -> Any:
    """Return a model's output with its tensors as NumPy arrays; anything else stays as it is."""
    array = to_array(value)
    if array is not None:
        return array
    if isinstance(value, dict):
        return {key: as_arrays(one, to_array) for key, one in value.items()}
    if isinstance(value, tuple | list):
        items = [as_arrays(one, to_array) for one in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for one in fields(value):
            object.__setattr__(changed, one.name, as_arrays(getattr(value, one.name), to_array))
        return changed
    return value


def leaves(value: Any) -> Iterator[Any]:
    """Yield what lies in tuples, lists, dicts and dataclasses, however deep."""
    return (leaf for _, leaf in items(value))


def items(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Item, Any]]:
    """Yield what lies in tuples, lists, dicts and dataclasses, however deep, with the path to each."""
    inside: list[tuple[Any, Any]]
    if is_dataclass(value) and not isinstance(value, type | dict):
        inside = [(one.name, getattr(value, one.name)) for one in fields(value)]
    elif isinstance(value, Mapping):
        inside = [*value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        inside = [*enumerate(value)]
    else:
        yield (before[0] if len(before) == 1 else before or None), value
        return
    for step, one in inside:
        yield from items(one, (*before, step))


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Run the body, turning what a model's forward raises into ForwardFailed.

    Raises:
        ForwardFailed: The forward raised; the text is one line.
    """
    try:
        yield
    except ForwardFailed:
        raise
    except (Exception, SystemExit) as error:  # a forward that exits must not end the command, least of all with 0
        said = " ".join(str(error).split())
        raise ForwardFailed(f"its forward fails with {type(error).__name__}: {said[-300:]}") from error


def deep_copy(model: Any) -> Any:
    """Return a copy of a user's model, which itself is never changed.

    Raises:
        BadInput: It cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:
        said = printable(f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}")
        raise BadInput(
            f"{type(model).__name__}: it cannot be copied, and some gates take a copy ({said}). Take what cannot be "
            "copied out of its attributes, or leave out --backward and --train-steps."
        ) from error
