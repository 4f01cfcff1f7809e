"""What a framework's probe does: every probe has the same functions, and the aligner uses no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from align.core.bounds import Precision
from align.core.lockstep import Tap
from align.core.point import Tapped
from convert.arrays import Array, StateDict

Forward = Callable[[Array, Tap], Any]
"""Runs a model on one batch, shows each point to the tap, and returns the model's output with NumPy arrays."""


class Probe(Protocol):
    """How models of one framework are observed; name is what a sentence calls the framework."""

    @property
    def name(self) -> str:
        """What a sentence calls the framework."""

    def check_framework(self) -> None:
        """Check that what is imported under the framework's name is that framework.

        Raises:
            BadInput: It is not.
        """

    def check(self, model: Any) -> None:
        """Check that a model belongs to the framework.

        Raises:
            BadInput: It does not.
        """

    def parameters(self, model: Any) -> StateDict:
        """Return a copy of what the model holds, by name: parameters, and buffers that are saved with them."""

    def buffers(self, model: Any) -> frozenset[str]:
        """Return the names of the model's buffers."""

    def layers(self, model: Any) -> Iterator[tuple[str, Any]]:
        """Yield every layer with its path, "" for the model itself; none if the framework's layers hold nothing."""

    def tensors(self, model: Any) -> Iterator[tuple[str, Array]]:
        """Yield every parameter and buffer with its name, unsaved ones included; possibly in the model's own memory."""

    def attributes(self, model: Any) -> dict[str, str]:
        """Return what the layers keep besides parameters and buffers, as text that changes with the values."""

    def modules(self, model: Any) -> frozenset[str]:
        """Return the path of every module; "" is the model itself."""

    def load(self, model: Any, state_dict: StateDict) -> None:
        """Load these values into the model, each in the dtype it has there; names that it does not have are ignored."""

    def cast(self, model: Any, precision: Precision) -> None:
        """Cast the model's floating-point parameters and buffers in place."""

    def written_out(self, model: Any) -> AbstractContextManager[bool]:
        """Run the body with norms' unrounded epsilon, which `cast` rounds to float32; yield whether there are any."""

    def tapped(self, model: Any, points: Mapping[str, Tapped]) -> AbstractContextManager[Forward]:
        """Yield a forward that shows these points, by name, while the context lasts.

        Several forwards may run at a time, each in a thread of its own; none sees another's values. The forward raises
        ForwardFailed if the model raises or a point is not a tensor.
        """

    def forward(self, model: Any, inputs: Array) -> Any:
        """Return the model's output when nothing is hooked, with NumPy arrays.

        Raises:
            ForwardFailed: The model raises.
        """

    def returned(self, model: Any, inputs: Array, *, gradients: bool) -> tuple[Any, Array]:
        """Return the model's output, with gradients recorded or not, and its input as it is after the call.

        Raises:
            ForwardFailed: The model raises.
        """

    def unused(self, model: Any, inputs: Array, names: frozenset[str]) -> list[str]:
        """Return those of these parameters that do not affect the model's output."""

    def one_thread(self) -> AbstractContextManager[int]:
        """Run the body on a single thread; yield how many threads there are otherwise, 1 if that is fixed."""
