"""An audit's accuracy measured again from its inputs, and held against the bundle's predictions, image by image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.arrays import Array
from convert.errors import IntegrityProblem, UsageProblem
from convert.files.sets import Selection
from convert.request import Request
from reports.audit.verify import Bundle
from reports.data.cifar10 import first, read_cifar10
from reports.data.thumbnails import pixels
from reports.score.evaluate import EvaluationSettings, Progress, evaluate
from reports.score.weights import Weights, read_weights


def rerun(
    bundle: Bundle, *, weights: Path | None, data: Path | None, progress: Progress = lambda *_: None
) -> tuple[bool, str]:
    """Return whether the predictions are the bundle's, every one, and that in a sentence.

    Args:
        bundle: A verified bundle.
        weights: The fine-tuned file; None: where it was.
        data: The archive or folder; None: where it was.
        progress: Is told after every batch.

    Raises:
        IntegrityProblem: The weights or the images are others than the bundle's.
    """
    report, inputs = bundle.report, bundle.environment["inputs"]
    path, archive = weights or Path(inputs["weights"]), data or Path(inputs["data"])
    subject = _subject(path, report["weights"]["config"], inputs, moved=weights is not None)
    if subject.fingerprint != report["weights"]["fingerprint"]:
        raise _other(path, "fingerprint", subject.fingerprint, report["weights"]["fingerprint"])
    images = read_cifar10(archive, bundle.facts.origin.split)
    if images.origin.images_sha256 != report["data"]["images_sha256"]:
        raise _other(archive, "pixels' SHA-256", images.origin.images_sha256, report["data"]["images_sha256"])
    if images.origin.canonical is not report["data"]["canonical"] and report["data"]["canonical"]:
        raise IntegrityProblem(f"{archive}: it is not the canonical archive, which the bundle says it is. Pass that.")
    images = first(images, report["accuracy"]["total"])
    for image in report["uncertain"]:
        if not np.array_equal(pixels(image["png"]), images.images[image["index"]]):
            raise IntegrityProblem(f"{bundle.path}: report.json: image {image['index']} is not the archive's.")
    settings = EvaluationSettings(
        preprocessing=bundle.facts.preprocessing,
        engine=report["engine"]["name"],
        device=bundle.environment["device"],
        batch_size=report["engine"]["batch_size"],
    )
    return _compared(bundle, evaluate(subject, images, settings, progress=progress).predictions)


def _subject(path: Path, config: dict[str, Any], inputs: dict[str, Any], *, moved: bool) -> Weights:
    """Return the weights as the audit read them; another file may hold them under another name."""
    key, said = inputs["weights_key"], {name: config[name] for name in ("gelu", "layer_norm_eps")}
    request = Request(checkpoint=path, src=inputs["src"], selection=Selection(key=key), stated=said)
    try:
        return read_weights(request)
    except UsageProblem:
        if not moved:
            raise
        return read_weights(replace(request, selection=Selection()))


def _compared(bundle: Bundle, found: Any) -> tuple[bool, str]:
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
