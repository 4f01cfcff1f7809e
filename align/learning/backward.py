"""The backward gate: the loss and every parameter's gradient, torch against Paddle, and both against the witness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from align.core.bounds import Precision
from align.core.case import Case
from align.core.inputs import in_precision, seeded_labels
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
from convert.arrays import Array

Progress = Callable[[str], None]
Gradients = Mapping[str, Array | None]
"""Gradients by the reference's parameter names; None for a parameter without one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learning:
    """A case's two models, built in float32, and the labels (batch,), int64, of its inputs."""

    case: Case
    reference: Any
    candidate: Any
    labels: Array

    def cast(self, precision: Precision) -> None:
        """Cast both models in place."""
        self.case.reference.probe.cast(self.reference, precision)
        self.case.candidate.probe.cast(self.candidate, precision)


def backward(case: Case, reference: Any, candidate: Any, *, seed: int, progress: Progress) -> Section:
    """Return the gate of the gradients; leave both models in float32, without gradients.

    Args:
        case: The case, whose inputs both models are given.
        reference: The reference, built, float32.
        candidate: The Paddle model, float32.
        seed: Seed of the labels, and of the direction and the entries of the finite differences.
        progress: Called with what is about to run.
    """
    labels = seeded_labels(case.classes, len(case.inputs), seed)
    learning = Learning(case=case, reference=reference, candidate=candidate, labels=labels)
    wide, truth, floor = _float64(learning, progress)
    finite: list[Check] = []
    if case.witness is not None:
        progress("backward: finite differences of the witness")
        finite = list(_finite_differences(Loss(case=case, labels=labels), truth, seed, floor))
    narrow = list(_float32(learning, truth, floor, progress))
    return section([*wide, *finite, *narrow])


def section(checks: list[Check]) -> Section:
    """Return the gate, which passes if every check does; the first failed check names the layer."""
    failed, over = first_failed(checks), sum(not check.passed for check in checks)
    if failed is None:
        return Section(gate=Gate(name="backward", passed=True, sentence=_summary(checks)), checks=tuple(checks))
    sentence = f"{failed.layer or 'the model'}: {_over(failed)}"
    return Section(
        gate=Gate(name="backward", passed=False, sentence=f"{over} of {len(checks)} checks over; {_over(failed)}"),
        checks=tuple(checks),
        divergence=Divergence(layer=failed.layer, sentence=sentence),
    )


def _float64(learning: Learning, progress: Progress) -> tuple[list[Check], Gradients, float]:
    """Return the float64 checks, the reference's gradients by its own names, and the least scale of a gradient."""
    case, labels = learning.case, learning.labels
    learning.cast("float64")
    inputs = in_precision(case.inputs, "float64")
    progress("backward: the reference in float64")
    loss = torch_steps.backward(learning.reference, inputs, labels)
    read, rows = torch_steps.gradients(learning.reference), in_backward_order(case)
    truth = {row.rule.source: read(row.rule.source) for row in rows}
    torch_steps.forget(learning.reference)
    progress("backward: Paddle in float64")
    other = paddle_steps.backward(learning.candidate, inputs, labels)
    floor, found = floor_of(truth.values()), paddle_steps.gradients(learning.candidate)
    checks = [loss_check(loss, other, LOSS_FLOAT64, kind="float64", layer=case.headline)]
    if case.witness is not None:
        witnessed = Loss(case=case, labels=labels)(case.reference.state_dict)
        checks.append(loss_check(witnessed, loss, LOSS_FLOAT64, kind="float64, the witness", layer=case.headline))
    checks += [gradient_check(row, truth[row.rule.source], found(row.rule.target), floor) for row in rows]
    paddle_steps.forget(learning.candidate)
    return checks, truth, floor


def _finite_differences(loss: Loss, truth: Gradients, seed: int, floor: float) -> Iterator[Check]:
    """Yield the check of all gradients together, preceded by the first wrong one's if it fails; then of entries."""
    gradients = {name: gradient for name, gradient in truth.items() if gradient is not None}
    if not gradients:
        return
    whole = direction_check(loss, gradients, [*gradients], seed, floor)
    for name in gradients if not whole.passed else ():
        each = direction_check(loss, gradients, [name], seed, floor)
        if not each.passed:
            yield each
            break
    yield whole
    yield from entry_checks(loss, gradients, seed, floor)


def _float32(learning: Learning, truth: Gradients, floor: float, progress: Progress) -> Iterator[Check]:
    case = learning.case
    learning.cast("float32")
    progress("backward: the reference in float32")
    loss = torch_steps.backward(learning.reference, case.inputs, learning.labels)
    progress("backward: Paddle in float32")
    other = paddle_steps.backward(learning.candidate, case.inputs, learning.labels)
    yield loss_check(loss, other, LOSS_FLOAT32, kind="float32", layer=case.headline)
    own, found = torch_steps.gradients(learning.reference), paddle_steps.gradients(learning.candidate)
    for row in in_backward_order(case):
        source, target = row.rule.source, row.rule.target
        yield float32_gradient_check(row, truth[source], own(source), found(target), floor)
    torch_steps.forget(learning.reference)
    paddle_steps.forget(learning.candidate)


def _summary(checks: Iterable[Check]) -> str:
    kinds: dict[str, list[Check]] = {"float64": [], "float32": [], "finite difference": []}
    for check in checks:
        if check.kind in kinds and check.subject != "loss":
            kinds[check.kind].append(check)
    wide, narrow, finite = (max(kind, key=_share, default=None) for kind in kinds.values())
    said = f"{len(kinds['float64'])} gradients"
    if wide is not None and narrow is not None:
        said += f": float64 at most {_figure(wide)} relative ({wide.subject}); float32 {_figure(narrow)} ulp"
        said += f" ({narrow.subject})"
    return said if finite is None else f"{said}; finite differences of the witness {_figure(finite)} relative"


def _share(check: Check) -> float:
    return check.figure / (check.bound or 1)


def _over(check: Check) -> str:
    return f"{check.name} {_figure(check)}, {check.detail}"


def _figure(check: Check) -> str:
    sign = "≤" if check.passed else "exceeds"
    return f"{check.figure:.2g} {sign} {check.bound:.2g}"
