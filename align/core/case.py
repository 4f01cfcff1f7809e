"""What is compared: two models that are not built yet, their comparison points, and optionally a witness."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from align.core.bounds import LOGITS_ATOL, Accepted
from align.core.drawn import DrawnTensor
from align.core.inputs import Draw, Input, Kind, Seed, seeded_images
from align.core.lockstep import Note, Walk
from align.core.point import Point
from align.core.probe import Probe
from align.core.result import Finding, Sides
from convert.arrays import Array, StateDict
from convert.rules import RuleSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user may set: images per batch, seed and kind of the images, the bound on the float32 headline.

    stress: Whether to run the gate of single layers. backward: Whether to add the gate of the gradients. train_steps:
    How many optimizer steps to compare in a gate of their own; 0 for none.
    """

    batch: int = 2
    input_seed: int = 0
    inputs: Kind = "normal"
    atol: float = LOGITS_ATOL
    stress: bool = True
    backward: bool = False
    train_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """The model of one side, not built yet.

    state_dict: The tensors that it will hold, by its own names. build: Builds it in float32, as it is used; copies it
    if it is a user's own. probe: The probe of its framework. lend: Lends a user's own model, which is unchanged
    afterwards; None if it is not a user's own.
    """

    state_dict: StateDict
    build: Callable[[], Any]
    probe: Probe
    lend: Callable[[], AbstractContextManager[Any]] | None = None

    def used(self) -> AbstractContextManager[Any]:
        """Return a context that yields the model to observe: the user's own, or one built for this."""
        return contextlib.nullcontext(self.build()) if self.lend is None else self.lend()


class Witness(Protocol):
    """A third implementation, without a framework."""

    def __call__(self, state_dict: StateDict, inputs: Array, note: Note | None = None, /) -> Walk:
        """Return a walk over every point's float64 value for the reference's weights; note is called with each size."""


class WitnessLayer(Protocol):
    """The witness's layers, each callable alone."""

    def __call__(self, state_dict: StateDict, path: str, x: Array, /, *, written_out: bool = False) -> Array | None:
        """Return what the layer at a reference path makes of a float64 tensor; None if the witness has no such layer.

        written_out: Whether norms use their epsilon unrounded; the frameworks' own round it to float32.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """All that an alignment needs to know about what it compares.

    family: Its name; config: in the family's own form. rules: From the reference's keys to the candidate's. points: In
    forward order. headline: The point of the models' result; classes: how many values it has per image. sample: A
    point early in the forward by which every kind of layer has run. inputs: One batch; several inputs are the fields
    of a structured array. drawn_by: Draws more inputs like it; None: they are images of its shape. described: The
    inputs one by one; (): the family knows them. witness: Shows every point's float64 value; None: there is no
    witness. witness_layer: The witness's layers, each callable alone. places: The point that each reference parameter
    acts in. left_out: The points that the candidate does not show, and why. not_covered: The candidate's parameters
    that no point covers, and why that is accepted. accepted: Points whose difference is accepted. unpaired: Tensors of
    either side without a counterpart, and why; nothing is compared then, and advice says what to do. unequal: Returned
    values that no point compares and that differ, and how. to_be_used: The candidate's parameters that no family
    guarantees to take part in the result. remarks: By point, the settings in which the two modules differ. drawn: How
    the reference's weights that were drawn can be drawn again, by name. wanted: The settings that the inputs were
    drawn with. settings: What a result records about the case.
    """

    name: str
    family: str
    config: Any
    reference: Model
    candidate: Model
    rules: RuleSet
    points: tuple[Point, ...]
    headline: str
    classes: int
    sample: str
    inputs: Array
    drawn_by: Draw | None = None
    described: tuple[Input, ...] = ()
    witness: Witness | None = None
    witness_layer: WitnessLayer | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    not_covered: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    unpaired: Mapping[str, str] = field(default_factory=dict)
    advice: str = ""
    unequal: Mapping[str, str] = field(default_factory=dict)
    to_be_used: frozenset[str] = frozenset()
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    drawn: Mapping[str, DrawnTensor] = field(default_factory=dict)
    wanted: Settings = field(default_factory=Settings)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check_drawn_by(self, settings: Settings) -> None:
        """Check that the inputs were drawn with these settings.

        Raises:
            ValueError: They were not.
        """
        for what in ("batch", "input_seed", "inputs"):
            if getattr(settings, what) != getattr(self.wanted, what):
                raise ValueError(f"{self.name}: its inputs were drawn by another {what}")

    def draw(self, count: int, seed: Seed) -> Array:
        """Return this many other examples of the same kind as the inputs."""
        if self.drawn_by is not None:
            return self.drawn_by(count, seed)
        return seeded_images((count, *self.inputs.shape[1:]), seed, self.wanted.inputs)

    @cached_property
    def expected(self) -> StateDict:
        """What the candidate has to hold: the reference's weights, transformed and renamed by their rules."""
        return self.rules.apply(self.reference.state_dict)

    @cached_property
    def sides(self) -> Sides:
        """The names of the two sides, the headline, and whether there is a witness."""
        names = (self.reference.probe.name, self.candidate.probe.name)
        return Sides(reference=names[0], candidate=names[1], headline=self.headline, witness=self.witness is not None)

    @cached_property
    def open_findings(self) -> list[Finding]:
        """Findings that leave the proof open: tensors without a counterpart."""
        said = [(key.rpartition(".")[0] or key, f"{key}: {why}") for key, why in self.unpaired.items()]
        return [
            Finding(layer=layer, sentence=sentence + f"; {self.advice}" * (i == 0), is_open=True)
            for i, (layer, sentence) in enumerate(said)
        ]

    def place(self, parameter: str) -> str:
        """Return the point that a candidate parameter acts in; for one that no rule knows, its module."""
        return self._by_target.get(parameter) or self.places.get(parameter) or parameter.rpartition(".")[0]

    def reference_point(self, parameter: str) -> str:
        """Return the point that a reference parameter acts in."""
        return self.places.get(parameter) or parameter.rpartition(".")[0]

    @cached_property
    def _by_target(self) -> dict[str, str]:
        return {rule.target: self.reference_point(rule.source) for rule in self.rules}
