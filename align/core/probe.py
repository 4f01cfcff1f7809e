"""What a probe of a framework does: every one has the same functions, and the aligner knows no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from align.core.bounds import Precision
from align.core.lockstep import Tap
from align.core.point import Tapped
from convert.arrays import Array, StateDict

Forward = Callable[[Array, Tap], Any]
"""Runs a model on one batch, shows each point to the tap, and returns what the model returns, with NumPy's arrays."""


class Probe(Protocol):
    """How models of one framework are observed; name says which, in a sentence."""

    @property
    def name(self) -> str:
        """The framework, as a sentence calls it."""

    def check_framework(self) -> None:
        """Check that the framework is the one that it is called.

        Raises:
            BadInput: It is not.
        """

    def check(self, model: Any) -> None:
        """Check that a model is one of the framework's.

        Raises:
            BadInput: It is not.
        """

    def parameters(self, model: Any) -> StateDict:
        """Return a copy of what the model holds by name: parameters, and buffers that are saved with them."""

    def buffers(self, model: Any) -> frozenset[str]:
        """Return which of these names are buffers."""

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        """Yield every layer by its path, "" for the model itself, where the framework's layers hold something."""

    def tensors(self, model: Any) -> Iterator[tuple[str, Array]]:
        """Yield every parameter and buffer by name, also those that are not saved; maybe in the model's own memory."""

    def attributes(self, model: Any) -> dict[str, str]:
        """Return what the layers keep beside parameters and buffers, as text that another value changes."""

    def modules(self, model: Any) -> frozenset[str]:
        """Return the path of every module; "" is the model itself."""

    def load(self, model: Any, state_dict: StateDict) -> None:
        """Give the model these values, each in the dtype that it has; names that it does not have are passed over."""

    def cast(self, model: Any, precision: Precision) -> None:
        """Cast the model in place: parameters and buffers that are no whole numbers."""

    def written_out(self, model: Any) -> AbstractContextManager[bool]:
        """Let norms, if there are any, have their epsilon as it is for a while; `cast` rounds it to float32."""

    def tapped(self, model: Any, points: Mapping[str, Tapped]) -> AbstractContextManager[Forward]:
        """Give the forward that shows these points, by name, for as long as the context lasts.

        Several may run at a time, each in a thread of its own; none sees another one's values. The forward raises
        ForwardFailed where the model raises, or a point is no tensor.
        """

    def forward(self, model: Any, inputs: Array) -> Any:
        """Return what the model returns when nothing is hooked, with NumPy's arrays.

        Raises:
            ForwardFailed: The model raises.
        """

    def returned(self, model: Any, inputs: Array, *, gradients: bool) -> tuple[Any, Array]:
        """Return what the model returns, with gradients recorded or not; and what its input is by then.

        Raises:
            ForwardFailed: The model raises.
        """

    def unused(self, model: Any, inputs: Array, names: frozenset[str]) -> list[str]:
        """Return which of these parameters have no part in what the model returns."""

    def one_thread(self) -> AbstractContextManager[int]:
        """Compute on a single thread for a while, and say how many there are otherwise; 1 where that is fixed."""
