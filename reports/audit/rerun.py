"""Run an audit again from its inputs, and compare the gates' figures and every prediction with the bundle's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from align.core.case import Settings as GateSettings
from align.core.result import AlignmentResult
from convert.arrays import Array
from convert.errors import IntegrityProblem, UsageProblem
from convert.files.sets import Selection
from convert.mixer.variants import get_variant
from convert.request import Request
from reports.audit.assemble import Aligning, alignments_of
from reports.audit.nearness import far_from
from reports.audit.verify import Bundle
from reports.data.cifar10 import first, read_cifar10
from reports.data.thumbnails import pixels
from reports.render.report import SUBJECTS, Subject
from reports.score.accuracy import Predictions
from reports.score.engines import choose_engine
from reports.score.evaluate import EvaluationSettings, Progress, evaluate
from reports.score.records import WeightsIdentity
from reports.score.weights import Weights, read_weights, reference_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunInputs:
    """Where the inputs are now, and the device to run on; None: as the bundle records them."""

    weights: Path | None = None
    checkpoint: Path | None = None
    data: Path | None = None
    device: str | None = None


def rerun(
    bundle: Bundle,
    inputs: RerunInputs,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda *_: None,
    aligning: Aligning = lambda *_: nullcontext(lambda _: None),
) -> Iterator[tuple[bool, str]]:
    """Rerun an audit; yield (same, sentence) for the gates' figures, within rounding, and for the predictions.

    Args:
        bundle: A verified bundle.
        inputs: Where to find what was audited.
        say: Called with what is about to run.
        progress: Called after every batch.
        aligning: Shows the progress of the gates.

    Raises:
        IntegrityProblem: The weights or the images are not the bundle's.
    """
    report = bundle.report
    weights = _weights(bundle, inputs)
    _check_same(inputs.weights or Path(bundle.environment.inputs.weights), weights, report.weights)
    source = _source(bundle, inputs, weights)
    _check_same(inputs.checkpoint or Path(bundle.environment.inputs.checkpoint), source, report.source)
    yield _gates(bundle, alignments_of(source, weights, GateSettings(), say, aligning))
    say("accuracy")
    yield _predictions(bundle, inputs, weights, progress)


def _gates(bundle: Bundle, again: Mapping[Subject, AlignmentResult]) -> tuple[bool, str]:
    for subject, title in SUBJECTS.items():
        if (far := far_from(bundle.facts.alignments[subject], again[subject])) is not None:
            return False, f"rerun: the gates of {title} give other figures: {far}."
    return True, "rerun: the gates of both ports give the bundle's figures within rounding."


def _predictions(bundle: Bundle, inputs: RerunInputs, weights: Weights, progress: Progress) -> tuple[bool, str]:
    report = bundle.report
    archive = inputs.data or Path(bundle.environment.inputs.data)
    images = read_cifar10(archive, bundle.facts.origin.split)
    if images.origin.images_sha256 != report.data.images_sha256:
        raise _other(archive, "pixels' SHA-256", images.origin.images_sha256, report.data.images_sha256)
    if images.origin.canonical is not report.data.canonical and report.data.canonical:
        raise IntegrityProblem(f"{archive}: it is not the canonical archive, which the bundle says it is. Pass that.")
    images = first(images, report.accuracy.total)
    for image in report.uncertain:
        if not np.array_equal(pixels(image.png), images.images[image.index]):
            raise IntegrityProblem(f"{bundle.path}: report.json: image {image.index} is not the archive's.")
    device = inputs.device or bundle.environment.device
    settings = EvaluationSettings(
        preprocessing=bundle.facts.preprocessing,
        engine=report.engine.name if device == bundle.environment.device else choose_engine("auto", device),
        device=device,
        batch_size=report.engine.batch_size,
    )
    return _compared(bundle, evaluate(weights, images, settings, progress=progress).predictions)


def _weights(bundle: Bundle, inputs: RerunInputs) -> Weights:
    """Return the weights as the audit read them; a file at another path may hold them under another key."""
    recorded, config = bundle.environment.inputs, bundle.report.weights.config
    said = {name: getattr(config, name) for name in ("gelu", "layer_norm_eps")}
    path = inputs.weights or Path(recorded.weights)
    request = Request(checkpoint=path, src=recorded.src, selection=Selection(key=recorded.weights_key), stated=said)
    return _read(request, moved=inputs.weights is not None)


def _source(bundle: Bundle, inputs: RerunInputs, weights: Weights) -> Weights:
    recorded, upstream = bundle.environment.inputs, bundle.report.weights.upstream
    path = inputs.checkpoint or Path(recorded.checkpoint)
    request = reference_of(weights, path, recorded.checkpoint_key, option="--checkpoint-key")
    variant = get_variant(upstream) if upstream else None
    request = replace(request, src=recorded.checkpoint_src, variant=variant)
    return _read(request, moved=inputs.checkpoint is not None)


def _read(request: Request, *, moved: bool) -> Weights:
    try:
        return read_weights(request)
    except UsageProblem:
        if not moved:
            raise
        return read_weights(replace(request, selection=Selection()))


def _check_same(path: Path, found: Weights, expected: WeightsIdentity) -> None:
    if found.fingerprint != expected.fingerprint:
        raise _other(path, "fingerprint", found.fingerprint, expected.fingerprint)
    if asdict(found.config) != asdict(expected.config):
        raise IntegrityProblem(f"{path}: its config is not the bundle's. Pass the right file.")


def _compared(bundle: Bundle, found: Predictions) -> tuple[bool, str]:
    expected = bundle.predictions
    if not np.array_equal(found.labels, expected.labels):
        raise IntegrityProblem(f"{bundle.path}: its labels are not the archive's. Do not trust the bundle.")
    changed = np.flatnonzero(found.predictions != expected.predictions)
    moved = max(_greatest(found.margins, expected.margins), _greatest(found.losses, expected.losses))
    said = "bit for bit" if moved == 0 else f"margins and losses within {moved:.1e}"
    if not len(changed):
        return True, f"rerun: all {len(found):,} predictions are the bundle's, {said}."
    listed = ", ".join(map(str, changed[:8])) + (", …" if len(changed) > 8 else "")
    return False, f"rerun: {len(changed):,} of {len(found):,} predictions differ (images {listed}), {said}."


def _greatest(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max())


def _other(path: Path, what: str, found: str, expected: str) -> IntegrityProblem:
    return IntegrityProblem(f"{path}: its {what} is {found[:16]}…, the bundle's {expected[:16]}…. Pass the right file.")
