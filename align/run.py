"""Build both sides of a case, probe them and the witness on one batch, and judge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from align.core.bounds import Precision, Roundings
from align.core.case import Case, Settings
from align.core.inputs import images_sha256
from align.core.judgement import judge, with_section
from align.core.lockstep import ForwardFailed, Kept, Walk, lanes
from align.core.point import Point
from align.core.result import AlignmentResult, Finding, LayerRow, Section
from align.core.weights import Expected, expected_values, in_float32, structure_findings, weight_findings
from align.figures.layer_rows import evidence_of
from align.gates import determinism, output, redrawn, state, stress
from align.gates.forward import Measured, Measurement, Models, Progress, wide_reference
from align.gates.settings import settings_compared, with_remarks
from align.learning.gates import gradients_section, not_run, steps_section
from align.learning.recipes import RECIPES
from align.learning.training import BuildOptimizer
from align.probes import torch_probe, turn
from align.probes.environment import environment, ordinary
from convert.arrays import Array
from convert.errors import UsageProblem

LAST_NOT_RUN = (stress.NOT_RUN, state.NOT_RUN, redrawn.NOT_RUN)
NEVER_CALLED = "its module is never called"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen, before judgement; weights is None if they could not be compared."""

    structure: Sequence[Finding] = ()
    weights: Sequence[Finding] | None = None
    layers: tuple[LayerRow, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    sections: tuple[Section, ...] = (determinism.NOT_RUN, *output.not_run(), *LAST_NOT_RUN)


def align(
    case: Case,
    settings: Settings | None = None,
    *,
    build_optimizer: BuildOptimizer | None = None,
    progress: Progress = lambda _: None,
) -> AlignmentResult:
    """Return how a case's reference and candidate compare on its batch.

    Args:
        case: What is compared.
        settings: The bound, and which gates are wanted; None: the settings that the case was made with.
        build_optimizer: Builds the Paddle model's optimizer; Paddle's own by default.
        progress: Called with what is about to run.

    Raises:
        BadInput: `import torch` does not give PyTorch, or the reference is not one of its modules.
        UsageProblem: Gradients or training are wanted, but the reference is not a torch model.
    """
    settings = settings or case.wanted
    case.check_drawn_by(settings)
    _refuse_without_gradients(case, settings)
    case.reference.probe.check_framework()
    with turn.taken(), ordinary():
        result = _forward(case, settings, progress)
        sound = result.verdict in ("aligned", "rounding")
        for section in _training_sections(case, settings, build_optimizer, sound, progress):
            result = with_section(result, section)
    return result


def _forward(case: Case, settings: Settings, progress: Progress) -> AlignmentResult:
    """Return the result of the gates that are always run."""
    seen = _observe(case, settings, progress)
    left_out = {**case.left_out, **seen.left_out}
    judged = judge(evidence_of(seen.structure, seen.weights, seen.layers, case.sides, left_out))
    recipes = [asdict(recipe) for recipe in RECIPES] if settings.train_steps else []
    result = AlignmentResult(
        variant=case.name,
        sides=case.sides,
        gates=judged.gates,
        layers=seen.layers,
        verdict=judged.verdict,
        first_divergence=with_remarks(case, judged.first_divergence),
        left_out=left_out,
        input_sha256=images_sha256(case.inputs),
        settings={**asdict(settings), **case.settings, "recipes": recipes},
        environment=environment(),
        accepted=case.accepted,
    )
    for section in (*seen.sections, *settings_compared(case)):
        result = with_section(result, section)
    return result


def _refuse_without_gradients(case: Case, settings: Settings) -> None:
    if (settings.backward or settings.train_steps) and case.reference.probe is not torch_probe:
        raise UsageProblem(
            f"{case.name}: gradients and training are compared with torch only, not with {case.sides.reference}. Pass "
            "--reference timm, or leave out --backward and --train-steps."
        )


def _training_sections(
    case: Case, settings: Settings, build_optimizer: BuildOptimizer | None, sound: bool, progress: Progress
) -> Iterator[Section]:
    """Yield the gates of training that were asked for, on models of their own, untouched by any earlier gate."""
    if not sound:
        yield from not_run(wants_backward=settings.backward, train_steps=settings.train_steps)
        return
    if settings.backward:
        yield gradients_section(case, seed=settings.input_seed, progress=progress)
    if settings.train_steps:
        yield steps_section(case, settings, build_optimizer, progress)


def _observe(case: Case, settings: Settings, progress: Progress) -> Observation:
    """Return what is wrong with structure and weights and, if the structure allows it, the layers' figures."""
    if case.unpaired:
        return Observation(structure=case.open_findings)
    expected = expected_values(case.expected)
    structure = structure_findings(expected, case.candidate.state_dict, case.place)
    if structure:
        return Observation(structure=structure)
    progress("building the models")
    with lanes() as each, contextlib.ExitStack() as used:
        building = each.reference.submit(lambda: used.enter_context(case.reference.used()))
        candidate = used.enter_context(case.candidate.used())
        reference = building.result()
        case.reference.probe.check(reference)
        case.candidate.probe.check(candidate)
        weights = _weights(case, expected, candidate)
        held = state.Holdings(case, candidate, {} if weights else in_float32(case.candidate.state_dict))
        models = Models(case=case, reference=reference, candidate=candidate, lanes=each)
        return replace(_Measuring(models, settings, held, progress).run(), weights=weights)


def _weights(case: Case, expected: Mapping[str, Expected], candidate: Any) -> list[Finding]:
    """Return which weights are not as expected; the copies of the model's own are released on return."""
    held = case.candidate.probe.parameters(candidate)
    return weight_findings(expected, case.candidate.state_dict, held, case.place)


class _Measuring:
    """One batch through two built models, first in float32, then the same in float64; each gate as soon as possible."""

    def __init__(self, models: Models, settings: Settings, held: state.Holdings, progress: Progress) -> None:
        self._models, self._settings, self._held, self._progress = models, settings, held, progress
        self._roundings = Roundings()
        self._headline: Array | None = None

    def run(self) -> Observation:
        """Return the findings if there are any, else the figures of all points."""
        case, models = self._models.case, self._models
        compute = case.witness and partial(
            case.witness, case.reference.state_dict, case.inputs, self._roundings.note_size
        )
        witness = Kept(compute) if compute else None
        in32, repeated = self._in_float32(witness.first() if witness else wide_reference(case))
        with models.widened():
            sections: tuple[Section, ...] = (repeated, *self._of_output(in32))
            uncovered = _uncovered(models, in32.never_shown) if not in32.findings else []
        alone = stress.Stress(models)
        with models.tapped() as tapping, alone.watching():
            in64 = self._measurement("float64").run(tapping, witness.again() if witness else None, self._progress)
        findings = _unique([*in32.findings, *in64.findings])
        if findings:
            return Observation(structure=findings, sections=(*sections, *LAST_NOT_RUN))
        sections = (*sections, *self._at_last(alone))
        names = [name for name in in32.figures if name in in64.figures]
        layers = tuple(
            LayerRow(
                name=name,
                float64=in64.figures[name],
                float32=in32.figures[name],
                size=self._roundings.sizes.get(name),
                slack=self._roundings.slacks.get(name, 0.0),
            )
            for name in names
        )
        left_out = dict.fromkeys(in32.never_shown, NEVER_CALLED)
        return Observation(
            structure=[*uncovered, *in64.idle_acceptances, *_unequal(case)],
            layers=layers,
            left_out=left_out,
            sections=sections,
        )

    def _at_last(self, alone: stress.Stress) -> Iterator[Section]:
        """Yield the gates that need the models in float64; the last one leaves other weights in them."""
        self._progress("each layer alone")
        yield alone.section() if self._settings.stress else stress.LEFT_OUT
        self._progress("what changes with use")
        yield self._held.section("float64")
        self._progress("other weights")
        whole = self._roundings.whole(self._models.case.headline)
        yield redrawn.NOT_RUN if self._headline is None else redrawn.section(self._models, self._headline, whole)

    def _measurement(self, precision: Precision) -> Measurement:
        return Measurement(self._models.case, precision, self._settings.atol, self._roundings)

    def _in_float32(self, truth: Walk) -> tuple[Measured, Section]:
        """Return the figures, and the gate of the second run beside the first: not run if the first broke off."""
        with (
            self._models.tapped() as tapping,
            determinism.Repetition(self._models.case, tapping) as repetition,
        ):

            def observe(point: Point, reference: Array, candidate: Array) -> None:
                repetition.observe(point, reference, candidate)
                if point.name == self._models.case.headline:
                    self._headline = candidate

            measured = self._measurement("float32").run(tapping, truth, self._progress, observe)
            return measured, determinism.NOT_RUN if measured.findings else repetition.section()

    def _of_output(self, measured: Measured) -> tuple[Section, Section]:
        if measured.findings or self._headline is None:
            return output.not_run()
        rounding = self._roundings.found[self._models.case.headline]
        batch = output.batch_section(self._models, self._headline, rounding, self._settings)
        return output.output_section(self._models, self._headline), batch


def _unequal(case: Case) -> Iterator[Finding]:
    """Yield findings about returned values that no bound judges: whole numbers that differ, values of one side only."""
    for name, how in case.unequal.items():
        yield Finding(layer=name, sentence=how, is_open=True)


def _uncovered(models: Models, never_shown: Sequence[str]) -> list[Finding]:
    """Return findings on parameters that no compared point covers and that do not affect what the candidate returns."""
    case = models.case
    out = {*case.left_out, *never_shown}
    doubtful = {key for key in case.candidate.state_dict if case.place(key) in out} | case.to_be_used
    names = frozenset(doubtful) - case.not_covered.keys()
    if not names:
        return []
    try:
        unused = case.candidate.probe.unused(models.candidate, case.inputs, names)
    except ForwardFailed as failed:
        return [Finding(layer=case.headline, sentence=f"{case.sides.candidate}: {failed}")]
    said = f"it has no part in what {case.sides.candidate} returns, so no point covers it"
    is_open = bool(case.to_be_used)
    return [Finding(layer=case.place(key), sentence=f"{key}: {said}", is_open=is_open) for key in unused]


def _unique(findings: Sequence[Finding]) -> list[Finding]:
    return list({finding.layer: finding for finding in findings}.values())
