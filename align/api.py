"""What `import align` offers: two models in memory compared, recorded, and checked against a record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.core.case import Case, Settings
    from align.core.result import AlignmentResult
    from align.trace.result import TraceResult
    from align.twins.case import Twins

Name = str | PathLike[str]


def align(
    reference: Any,
    candidate: Any,
    pairing: Name | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    draw: bool = False,
    batch: int = 2,
    input_seed: int = 0,
    atol: float | None = None,
    accept_rounding: bool = False,
    stress: bool = True,
    backward: bool = False,
    train_steps: int = 0,
    progress: bool = True,
) -> AlignmentResult:
    """Return how two models in memory compare: a result that is true if they are aligned. Neither is changed.

    Args:
        reference: Any `torch.nn.Module`, float32; a vision MLP of timm's is compared with a NumPy witness too.
        candidate: Any `paddle.nn.Layer` that computes the same, float32, as it is used: one left in training mode is
            compared in training mode.
        pairing: A TOML file that says what the candidate calls the reference's modules and weights, if its names
            differ.
        input_shape: Shape of one input, without the batch: (3, 224, 224). By default what the pairing file or timm
            says; not needed for a vision MLP.
        draw: Give both models seeded weights instead of their own.
        batch: Number of examples.
        input_seed: Seed of the inputs.
        atol: How far the models' results may differ in float32; None: 1e-5.
        accept_rounding: Make the result true for the verdict `rounding` too; the verdict itself stays the same.
        stress: Also call each pair of corresponding layers alone.
        backward: Also compare every parameter's gradient.
        train_steps: Also compare this many steps of each optimizer.
        progress: Show progress and the time left in a notebook or a terminal; elsewhere nothing is shown anyway.

    Raises:
        BadInput: One of them is not such a model, or the pairing does not fit them.
        UsageProblem: Nothing says what inputs the models take.

    Example:
        >>> import paddle, torch
        >>> result = align.align(torch.nn.Linear(4, 3), paddle.nn.Linear(4, 3), input_shape=[4], draw=True)
        >>> result.verdict, bool(result)
        ('aligned', True)
    """
    from align.commands.progress import aligning
    from align.core.case import Settings
    from align.probes import paddle_probe
    from align.run import align as run
    from convert.checks.installed import require

    require("torch", "paddle")
    settings = Settings(batch=batch, input_seed=input_seed, stress=stress, backward=backward, train_steps=train_steps)
    settings = settings if atol is None else replace(settings, atol=atol)
    with paddle_probe.device_kept():
        case = case_of_models(reference, candidate, pairing, settings, input_shape=input_shape, draw=draw)
        with aligning(case, settings) if progress else nullcontext(lambda _: None) as told:
            return replace(run(case, settings, progress=told), accept_rounding=accept_rounding)


def record(
    reference: Any,
    candidate: Any,
    out: Name,
    pairing: Name | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    draw: bool = False,
    batch: int = 2,
    input_seed: int = 0,
    force: bool = False,
    progress: bool = True,
) -> None:
    """Write what the reference computes on one seeded batch to a small file, with which `check` compares Paddle.

    Args:
        reference: Any `torch.nn.Module`, float32.
        candidate: Its counterpart, any `paddle.nn.Layer`, of which only the names of modules and weights are used.
        out: The trace to write, a .json.
        pairing: As in `align`.
        input_shape: As in `align`, but needed for a vision MLP too, unless timm says it.
        draw: Give both models seeded weights instead of their own; `check` draws them again.
        batch: Number of examples.
        input_seed: Seed of the inputs.
        force: Replace an existing file.
        progress: As in `align`.

    Raises:
        BadInput: One of them is not such a model, or the pairing does not fit them.
        UsageProblem: Nothing says what inputs the models take, or the output exists already.
        MixerConvertError: The two are not paired, or there is nothing to record (`exit_code` 1).

    Example:
        >>> import paddle, torch
        >>> align.record(torch.nn.Linear(4, 3), paddle.nn.Linear(4, 3), "linear.json", input_shape=[4], draw=True)
        >>> align.check("linear.json", paddle.nn.Linear(4, 3)).verdict
        'aligned'
    """
    from align.core.case import Settings
    from align.probes import paddle_probe
    from align.trace import gate, trace_file
    from align.twins.case import case_of_twins
    from align.underway import RECORD
    from convert.checks.installed import require
    from convert.commands.progress import staged
    from convert.disk.atomic import refuse_overwrite

    require("torch", "paddle")
    refuse_overwrite(Path(out), force=force, inputs=() if pairing is None else (Path(pairing),))
    settings = Settings(batch=batch, input_seed=input_seed)
    with paddle_probe.device_kept():
        twins = _twins(reference, candidate, pairing, input_shape, draw)
        case = case_of_twins(twins, settings)
        with staged(RECORD) if progress else nullcontext(lambda _: None) as told:
            trace = gate.record(case, settings, progress=told)
    trace_file.write_whole(Path(out), trace, force=force)


def check(
    trace: Name,
    candidate: Any = None,
    *,
    weights: Name | None = None,
    weights_key: str | None = None,
    atol: float | None = None,
    accept_rounding: bool = False,
    progress: bool = True,
) -> TraceResult:
    """Return how Paddle alone compares with a recorded trace, without torch and timm; true if they are aligned.

    The result has `verdict`, `gates` and `first_divergence`, as that of `align` does, and `points`.

    Args:
        trace: What `record` or `mixer-align record` wrote.
        candidate: Any `paddle.nn.Layer`, in evaluation mode; it is not changed. For a trace of a vision MLP that
            `mixer-align record` wrote: None, which stands for our own Paddle model.
        weights: A file with the candidate's weights. Default: what it holds, or the seeded weights of the trace.
        weights_key: Which set of weights, if the file holds several.
        atol: How far the models' results may differ in float32; None: 1e-5.
        accept_rounding: Make the result true for the verdict `rounding` too; the verdict itself stays the same.
        progress: As in `align`.

    Raises:
        BadInput: The file is not a trace, or the candidate is not a Paddle model.
        UsageProblem: The trace needs a candidate, or has one of its own; or nothing says which weights to use.
        IntegrityProblem: The trace was changed, or NumPy does not draw what was recorded.

    Example:
        >>> import paddle, torch
        >>> align.record(torch.nn.Linear(5, 2), paddle.nn.Linear(5, 2), "five.json", input_shape=[5], draw=True)
        >>> bool(align.check("five.json", paddle.nn.Linear(5, 2)))
        True
    """
    from align.core.bounds import LOGITS_ATOL
    from align.probes import paddle_probe
    from align.trace import gate, trace_file
    from align.trace.judged import Judged, case_to_check
    from align.underway import CHECK
    from convert.checks.installed import require
    from convert.commands.progress import staged

    require("paddle")
    found = trace_file.read(Path(trace))
    judged = Judged(file=None if weights is None else Path(weights), key=weights_key)
    with paddle_probe.device_kept():
        case = case_to_check(found, judged, None if candidate is None else lambda: candidate)
        with staged(CHECK) if progress else nullcontext(lambda _: None) as told:
            result = gate.check(found, case, atol=LOGITS_ATOL if atol is None else atol, progress=told)
    return replace(result, accept_rounding=accept_rounding)


def case_of_models(
    reference: Any,
    candidate: Any,
    pairing: Name | None = None,
    settings: Settings | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    draw: bool = False,
) -> Case:
    """Return the case of two models: by the family that knows the reference's names, else as any two models."""
    from align.alignment import alignment_of
    from align.pairing.file import read_pairing
    from align.probes import torch_probe
    from align.twins.case import case_of_twins
    from convert import families

    torch_probe.check(reference)
    family = families.knowing(reference.state_dict().keys())
    if family is not None and input_shape is None and not draw:
        names = read_pairing(Path(pairing)) if pairing is not None else None
        return alignment_of(family).case_of_models(reference, candidate, names, settings)
    return case_of_twins(_twins(reference, candidate, pairing, input_shape, draw), settings)


def _twins(reference: Any, candidate: Any, pairing: Name | None, shape: Sequence[int] | None, draw: bool) -> Twins:
    from align.pairing.file import read_pairing
    from align.pairing.pairing import Pairing
    from align.twins.asked import inputs_of
    from align.twins.case import Twins

    names = read_pairing(Path(pairing)) if pairing is not None else Pairing()
    inputs = inputs_of(None if shape is None else ",".join(map(str, shape)), names, reference)
    return Twins(reference=reference, candidate=candidate, inputs=inputs, pairing=names, own_weights=not draw)
