"""mixer-align record and check: a small file that lets Paddle be gated where neither torch nor timm is installed."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from align.commands.options import INPUTS, SOURCE, case_of_options, progress_line, say
from convert.commands.command_line import OneSentence, debug_option, json_option, with_options, write_json
from convert.commands.options import FILE

if TYPE_CHECKING:
    from align.core.inputs import Kind
    from align.trace.result import TraceResult
    from align.trace.trace_file import GoldenTrace


@click.command(cls=OneSentence)
@with_options(SOURCE, INPUTS)
@click.option("--out", type=FILE, required=True, help="The trace to write, a .json.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
@debug_option
def record(out: Path, force: bool, json_target: str | None, **options: Any) -> None:
    """Write what the reference computes on one seeded batch, for `check` to compare Paddle with later.

    A reference that leaves the NumPy witness in float64 is refused (exit 1).
    """
    from align.trace import trace_file
    from convert.disk.atomic import refuse_overwrite, write_atomically
    from convert.disk.hashing import file_sha256

    checkpoint = options["checkpoint"]
    refuse_overwrite(out, force=force, inputs=(checkpoint,) if checkpoint else ())
    trace = _record(**options)
    write_atomically(
        out, lambda stream: trace_file.write(stream, trace), check=lambda path: _read_back(path, trace), force=force
    )
    size = out.stat().st_size
    sentence = (
        f"{out}: recorded {trace.name}: {len(trace.points)} points, {len(trace.weights)} tensors, {size:,} bytes."
    )
    click.echo(sentence, err=json_target == "-")
    if json_target:
        data = {"schema": "mixer-align/record/1", "file": out.name, "bytes": size, "sha256": file_sha256(out)}
        write_json({**data, "name": trace.name, "points": len(trace.points)}, json_target)


@click.command(cls=OneSentence)
@click.option("--trace", "trace_path", type=FILE, required=True, help="What mixer-align record wrote.")
@click.option(
    "--candidate", type=FILE, help="Paddle weights to judge. Default: the seeded ones of the trace, drawn again."
)
@click.option("--candidate-key", metavar="NAME", help="Which set of weights, where the candidate holds several.")
@click.option("--atol", type=click.FloatRange(min=0), default=1e-5, show_default=True, help="Bound on float32 logits.")
@click.option("--accept-rounding", is_flag=True, help="Exit 0 on the verdict `rounding` too.")
@json_option
@debug_option
@click.pass_context
def check(ctx: click.Context, /, accept_rounding: bool, json_target: str | None, **options: Any) -> None:
    """Compare Paddle alone with a recorded trace; neither torch nor timm is needed.

    \b
    Verdicts: aligned (exit 0); rounding (exit 1 without --accept-rounding); diverged (exit 1).
    Exit code 5: the trace was changed, or NumPy does not draw the recorded images or weights.
    """  # noqa: D301  # \b is click's mark for text that is not to be wrapped
    candidate, key = options["candidate"], options["candidate_key"]
    result = _check(**options)
    _print(result, to_stderr=json_target == "-")
    if json_target:
        from align.trace.render import as_data

        judged = {"file": candidate and candidate.name, "weights_key": key}
        write_json({**as_data(result), "candidate": judged}, json_target)
    ctx.exit(1 if result.failed(accept_rounding=accept_rounding) else 0)


def _read_back(path: Path, trace: GoldenTrace) -> None:
    from align.trace import trace_file
    from convert.errors import IntegrityProblem

    if trace_file.read(path) != trace:
        raise IntegrityProblem(f"{path}: what was read back is not what was written. Check the disk.")


def _record(*, batch: int, input_seed: int, inputs: Kind, **source: Any) -> GoldenTrace:
    from align.core.case import Settings
    from align.trace import gate

    settings = Settings(batch=batch, input_seed=input_seed, inputs=inputs)
    case = case_of_options(source, settings)
    with progress_line() as progress:
        return gate.record(case, settings, progress=progress)


def _check(*, trace_path: Path, candidate: Path | None, candidate_key: str | None, atol: float) -> TraceResult:
    from align.alignment import alignment_named
    from align.trace import gate, trace_file
    from convert.errors import UsageProblem

    if not math.isfinite(atol):
        raise UsageProblem(f"--atol {atol}: a bound has to be a finite number.")
    if candidate_key is not None and candidate is None:
        raise UsageProblem("--candidate-key goes with --candidate. Add it, or leave it out.")
    trace = trace_file.read(trace_path)
    alignment = alignment_named(trace.family)
    judged = alignment.read_candidate(candidate, candidate_key, trace.config) if candidate else None
    if judged is not None:
        say(str(candidate), judged.notes)
    case = gate.case_of_trace(trace, alignment, judged.tensors if judged else None)
    with progress_line() as progress:
        return gate.check(trace, case, atol=atol, progress=progress)


def _print(result: TraceResult, *, to_stderr: bool) -> None:
    from align.render import gate_lines
    from align.trace.render import HEADERS, rows, verdict_line
    from convert.commands.tables import print_table

    with contextlib.redirect_stdout(sys.stderr) if to_stderr else contextlib.nullcontext():
        if result.points:
            print_table(HEADERS, rows(result), title=result.name)
        print("\n".join([*gate_lines(result.gates), verdict_line(result)]))
