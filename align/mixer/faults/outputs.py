"""Faults in what a user gets from the whole model, which can differ from what hooks on one batch see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from align.faults.fault import Fault
from align.faults.front import Change
from align.mixer.faults.places import in_front

Forward = Callable[[Any], Any]


def _fault(name: str, change: Change, path: str = "") -> Fault:
    return in_front("output", name, lambda _: path, change)


def _put_out(change: Callable[[Any], Any]) -> Change:
    """Return the change that applies a function to what the model returns."""
    return lambda _, forward, images: change(forward(images))


def _nothing(_: Any, forward: Forward, images: Any) -> None:
    """Compute the result but forget to return it."""
    forward(images)


def _softmax(logits: Any) -> Any:
    import paddle

    return paddle.nn.functional.softmax(logits, axis=-1)


def _hooked(model: Any) -> bool:
    return any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in model.sublayers())


def _unhooked(model: Any, forward: Forward, images: Any) -> Any:
    return forward(images) * (1.0 if _hooked(model) else 1.001)


def _one_ulp_unhooked(model: Any, forward: Forward, images: Any) -> Any:
    """Add one ulp in a fast path, taken in float32 only and when no layer is hooked."""
    import paddle

    fast = images.dtype == paddle.float32 and not _hooked(model)
    return forward(images) * (1.0 + 2.0**-23 if fast else 1.0)


def _with_gradients(_: Any, forward: Forward, images: Any) -> Any:
    import paddle

    return forward(images) * (1.001 if paddle.is_grad_enabled() else 1.0)


def _first_two(_: Any, forward: Forward, images: Any) -> Any:
    """Compute the first two images and return zeros for the others."""
    import paddle

    logits = forward(images[:2])
    missing = max(0, images.shape[0] - 2)
    return paddle.concat([logits, paddle.zeros([missing, logits.shape[1]], logits.dtype)])


def _first_two_repeated(_: Any, forward: Forward, images: Any) -> Any:
    import paddle

    logits = forward(images[:2])
    return paddle.concat([logits, *[logits[:1]] * max(0, images.shape[0] - 2)])


def _by_twos(_: Any, forward: Forward, images: Any) -> Any:
    """Split the batch into pairs and concatenate their results in reverse order."""
    import paddle

    return paddle.concat([forward(images[i : i + 2]) for i in range(0, images.shape[0], 2)][::-1])


def _at_one(_: Any, forward: Forward, images: Any) -> Any:
    return forward(images) * (1.01 if images.shape[0] == 1 else 1.0)


def _beyond_two(_: Any, forward: Forward, images: Any) -> Any:
    """Shift every image's logits by those of the images after the second."""
    logits = forward(images)
    return logits + 1e-3 * logits[2:].mean(axis=0) if images.shape[0] > 2 else logits


def _centred(_: Any, forward: Forward, x: Any) -> Any:
    """Make each image's features depend slightly on the others'."""
    return forward(x - 1e-3 * x.mean(axis=0, keepdim=True))


OUTPUTS: tuple[Fault, ...] = (
    _fault("softmax of the logits", _put_out(_softmax)),
    _fault("classes in reversed order", _put_out(lambda logits: logits.flip(-1))),
    _fault("images in reversed order", _put_out(lambda logits: logits.flip(0))),
    _fault("a model that returns nothing", _nothing),
    _fault("a forward that raises", lambda _, forward, x: forward(x.flatten()), "head"),
    _fault("a tuple whose first item is wrong", _put_out(lambda logits: (logits * 1.5, logits))),
    _fault("a batch of one image squeezed away", _put_out(lambda logits: logits.squeeze())),
    _fault("another result where no layer is hooked", _unhooked),
    _fault("one ulp more where no layer is hooked, float32 only", _one_ulp_unhooked),
    _fault("another result where gradients are recorded", _with_gradients),
    _fault("only the first two images computed", _first_two),
    _fault("the first image's result from the third on", _first_two_repeated),
    _fault("pairs of images returned in another order", _by_twos),
    _fault("wrong for a batch of one image", _at_one),
    _fault("moved by the images behind the second", _beyond_two),
    _fault("features centred by the batch's mean", _centred, "norm"),
)
