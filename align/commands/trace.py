"""mixer-align record and check: a small file that lets Paddle be gated where neither torch nor timm is installed."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from align.commands.layer_table import ALL_LAYERS, print_folded
from align.commands.options import (
    CANDIDATE_MODEL,
    INPUTS,
    PAIRING,
    RANDOM,
    REFERENCE_MODEL,
    SOURCE,
    case_of_options,
    model_in_evaluation,
    say,
)
from convert.commands.command_line import OneSentence, json_option, with_options, write_json
from convert.commands.options import FILE

if TYPE_CHECKING:
    from align.core.inputs import Kind
    from align.trace.golden import GoldenTrace
    from align.trace.result import TraceResult


@click.command(cls=OneSentence, needs=("torch",), apart=RANDOM)
@with_options(SOURCE, REFERENCE_MODEL, CANDIDATE_MODEL, (PAIRING,), INPUTS)
@click.option("--out", type=FILE, required=True, help="The trace to write, a .json.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def record(out: Path, force: bool, json_target: str | None, **options: Any) -> None:
    """Write what the reference computes on one seeded batch, for `check` to compare Paddle with later.

    A reference that leaves the NumPy witness in float64 is refused (exit 1). Of any model of PyTorch's with its twin in
    Paddle, which --reference-model and --candidate-model name, there is no witness: what it computes in float64 is the
    truth, and the twin tells only its names.
    """
    from align.trace import trace_file
    from convert.disk.atomic import refuse_overwrite
    from convert.disk.hashing import file_sha256

    given = tuple(path for path in (options["checkpoint"], options["pairing"]) if path)
    refuse_overwrite(out, force=force, inputs=given)
    trace = _record(**options)
    trace_file.write_whole(out, trace, force=force)
    size = out.stat().st_size
    witness = "" if trace.witnessed else ", no witness"
    counts = f"{len(trace.points)} points, {len(trace.weights)} tensors, {size:,} bytes"
    sentence = f"{out}: recorded {trace.name}: {counts}{witness}."
    click.echo(sentence, err=json_target == "-")
    if json_target:
        data = {"schema": "mixer-align/record/1", "file": out.name, "bytes": size, "sha256": file_sha256(out)}
        write_json({**data, "name": trace.name, "points": len(trace.points)}, json_target)


@click.command(cls=OneSentence, needs=("paddle",))
@click.option("--trace", "trace_path", type=FILE, required=True, help="What mixer-align record wrote.")
@click.option(
    "--candidate", type=FILE, help="Paddle weights to judge. Default: the seeded ones of the trace, drawn again."
)
@click.option("--candidate-key", metavar="NAME", help="Which set of weights, where the candidate holds several.")
@with_options(CANDIDATE_MODEL)
@click.option("--atol", type=click.FloatRange(min=0), default=1e-5, show_default=True, help="Bound on float32 logits.")
@click.option("--accept-rounding", is_flag=True, help="Exit 0 on the verdict `rounding` too.")
@with_options((ALL_LAYERS,))
@json_option
@click.pass_context
def check(
    ctx: click.Context, /, accept_rounding: bool, all_layers: bool, json_target: str | None, **options: Any
) -> None:
    """Compare Paddle alone with a recorded trace; neither torch nor timm is needed.

    Of a trace of two models, name the Paddle one with --candidate-model: a trace never makes code run.

    \b
    Verdicts: aligned (exit 0); rounding (exit 1 without --accept-rounding); diverged (exit 1).
    Exit code 5: the trace was changed, or NumPy does not draw the recorded images or weights.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    candidate, key = options["candidate"], options["candidate_key"]
    result = _check(**options)
    _print(result, all_layers=all_layers, to_stderr=json_target == "-")
    if json_target:
        from align.trace.render import as_data

        judged = {"file": candidate and candidate.name, "weights_key": key}
        write_json({**as_data(result), "candidate": judged}, json_target)
    ctx.exit(1 if result.failed(accept_rounding=accept_rounding) else 0)


def _record(*, batch: int, input_seed: int, inputs: Kind, **source: Any) -> GoldenTrace:
    from align.core.case import Settings
    from align.trace import gate
    from align.underway import RECORD
    from convert.commands.progress import staged
    from convert.errors import UsageProblem

    settings = Settings(batch=batch, input_seed=input_seed, inputs=inputs)
    for name in ("candidate_model", "candidate_args", "pairing"):
        if source["reference_model"] is None and source[name] is not None:
            raise UsageProblem(f"--{name.replace('_', '-')} goes with --reference-model here. Add it, or leave it out.")
    case = case_of_options(source, settings)
    with staged(RECORD) as progress:
        return gate.record(case, settings, progress=progress)


def _check(*, trace_path: Path, atol: float, **options: Any) -> TraceResult:
    from align.trace import gate, trace_file
    from align.trace.judged import Judged, case_to_check
    from align.underway import CHECK
    from convert.commands.progress import staged
    from convert.errors import UsageProblem

    if not math.isfinite(atol):
        raise UsageProblem(f"--atol {atol}: a bound has to be a finite number.")
    if options["candidate_args"] is not None and options["candidate_model"] is None:
        raise UsageProblem("--candidate-args goes with --candidate-model. Add it, or leave it out.")
    trace = trace_file.read(trace_path)
    judged = Judged(file=options["candidate"], key=options["candidate_key"], say=say)
    case = case_to_check(trace, judged, _model_of(options["candidate_model"], options["candidate_args"]))
    with staged(CHECK) as progress:
        return gate.check(trace, case, atol=atol, progress=progress)


def _model_of(target: str | None, args: str | None) -> Callable[[], Any] | None:
    from align.probes import paddle_probe

    if target is None:
        return None
    return lambda: model_in_evaluation("--candidate-model", target, args, paddle_probe.check)


def _print(result: TraceResult, *, all_layers: bool, to_stderr: bool) -> None:
    from align.render import gate_lines
    from align.trace.render import FOLDED_HEADERS, HEADERS, folded_rows, rows, verdict_line
    from convert.commands.tables import print_table

    with contextlib.redirect_stdout(sys.stderr) if to_stderr else contextlib.nullcontext():
        if result.points and not all_layers:
            print_folded(FOLDED_HEADERS, *folded_rows(result), title=result.name)
        elif result.points:
            print_table(HEADERS, rows(result), title=result.name)
        print("\n".join([*gate_lines(result.gates), verdict_line(result)]))
