"""Alignment of two models and a witness: the same seeded batch through each, compared layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.core.result import AlignmentResult


def align(
    timm_model: Any,
    paddle_model: Any,
    *,
    batch: int = 2,
    input_seed: int = 0,
    backward: bool = False,
    train_steps: int = 0,
) -> AlignmentResult:
    """Return how two models in memory compare; neither is changed.

    Args:
        timm_model: A vision MLP of timm's mlp_mixer module, float32.
        paddle_model: The Paddle model, as `convert.load_paddle` returns it, float32.
        batch: Number of images.
        input_seed: Seed of the images.
        backward: Compare every parameter's gradient too.
        train_steps: Compare so many steps of each optimizer too.

    Raises:
        BadInput: timm_model is no vision MLP that we know.
    """
    from align.run import Settings, align_models

    return align_models(
        timm_model,
        paddle_model,
        Settings(batch=batch, input_seed=input_seed, backward=backward, train_steps=train_steps),
    )
