"""The key mapping: rules from one layout's names to another's. Each rule states its transform; none is guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from convert.arrays import Array, Shape, StateDict

FAULTY = "the rule table does not map every parameter exactly once"


class Transform(Enum):
    """What happens to a tensor on its way from the source's layout to the target's."""

    IDENTITY = "identity"
    TRANSPOSE = "transpose"
    HWIO_TO_OIHW = "HWIO to OIHW"
    OIHW_TO_HWIO = "OIHW to HWIO"
    UNSQUEEZE = "(D) to (1, 1, D)"
    SQUEEZE = "(1, 1, D) to (D)"

    def apply(self, array: Array) -> Array:
        """Return a view of the array in the target's layout; no data is copied."""
        return array.transpose(_AXES[self]) if self in _AXES else array.reshape(self.shape(array.shape))

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that `apply` gives an array of this shape."""
        if self in _AXES:
            return tuple(shape[axis] for axis in _AXES[self]) if len(shape) == len(_AXES[self]) else shape
        if self is Transform.UNSQUEEZE:
            return (1, 1, *shape)
        return shape[2:] if self is Transform.SQUEEZE else shape

    def takes(self, shape: Shape) -> bool:
        """Return whether this transform can be applied to a tensor of this shape, and undone."""
        if self in _AXES:
            return len(shape) == len(_AXES[self])
        if self is Transform.SQUEEZE:
            return len(shape) == 3 and shape[:2] == (1, 1)
        return self is Transform.IDENTITY or len(shape) == 1

    @property
    def inverse(self) -> Transform:
        """The transform that undoes this one."""
        return _INVERSES.get(self, self)

    def then(self, following: Transform) -> Transform:
        """Return this transform followed by another, as one transform."""
        if following is self.inverse:
            return Transform.IDENTITY
        if self is Transform.IDENTITY:
            return following
        if following is Transform.IDENTITY:
            return self
        raise ValueError(f"{self.value} then {following.value} is no single transform")


_AXES = {Transform.TRANSPOSE: (1, 0), Transform.HWIO_TO_OIHW: (3, 2, 0, 1), Transform.OIHW_TO_HWIO: (2, 3, 1, 0)}
_PAIRS = ((Transform.HWIO_TO_OIHW, Transform.OIHW_TO_HWIO), (Transform.UNSQUEEZE, Transform.SQUEEZE))
_INVERSES = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRule:
    """One row of a layout's table: a source name, a target name ({i} is the block index) and the transform."""

    source: str
    target: str
    transform: Transform

    @property
    def inverse(self) -> KeyRule:
        """The row that leads from the target back to the source."""
        return KeyRule(source=self.target, target=self.source, transform=self.transform.inverse)

    def then(self, following: KeyRule) -> KeyRule:
        """Return this row followed by another, as one row."""
        transform = self.transform.then(following.transform)
        return KeyRule(source=self.source, target=following.target, transform=transform)

    def at(self, i: int) -> KeyRule:
        """Return the row for block i."""
        return KeyRule(source=self.source.format(i=i), target=self.target.format(i=i), transform=self.transform)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules for all of a checkpoint's weights: each fires, each source key is taken once, each target key filled once.

    Example:
        >>> rules = RuleSet((KeyRule(source="a.weight", target="b.weight", transform=Transform.TRANSPOSE),))
        >>> rules.shapes({"a.weight": (2, 3)})
        {'b.weight': (3, 2)}
    """

    rules: tuple[KeyRule, ...]

    def __post_init__(self) -> None:
        """Check that the rules do not conflict.

        Raises:
            ValueError: Two have the same source, or the same target.
        """
        if len(self.rules) > min(len({rule.source for rule in self}), len({rule.target for rule in self})):
            raise ValueError(FAULTY)

    def __iter__(self) -> Iterator[KeyRule]:
        return iter(self.rules)

    @property
    def inverse(self) -> RuleSet:
        """The rules that lead from the targets back to the sources."""
        return RuleSet(tuple(rule.inverse for rule in self))

    def then(self, following: RuleSet) -> RuleSet:
        """Return these rules followed by others, as one set, in the order of these.

        Raises:
            ValueError: These fill other keys than the others take.
        """
        onward = {rule.source: rule for rule in following}
        if onward.keys() != {rule.target for rule in self}:
            raise ValueError(FAULTY)
        return RuleSet(tuple(rule.then(onward[rule.target]) for rule in self))

    def apply(self, state_dict: StateDict) -> StateDict:
        """Return the tensors renamed and transformed, as views; every rule's source key has to be present."""
        return {rule.target: rule.transform.apply(state_dict[rule.source]) for rule in self}

    def shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes that `apply` gives tensors of these shapes."""
        return {rule.target: rule.transform.shape(shapes[rule.source]) for rule in self}
