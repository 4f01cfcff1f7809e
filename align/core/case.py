"""What is compared: two models that are not built yet, the points between them, and a witness or none."""

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
    """What a gatekeeper may set: images per batch, seed and kind of the images, the bound on the float32 headline.

    stress: The gate of single layers is wanted. backward adds the gate of the gradients; train_steps, if not 0, that of
    so many optimizer steps.
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
    """One side, not built yet.

    state_dict: What it is to hold, by its own names. build: Makes it, in float32, as it is used; of a user's own, a
    copy. probe: Knows its framework. lend: Lends a user's own, which is unchanged in the end; None: there is none.
    """

    state_dict: StateDict
    build: Callable[[], Any]
    probe: Probe
    lend: Callable[[], AbstractContextManager[Any]] | None = None

    def used(self) -> AbstractContextManager[Any]:
        """Give the model to be observed: the user's own, or one that is built for it."""
        return contextlib.nullcontext(self.build()) if self.lend is None else self.lend()


class Witness(Protocol):
    """A third implementation, without a framework."""

    def __call__(self, state_dict: StateDict, inputs: Array, note: Note | None = None, /) -> Walk:
        """Return what gives every point's float64 value for the reference's weights; note is told each one's size."""


class WitnessLayer(Protocol):
    """The witness's layers, each alone."""

    def __call__(self, state_dict: StateDict, path: str, x: Array, /, *, written_out: bool = False) -> Array | None:
        """Return what the layer at a path of the reference's makes of a float64 tensor; None where it has none there.

        written_out: A norm has its epsilon as it is, which the frameworks' own round to float32.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """All that an alignment needs to know of what it compares.

    family: By name; config: as the family has it. rules: From the reference's keys to the candidate's. points: In
    forward order. headline: The point that the models are for; classes: how many values it has for an image. sample:
    A point early in the forward that every kind of layer comes before. inputs: One batch; several inputs are the
    fields of a structured array. drawn_by: What draws more like it; None: they are images of its shape. described:
    What it is made of, one by one; (): as a family knows. witness: Shows every point's float64 value; None: there is
    none. witness_layer: Its layers, each alone. places: The point that each of the reference's parameters acts in.
    left_out: The points that the candidate does not show, and why. not_covered: The candidate's parameters that no
    point covers, and why that is accepted. accepted: Points whose difference is accepted. unpaired: Tensors of either
    side that nothing pairs, and why; nothing is compared then, and advice says what to do. unequal: What the models
    return that no point compares and that is not the same, and how. to_be_used: The candidate's parameters of which no
    family says that they have part in the result. remarks: By point, which settings of the two modules are not the
    same. drawn: How those of the reference's weights are drawn again that were drawn, by name. wanted: What the
    inputs were drawn by. settings: What a result says of the case.
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
        """Check that the inputs are those of the settings.

        Raises:
            ValueError: They are not.
        """
        for what in ("batch", "input_seed", "inputs"):
            if getattr(settings, what) != getattr(self.wanted, what):
                raise ValueError(f"{self.name}: its inputs were drawn by another {what}")

    def draw(self, count: int, seed: Seed) -> Array:
        """Return so many other examples of the kind that the inputs are of."""
        if self.drawn_by is not None:
            return self.drawn_by(count, seed)
        return seeded_images((count, *self.inputs.shape[1:]), seed, self.wanted.inputs)

    @cached_property
    def expected(self) -> StateDict:
        """What the candidate has to hold: the reference's weights by its names, each transformed by its rule."""
        return self.rules.apply(self.reference.state_dict)

    @cached_property
    def sides(self) -> Sides:
        """What to call the two."""
        names = (self.reference.probe.name, self.candidate.probe.name)
        return Sides(reference=names[0], candidate=names[1], headline=self.headline, witness=self.witness is not None)

    @cached_property
    def open_findings(self) -> list[Finding]:
        """What keeps a proof from being one: tensors that nothing pairs."""
        said = [(key.rpartition(".")[0] or key, f"{key}: {why}") for key, why in self.unpaired.items()]
        return [
            Finding(layer=layer, sentence=sentence + f"; {self.advice}" * (i == 0), is_open=True)
            for i, (layer, sentence) in enumerate(said)
        ]

    def place(self, parameter: str) -> str:
        """Return the point that a parameter of the candidate's acts in; of one that no rule knows, its module."""
        return self._by_target.get(parameter) or self.places.get(parameter) or parameter.rpartition(".")[0]

    def reference_point(self, parameter: str) -> str:
        """Return the point that a parameter of the reference's acts in."""
        return self.places.get(parameter) or parameter.rpartition(".")[0]

    @cached_property
    def _by_target(self) -> dict[str, str]:
        return {rule.target: self.reference_point(rule.source) for rule in self.rules}
