"""The candidate that is checked against a recorded trace: weights from a file, in our own model or in a user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.alignment import Say, alignment_named
from align.core.case import Case
from align.probes import paddle_probe
from align.trace.gate import case_of_trace
from align.trace.golden import GoldenTrace
from align.trace.twins import case_of_twins_trace, table_of
from align.twins.asked import read_candidate
from convert.arrays import StateDict
from convert.errors import UsageProblem
from convert.pairing.family import PairedFamily


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A file of Paddle weights, and which set of them; no file: the seeded weights, or those of a user's model.

    say: Called with the file's name and the assumptions made about it.
    """

    file: Path | None
    key: str | None = None
    say: Say = lambda *_: None


def case_to_check(trace: GoldenTrace, judged: Judged, model: Callable[[], Any] | None) -> Case:
    """Return the case for checking a candidate against a recorded trace; its reference is never run.

    Args:
        trace: The recorded trace.
        judged: The weights to judge.
        model: Returns the user's own Paddle model. It has to be None for a trace of a family, which has its own model.

    Raises:
        BadInput: The weights do not belong to such a model.
        UsageProblem: A model is missing or is not wanted, or nothing says which weights to judge.
    """
    if judged.key is not None and judged.file is None:
        raise UsageProblem("--candidate-key goes with --candidate. Add it, or leave it out.")
    if trace.twins is None:
        if model is not None:
            raise UsageProblem(
                f"{trace.name}: the trace is of the {trace.family} family, which has a model of its own. Leave "
                "--candidate-model out."
            )
        alignment = alignment_named(trace.family)
        source = alignment.read_candidate(judged.file, judged.key, trace.config) if judged.file else None
        if source is not None:
            judged.say(str(judged.file), source.notes)
        return case_of_trace(trace, alignment, source.tensors if source else None)
    if model is None:
        raise UsageProblem(
            f"{trace.name}: the trace is of a model of your own, and does not say where it is. Name it with "
            "--candidate-model."
        )
    family, held = PairedFamily(table_of(trace.twins)), None
    if judged.file is not None:
        held = read_candidate(judged.file, judged.key, family, judged.say).state_dict
    paddle_probe.imported()
    layer = model()
    return case_of_twins_trace(trace, layer, _own(trace, layer) if held is None else held)


def _own(trace: GoldenTrace, layer: Any) -> StateDict | None:
    """Return the model's weights if the trace was recorded with its own; else None: drawn again, or asked for."""
    if trace.source["kind"] != "own":
        return None
    paddle_probe.check(layer)
    return paddle_probe.parameters(layer)
