"""The backward gate: the loss and every parameter's gradient, torch against Paddle, and both against the witness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from align.core.result import Check, Divergence, Gate, Section
from align.learning import paddle_steps, torch_steps
from align.learning.finite_differences import Loss, direction_check, entry_checks
from align.learning.gradients import (
    LOSS_FLOAT32,
    LOSS_FLOAT64,
    first_failed,
    float32_gradient_check,
    floor_of,
    gradient_check,
    in_backward_order,
    loss_check,
)
from align.probes import paddle_probe, torch_probe
from convert.arrays import Array, StateDict
from convert.mixer.variants import MixerConfig

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Images (batch, in_chans, image_size, image_size), float32, and class indices (batch,), int64."""

    images: Array
    labels: Array


def backward(
    config: MixerConfig,
    source: StateDict,
    reference: Any,
    candidate: Any,
    batch: Batch,
    *,
    seed: int,
    progress: Progress,
) -> Section:
    """Return the gate of the gradients; both models end in float32, without gradients.

    Args:
        config: The sizes.
        source: The weights in timm's layout, for the witness.
        reference: timm's model, float32.
        candidate: The Paddle model, float32.
        batch: What both are given.
        seed: Of the direction and the entries of the finite differences.
        progress: Is told what is about to run.
    """
    wide, truth, floor = _float64(config, source, reference, candidate, batch, progress)
    progress("backward: finite differences of the witness")
    finite = list(_finite_differences(Loss(**_batch(config, batch)), source, truth, seed, floor, config))
    narrow = list(_float32(config, reference, candidate, batch, truth, floor, progress))
    return section([*wide, *finite, *narrow])


def section(checks: list[Check]) -> Section:
    """Return the gate over the checks: the first failed one names the layer."""
    failed, over = first_failed(checks), sum(not check.passed for check in checks)
    if failed is None:
        return Section(gate=Gate(name="backward", passed=True, sentence=_summary(checks)), checks=tuple(checks))
    sentence = f"{failed.layer or 'the model'}: {_over(failed)}"
    return Section(
        gate=Gate(name="backward", passed=False, sentence=f"{over} of {len(checks)} checks over; {_over(failed)}"),
        checks=tuple(checks),
        divergence=Divergence(layer=failed.layer, sentence=sentence),
    )


def _float64(
    config: MixerConfig, source: StateDict, reference: Any, candidate: Any, batch: Batch, progress: Progress
) -> tuple[list[Check], dict[str, Array | None], float]:
    """Return the float64 checks, the reference's gradients in timm's layout, and the least scale of a gradient."""
    torch_probe.cast(reference, "float64")
    paddle_probe.cast(candidate, "float64")
    images = batch.images.astype("float64")
    progress("backward: the reference in float64")
    loss = torch_steps.backward(reference, images, batch.labels)
    read, rows = torch_steps.gradients(reference), in_backward_order(config)
    truth = {row.source: read(row.source) for row in rows}
    torch_steps.forget(reference)
    progress("backward: Paddle in float64")
    other = paddle_steps.backward(candidate, images, batch.labels)
    witnessed = Loss(**_batch(config, batch))(source)
    floor, found = floor_of(truth.values()), paddle_steps.gradients(candidate)
    checks = [
        loss_check("loss/float64", loss, other, LOSS_FLOAT64),
        loss_check("loss/float64, the witness", witnessed, loss, LOSS_FLOAT64),
        *(gradient_check(row, truth[row.source], found(row.target), floor) for row in rows),
    ]
    paddle_steps.forget(candidate)
    return checks, truth, floor


def _finite_differences(
    loss: Loss,
    source: StateDict,
    truth: Mapping[str, Array | None],
    seed: int,
    floor: float,
    config: MixerConfig,
) -> Iterator[Check]:
    """Yield the checks of the reference's gradients; where the whole is wrong, of each parameter up to the first."""
    gradients = {name: gradient for name, gradient in truth.items() if gradient is not None}
    names = [row.source for row in in_backward_order(config) if row.source in gradients]
    if not names:
        return
    whole = direction_check(loss, source, gradients, names, seed, floor)
    for name in names if not whole.passed else ():
        each = direction_check(loss, source, gradients, [name], seed, floor)
        if not each.passed:
            yield each
            break
    yield whole
    yield from entry_checks(loss, source, gradients, seed, floor)


def _float32(
    config: MixerConfig,
    reference: Any,
    candidate: Any,
    batch: Batch,
    truth: Mapping[str, Array | None],
    floor: float,
    progress: Progress,
) -> Iterator[Check]:
    torch_probe.cast(reference, "float32")
    paddle_probe.cast(candidate, "float32")
    progress("backward: the reference in float32")
    loss = torch_steps.backward(reference, batch.images, batch.labels)
    progress("backward: Paddle in float32")
    other = paddle_steps.backward(candidate, batch.images, batch.labels)
    yield loss_check("loss/float32", loss, other, LOSS_FLOAT32)
    own, found = torch_steps.gradients(reference), paddle_steps.gradients(candidate)
    for row in in_backward_order(config):
        yield float32_gradient_check(row, truth[row.source], own(row.source), found(row.target), floor)
    torch_steps.forget(reference)
    paddle_steps.forget(candidate)


def _batch(config: MixerConfig, batch: Batch) -> dict[str, Any]:
    return {"config": config, "images": batch.images, "labels": batch.labels}


def _summary(checks: Iterable[Check]) -> str:
    kinds: dict[str, list[Check]] = {"float64": [], "float32": [], "finite difference": []}
    for check in checks:
        subject, _, kind = check.name.rpartition("/")
        if kind in kinds and subject != "loss":
            kinds[kind].append(check)
    wide, narrow, finite = (max(kind, key=lambda check: check.figure / (check.bound or 1)) for kind in kinds.values())
    return (
        f"{len(kinds['float64'])} gradients: float64 at most {_figure(wide)} relative ({_subject(wide)}); float32 "
        f"{_figure(narrow)} ulp ({_subject(narrow)}); finite differences of the witness {_figure(finite)} relative"
    )


def _over(check: Check) -> str:
    return f"{check.name} {_figure(check)}, {check.detail}"


def _figure(check: Check) -> str:
    sign = "≤" if check.passed else "exceeds"
    return f"{check.figure:.2g} {sign} {check.bound:.2g}"


def _subject(check: Check) -> str:
    return check.name.rpartition("/")[0]
