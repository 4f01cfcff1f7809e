"""Record what a reference computes on one seeded batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from align.core.bounds import wide_bound
from align.core.case import Case, Settings
from align.core.inputs import images_sha256, in_precision
from align.core.lockstep import Side, WrongPoint, check_form, walk
from align.core.point import Point
from align.core.probe import Forward
from align.core.sketch import Sketch, distance, sketch, summary_distance
from align.probes import turn
from align.probes.environment import environment, ordinary
from align.trace.golden import GoldenTrace, TensorRecord
from align.trace.result import IDLE, PointRecord, compare_sketch
from align.trace.sketches import Sketches
from align.trace.twins import record_of_twins, source_of_twins
from convert.arrays import Array, StateDict, fingerprint, tensor_sha256s
from convert.errors import MixerConvertError

RECORDED_SOURCE = ("kind", "seed", "file", "sha256", "repo_id", "revision")
RECORDED_VERSIONS = ("mixer-convert", "numpy", "torch", "timm", "flax")
Progress = Callable[[str], None]


class Unrecordable(MixerConvertError):
    """A reference that is not the function it should be, so that there is no truth to record (exit 1)."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Sketches of the reference in float32 (narrow) and float64 (wide), and of the witness (truth), if there is one.

    recorded: The reference in float64, which goes on with the candidate's value wherever a difference is accepted.
    accepted: The candidate's sketches at those points.
    """

    narrow: Sketches
    wide: Sketches
    truth: Sketches | None
    recorded: Sketches
    accepted: Mapping[str, Sketch] = field(default_factory=dict)

    def point(self, name: str) -> PointRecord:
        """Return what a trace keeps of a point."""
        wide = self.wide.by_name[name]
        return PointRecord(
            sketch=self.recorded.by_name[name],
            float64_noise=None if self.truth is None else distance(wide, self.truth.by_name[name]),
            float32_noise=distance(wide, self.narrow.by_name[name]),
        )


def record(case: Case, settings: Settings, *, progress: Progress = lambda _: None) -> GoldenTrace:
    """Return what the reference computes on one seeded batch.

    Args:
        case: Holds the weights. Of its candidate only the names of modules and weights matter, where no family
            defines them, and the values at points whose difference is accepted.
        settings: Batch size, seed and kind of the images.
        progress: Called with a description of each step before it runs.

    Raises:
        Unrecordable: The reference departs from the NumPy witness in float64, or does not show the expected points,
            all finite; the models are not paired; or an accepted difference is larger than accepted, or is not needed.
    """
    case.check_drawn_by(settings)
    if case.unpaired:
        raise Unrecordable(f"{case.name}: {case.open_findings[0].sentence}. Run mixer-align on it first.")
    with turn.taken(), ordinary():
        seen = _observed(case, progress)
    _refuse_to_leave(case, seen)
    points = tuple(map(seen.point, seen.recorded.by_name))
    _refuse_idle(case, seen, points)
    provenance = case.settings["weights"] or {"kind": "file"}
    source = {key: provenance.get(key) for key in RECORDED_SOURCE} if case.family else source_of_twins(case)
    versions = environment()["versions"]
    return GoldenTrace(
        name=case.name,
        family=case.family,
        config=case.config,
        reference=case.settings["reference"],
        source=source,
        source_fingerprint=fingerprint(tensor_sha256s(case.reference.state_dict)),
        batch=settings.batch,
        input_seed=settings.input_seed,
        inputs=settings.inputs,
        input_sha256=images_sha256(case.inputs),
        versions={key: versions[key] for key in RECORDED_VERSIONS if key in versions},
        logits=tuple(seen.recorded.logits.tolist()),
        weights=_tensor_records(case.expected),
        points=points,
        twins=None if case.family else record_of_twins(case),
    )


def _observed(case: Case, progress: Progress) -> Observed:
    """Return the sketches of the reference in float32 and in float64, and those of the witness, if there is one."""
    probe, side = case.reference.probe, case.sides.reference
    narrow, wide = Sketches(case, side, "float32"), Sketches(case, side, "float64")
    truth = Sketches(case, "the NumPy witness", "float64") if case.witness else None
    recorded, accepted = wide, dict[str, Sketch]()
    progress("building the reference")
    with case.reference.used() as model, _tapped(case, model) as run:
        progress("float32: the reference")
        findings = narrow.run(walk(partial(run, case.inputs)))
        probe.cast(model, "float64")
        progress("float64: the reference" + (", then the NumPy witness" if truth else ""))
        findings += wide.run(walk(partial(run, in_precision(case.inputs, "float64"))))
        if case.accepted and not findings:
            progress("float64: the reference beside the candidate")
            recorded = Sketches(case, side, "float64")
            accepted = _beside_candidate(case, run, recorded)
    if truth and case.witness:
        findings += truth.run(case.witness(case.reference.state_dict, case.inputs))
    findings += narrow.not_finite() + wide.not_finite()
    if findings:
        raise Unrecordable(f"{case.name}: {findings[0].sentence}. There is nothing to record.")
    return Observed(narrow=narrow, wide=wide, truth=truth, recorded=recorded, accepted=accepted)


def _tapped(case: Case, model: object) -> AbstractContextManager[Forward]:
    return case.reference.probe.tapped(model, {point.name: point.reference for point in case.points})


def _beside_candidate(case: Case, run: Forward, recorded: Sketches) -> dict[str, Sketch]:
    """Sketch the reference, run on with the candidate's values where a difference is accepted; return their sketches.

    Without them, every later point would inherit the difference and have to be accepted too.
    """
    inputs, here = in_precision(case.inputs, "float64"), case.candidate.probe
    found: dict[str, Sketch] = {}

    def instead(point: Point, value: Array) -> Array | None:
        if (accepted := case.accepted.get(point.name)) is None:
            return None
        other = candidate.at(point.name)
        check_form(candidate.name, point, other, value.shape, "float64")
        apart = float(np.abs(other - value).max())
        if not apart <= accepted.bound:
            said = f"{case.sides.reference} and {candidate.name} lie {apart:.1e} apart"
            raise WrongPoint(point.name, f"{point.name}: {said}, and {accepted.bound:.1e} is accepted")
        found[point.name] = sketch(point.name, other)
        return other

    with ExitStack() as stack:
        model = stack.enter_context(case.candidate.used())
        here.cast(model, "float64")
        shows = stack.enter_context(here.tapped(model, {one.name: one.candidate for one in case.points}))
        candidate = stack.enter_context(closing(Side(case.sides.candidate, walk(partial(shows, inputs)))))
        if findings := recorded.run(walk(partial(run, inputs)), instead):
            raise Unrecordable(f"{case.name}: {findings[0].sentence}. Run mixer-align on it first.")
    return found


def _refuse_to_leave(case: Case, seen: Observed) -> None:
    if seen.truth is None:
        return
    for name, recorded in seen.wide.by_name.items():
        true = seen.truth.by_name[name]
        found = max(distance(recorded, true), summary_distance(recorded, true))
        bound = wide_bound(distance(recorded, seen.narrow.by_name[name])).bound(recorded.largest)
        if not found <= bound:
            raise Unrecordable(
                f"{case.name}: {name}: {case.sides.reference} is {found:.1e} away from the NumPy witness, bound "
                f"{bound:.1e}, so there is no truth to record. Run mixer-align on it first."
            )


def _refuse_idle(case: Case, seen: Observed, points: tuple[PointRecord, ...]) -> None:
    """Refuse an entry of [accepted] that no point needs; an entry for several points is needed if one needs it."""
    needed = {
        id(case.accepted[point.sketch.name])
        for point in points
        if point.sketch.name in seen.accepted
        and not compare_sketch(point, seen.accepted[point.sketch.name], "float64").passed
    }
    for name, accepted in case.accepted.items():
        if id(accepted) not in needed:
            raise Unrecordable(f"{case.name}: {name}: {IDLE}.")


def _tensor_records(expected: StateDict) -> tuple[TensorRecord, ...]:
    return tuple(
        TensorRecord(name=key, dtype=expected[key].dtype.name, shape=expected[key].shape, sha256=sha256)
        for key, sha256 in tensor_sha256s(expected).items()
    )
