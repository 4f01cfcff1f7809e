"""Both sides' float32 logits over a user's own images, for the certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from align.core.case import Case
from align.core.weights import expected_values, structure_findings
from align.predictions.certificate import Certificate, Prediction, certificate_of, predictions_of
from align.predictions.images import Image
from convert.errors import BadInput


def certify(
    case: Case, batches: Iterable[Sequence[Image]], *, progress: Callable[[str], None] = lambda _: None
) -> Certificate:
    """Return the certificate over what the reference and the Paddle model predict on the images.

    Args:
        case: The models; its own inputs play no part.
        batches: The images.
        progress: Called with what is about to run.

    Raises:
        BadInput: The candidate's weights are of another structure, the head has a single class, or there is no image.
    """
    if case.classes < 2:
        raise BadInput(f"{case.name}: its head has one class, so there is nothing that a prediction could change to.")
    for finding in structure_findings(expected_values(case.expected), case.candidate.state_dict, case.place):
        raise BadInput(f"the candidate does not fit: {finding.sentence}. Is it the right file?")
    progress("building both models")
    sides = [(side.probe, side.build()) for side in (case.reference, case.candidate)]
    predictions: list[Prediction] = []
    for batch in batches:
        progress(f"images: {len(predictions):,} done")
        pixels = np.stack([image.pixels for image in batch])
        reference, candidate = (probe.forward(model, pixels) for probe, model in sides)
        predictions += predictions_of([image.name for image in batch], reference, candidate)
    if not predictions:
        raise BadInput("there is no image to compare predictions on. Name image files or arrays.")
    return certificate_of(case.name, predictions)
