"""The key mapping: one literal table per checkpoint layout. The transform stands in the row; nothing guesses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from convert.arrays import Array, Shape
from convert.shapes import TIMM_SHAPES, in_forward_order
from convert.variants import MixerConfig


class Transform(Enum):
    """What happens to a tensor on its way from the source's layout to the target's."""

    IDENTITY = "identity"
    TRANSPOSE = "transpose"

    def apply(self, array: Array) -> Array:
        """Return a view of the array in the target's layout; no data is copied."""
        return array.T if self is Transform.TRANSPOSE else array

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that `apply` gives an array of this shape."""
        return shape[::-1] if self is Transform.TRANSPOSE else shape

    @property
    def inverse(self) -> Transform:
        """The transform that undoes this one."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRule:
    """One row of a layout's table: a source name, a target name ({i} is the block index) and the transform."""

    source: str
    target: str
    transform: Transform

    @property
    def inverse(self) -> KeyRule:
        """The row that leads back."""
        return KeyRule(source=self.target, target=self.source, transform=self.transform.inverse)

    def at(self, i: int) -> KeyRule:
        """Return the row for block i."""
        return KeyRule(source=self.source.format(i=i), target=self.target.format(i=i), transform=self.transform)


def _keep(name: str) -> KeyRule:
    return KeyRule(source=name, target=name, transform=Transform.IDENTITY)


def _linear(name: str) -> KeyRule:
    """A Linear weight: [out, in] in PyTorch, [in, out] in PaddlePaddle."""
    return KeyRule(source=name, target=name, transform=Transform.TRANSPOSE)


TIMM_TO_PADDLE: tuple[KeyRule, ...] = (
    _keep("stem.proj.weight"),
    _keep("stem.proj.bias"),
    # mixer, gmixer
    _keep("blocks.{i}.norm1.weight"),
    _keep("blocks.{i}.norm1.bias"),
    _linear("blocks.{i}.mlp_tokens.fc1.weight"),
    _keep("blocks.{i}.mlp_tokens.fc1.bias"),
    _linear("blocks.{i}.mlp_tokens.fc2.weight"),
    _keep("blocks.{i}.mlp_tokens.fc2.bias"),
    _keep("blocks.{i}.norm2.weight"),
    _keep("blocks.{i}.norm2.bias"),
    # resmlp
    _keep("blocks.{i}.ls1"),
    _keep("blocks.{i}.ls2"),
    _keep("blocks.{i}.norm1.alpha"),
    _keep("blocks.{i}.norm1.beta"),
    _linear("blocks.{i}.linear_tokens.weight"),
    _keep("blocks.{i}.linear_tokens.bias"),
    _keep("blocks.{i}.norm2.alpha"),
    _keep("blocks.{i}.norm2.beta"),
    # gmlp
    _keep("blocks.{i}.norm.weight"),
    _keep("blocks.{i}.norm.bias"),
    _keep("blocks.{i}.mlp_channels.gate.norm.weight"),
    _keep("blocks.{i}.mlp_channels.gate.norm.bias"),
    _linear("blocks.{i}.mlp_channels.gate.proj.weight"),
    _keep("blocks.{i}.mlp_channels.gate.proj.bias"),
    # all
    _linear("blocks.{i}.mlp_channels.fc1.weight"),
    _keep("blocks.{i}.mlp_channels.fc1.bias"),
    _linear("blocks.{i}.mlp_channels.fc2.weight"),
    _keep("blocks.{i}.mlp_channels.fc2.bias"),
    _keep("norm.weight"),
    _keep("norm.bias"),
    _keep("norm.alpha"),
    _keep("norm.beta"),
    _linear("head.weight"),
    _keep("head.bias"),
)
"""timm's layout to Paddle's, which keeps timm's names.

Source: torch.nn.Linear holds weight (out_features, in_features)
(https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html), paddle.nn.Linear [in_features, out_features]
(https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/nn/Linear_en.html).
"""

PADDLE_TO_TIMM: tuple[KeyRule, ...] = tuple(rule.inverse for rule in TIMM_TO_PADDLE)


def expand(rules: Iterable[KeyRule], config: MixerConfig) -> tuple[KeyRule, ...]:
    """Return the rows for the parameters of the config's family, block indices filled in, in forward order."""
    by_source = {rule.source: rule for rule in rules}
    patterns = [pattern for pattern in TIMM_SHAPES[config.family] if pattern in by_source]
    return tuple(by_source[pattern].at(i) for pattern, i in in_forward_order(patterns, config.num_blocks))
