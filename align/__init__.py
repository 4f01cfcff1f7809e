"""Alignment of two models and, where there is one, a witness: the same seeded batch through each, point by point."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.core.case import Case, Settings
    from align.core.result import AlignmentResult


def align(
    reference: Any,
    candidate: Any,
    pairing: str | PathLike[str] | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    draw: bool = False,
    batch: int = 2,
    input_seed: int = 0,
    atol: float | None = None,
    stress: bool = True,
    backward: bool = False,
    train_steps: int = 0,
) -> AlignmentResult:
    """Return how two models in memory compare, which is true where they are aligned; neither is changed.

    Args:
        reference: Any `torch.nn.Module`, float32; a vision MLP of timm's is compared with a NumPy witness too.
        candidate: Any `paddle.nn.Layer` that computes the same, float32, as it is used: one left in training mode is
            compared in training mode.
        pairing: A TOML file that says what the candidate calls the reference's modules and weights, where it has other
            names.
        input_shape: Of one input, without the batch: (3, 224, 224). By default as the pairing file or timm says it;
            not asked for of a vision MLP.
        draw: Give both seeded weights instead of their own.
        batch: Number of examples.
        input_seed: Seed of the inputs.
        atol: How far what the models return may lie apart in float32; None: 1e-5.
        stress: Call each pair of corresponding layers alone too.
        backward: Compare every parameter's gradient too.
        train_steps: Compare so many steps of each optimizer too.

    Raises:
        BadInput: One of them is no such model, or the pairing does not go with them.
        UsageProblem: Nothing says what the models are given.

    Example:
        >>> align.align(timm.create_model("mixer_b16_224"), MyMixer()).verdict  # doctest: +SKIP
        'diverged'
    """
    from dataclasses import replace

    from align.core.case import Settings
    from align.probes import paddle_probe
    from align.run import align as run

    settings = Settings(batch=batch, input_seed=input_seed, stress=stress, backward=backward, train_steps=train_steps)
    settings = settings if atol is None else replace(settings, atol=atol)
    with paddle_probe.device_kept():
        case = case_of_models(reference, candidate, pairing, settings, input_shape=input_shape, draw=draw)
        return run(case, settings)


def case_of_models(
    reference: Any,
    candidate: Any,
    pairing: str | PathLike[str] | None = None,
    settings: Settings | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    draw: bool = False,
) -> Case:
    """Return the case of two models: of the family that knows the first one's names, else of any."""
    from pathlib import Path

    from align.alignment import alignment_of
    from align.pairing.file import read_pairing
    from align.probes import torch_probe
    from convert import families

    torch_probe.check(reference)
    names = read_pairing(Path(pairing)) if pairing is not None else None
    family = families.knowing(reference.state_dict().keys())
    if family is not None and input_shape is None and not draw:
        return alignment_of(family).case_of_models(reference, candidate, names, settings)
    from align.pairing.pairing import Pairing
    from align.twins.asked import inputs_of
    from align.twins.case import Twins, case_of_twins

    shape = ",".join(map(str, input_shape)) if input_shape is not None else None
    names = names or Pairing()
    inputs = inputs_of(shape, names, reference)
    twins = Twins(reference=reference, candidate=candidate, inputs=inputs, pairing=names, own_weights=not draw)
    return case_of_twins(twins, settings)
