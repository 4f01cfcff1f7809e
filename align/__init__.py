"""Alignment of two models and, where there is one, a witness: the same seeded batch through each, point by point."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.core.result import AlignmentResult


def align(
    timm_model: Any,
    paddle_model: Any,
    pairing: str | PathLike[str] | None = None,
    *,
    batch: int = 2,
    input_seed: int = 0,
    stress: bool = True,
    backward: bool = False,
    train_steps: int = 0,
) -> AlignmentResult:
    """Return how two models in memory compare; neither is changed.

    Args:
        timm_model: A vision MLP of timm's mlp_mixer module, float32.
        paddle_model: Any `paddle.nn.Layer` that computes the same, float32, as it is used: one left in training mode is
            compared in training mode.
        pairing: A TOML file that says what the Paddle model calls timm's modules, where it has other names.
        batch: Number of images.
        input_seed: Seed of the images.
        stress: Call each pair of corresponding layers alone too.
        backward: Compare every parameter's gradient too.
        train_steps: Compare so many steps of each optimizer too.

    Raises:
        BadInput: timm_model is no vision MLP that we know, paddle_model no layer with its parameters, or the pairing
            does not go with them.

    Example:
        >>> align.align(timm.create_model("mixer_b16_224"), MyMixer()).verdict  # doctest: +SKIP
        'diverged'
    """
    from align.core.case import Settings
    from align.run import align as run

    settings = Settings(batch=batch, input_seed=input_seed, stress=stress, backward=backward, train_steps=train_steps)
    return run(case_of_models(timm_model, paddle_model, pairing, settings), settings)


def case_of_models(timm_model: Any, paddle_model: Any, pairing: str | PathLike[str] | None, settings: Any) -> Any:
    """Return the case of two models, of whichever family knows the first one's names."""
    from pathlib import Path

    from align.alignment import alignment_of
    from align.pairing.file import read_pairing
    from align.probes import torch_probe
    from convert import families

    torch_probe.check(timm_model)
    family = families.nearest(timm_model.state_dict().keys())
    names = read_pairing(Path(pairing)) if pairing is not None else None
    return alignment_of(family).case_of_models(timm_model, paddle_model, names, settings)
