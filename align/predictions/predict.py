"""Both sides' float32 logits over a user's own images, for the certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from align.core.result import LOGITS
from align.core.weights import in_float32, structure_findings
from align.predictions.certificate import Certificate, Prediction, certificate_of, predictions_of
from align.predictions.images import Image
from align.probes import paddle_probe
from align.run import PROBES, Progress, Subject, reference_model
from convert.arrays import Array
from convert.errors import BadInput
from convert.mixer.mapping import convert_state_dict

Forward = Callable[[Callable[[str, Array], None]], None]


def certify(
    subject: Subject,
    batches: Iterable[Sequence[Image]],
    *,
    build_candidate: Callable[..., Any] = paddle_probe.build,
    progress: Progress = lambda _: None,
) -> Certificate:
    """Return what the reference and the Paddle model predict on the images.

    Args:
        subject: The weights of both sides.
        batches: The images.
        build_candidate: Builds the Paddle model from a config and a float32 state dict.
        progress: Is told what is about to run.

    Raises:
        BadInput: The candidate's weights are of another structure, the head has a single class, or there is no image.
    """
    if subject.config.num_classes < 2:
        raise BadInput(
            f"{subject.name}: its head has one class, so there is nothing that a prediction could change to."
        )
    expected = convert_state_dict(subject.source, subject.config).state_dict
    weights = expected if subject.candidate is None else subject.candidate
    for finding in structure_findings(expected, weights):
        raise BadInput(f"the candidate does not fit: {finding.sentence}. Is it the right file?")
    progress("building both models")
    reference, candidate = reference_model(subject), build_candidate(subject.config, in_float32(weights))
    probe = PROBES[subject.reference]
    predictions: list[Prediction] = []
    for batch in batches:
        progress(f"{len(predictions)} images done")
        pixels = np.stack([image.pixels for image in batch])
        theirs = _logits(partial(probe.forward, reference, pixels, [LOGITS]))
        ours = _logits(partial(paddle_probe.forward, candidate, pixels))
        predictions += predictions_of([image.name for image in batch], theirs, ours)
    if not predictions:
        raise BadInput("there is no image to compare predictions on. Name image files or arrays.")
    return certificate_of(subject.name, predictions)


def _logits(forward: Forward) -> Array:
    found: dict[str, Array] = {}

    def keep(name: str, value: Array) -> None:
        if name == LOGITS:
            found[name] = value

    forward(keep)
    return found[LOGITS]
