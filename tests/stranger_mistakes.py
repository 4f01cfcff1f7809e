"""Mistakes that any Paddle model can have in its code, each as a class to put in front of a layer's own."""

from __future__ import annotations

from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812  # as everyone calls it
from paddle import Tensor, nn

HARMLESS_SCALE = 1 + 1e-6
"""8 float32 steps above 1: nothing that a bound on float32 sees."""


def become(layer: nn.Layer, mistake: type) -> None:
    """Put a class in front of a layer's own; parameters, buffers and names stay."""
    layer.__class__ = type(mistake.__name__, (mistake, type(layer)), {})


class Half:
    """One layer computes in float16, as automatic mixed precision left on does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).astype("float16").astype(x.dtype)


class Scaled:
    """The output is multiplied by a buffer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class BiasIgnored:
    """A Linear that has a bias and does not add it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def scale(layer: nn.Layer, *, persistable: bool) -> None:
    layer.register_buffer("scale", paddle.to_tensor(HARMLESS_SCALE, dtype="float32"), persistable=persistable)
    become(layer, Scaled)


def set_epsilon(layer: nn.Layer) -> None:
    """Give every LayerNorm in a layer Paddle's own default."""
    for norm in layer.sublayers(include_self=True):
        if isinstance(norm, nn.LayerNorm):
            norm._epsilon = 1e-5


def add_unused_parameter(model: nn.Layer) -> None:
    """Add a position embedding as a Vision Transformer has it, which the forward never adds."""
    model.pos_embed = model.create_parameter([1, 16, 10], default_initializer=nn.initializer.Normal(std=0.02))


class Softmax:
    def forward(self, images: Tensor) -> Tensor:
        return F.softmax(super().forward(images), axis=-1)


class Reversed:
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flip(-1)


class Nothing:
    """`return` is forgotten."""

    def forward(self, images: Tensor) -> None:
        super().forward(images)


class WrongFirst:
    """A tuple, the second item of which would be right."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = super().forward(images)
        return logits * 1.5, logits


class Unhooked:
    """Right while anyone looks: what is returned without a hook on any layer is something else."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        looked_at = any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in self.sublayers())
        return logits if looked_at else logits * 1.001


class TwoAndZeros:
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images[:2])
        missing = max(0, images.shape[0] - 2)
        return paddle.concat([logits, paddle.zeros([missing, logits.shape[1]], logits.dtype)])


class TwoAndCopies:
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images[:2])
        missing = max(0, images.shape[0] - 2)
        return paddle.concat([logits, *[logits[:1]] * missing])


class Squeezed:
    """A squeeze that takes a batch of one image for an axis too many."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).squeeze()


class WrongAtOne:
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits * 1.01 if images.shape[0] == 1 else logits


class WrongBeyondTwo:
    """Batches are split into twos, and the parts come back in another order."""

    def forward(self, images: Tensor) -> Tensor:
        parts = [super(WrongBeyondTwo, self).forward(images[i : i + 2]) for i in range(0, images.shape[0], 2)]
        return paddle.concat(parts[::-1])


class Cached:
    """The first answer for a shape is every later answer for it."""

    def forward(self, images: Tensor) -> Tensor:
        cache = self.__dict__.setdefault("answers", {})
        key = (tuple(images.shape), str(images.dtype))
        if key not in cache:
            cache[key] = super().forward(images)
        return cache[key].clone()


class Raises:
    """A forward that ends in an error of Paddle's, several lines long."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flatten(1))


def plant(model: nn.Layer, name: str) -> None:
    """Give a model one of the mistakes that need no knowledge of its layers."""
    if name == "extra-parameter":
        add_unused_parameter(model)
    elif name == "epsilon":
        set_epsilon(model)
    else:
        become(model, OUTSIDE[name])


OUTSIDE: dict[str, Any] = {
    "softmax": Softmax,
    "classes-reversed": Reversed,
    "returns-nothing": Nothing,
    "wrong-tuple": WrongFirst,
    "unhooked": Unhooked,
    "two-and-zeros": TwoAndZeros,
    "two-and-copies": TwoAndCopies,
    "squeezed": Squeezed,
    "wrong-at-1": WrongAtOne,
    "wrong-beyond-2": WrongBeyondTwo,
    "cached": Cached,
    "raises": Raises,
}
ANY_MODEL = (*OUTSIDE, "extra-parameter", "epsilon")
