"""The end of a fine-tuning: the final weights with their manifest, evaluated on the test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from align.probes.environment import environment
from convert import files
from convert.arrays import StateDict, fingerprint, tensor_sha256s, total_bytes
from convert.disk.hashing import file_sha256
from convert.errors import IntegrityProblem
from convert.evidence.manifest import describe_output
from convert.files.sets import TOP
from convert.output import write_with_manifest
from reports.score.engines import choose_engine
from reports.score.evaluate import Evaluation, EvaluationSettings, Progress, evaluate
from reports.score.parallel import Group
from reports.score.predictions import write_predictions
from reports.score.published import PublishedFigure, published_figures
from reports.train.job import Job
from reports.train.run_folder import EVALUATION, FINAL, PREDICTIONS, RunFolder

MANIFEST_SCHEMA = "mixer-report/finetuned/1"


def finish(
    job: Job,
    state_dict: StateDict,
    folder: RunFolder,
    group: Group,
    show: Callable[[int], AbstractContextManager[Progress]],
) -> Evaluation:
    """Write the weights, their manifest, the predictions and the evaluation on the test images; return the last."""
    sha256s = tensor_sha256s(state_dict)
    origin = f"fine-tuned from {job.weights.name}, whose upstream was known from {job.weights.known_from}"
    tuned = replace(
        job.weights,
        state_dict=state_dict,
        name=FINAL,
        sha256=None,
        fingerprint=fingerprint(sha256s),
        known_from=origin,
        weights_key=None,
        port=None,
    )
    if group.first:
        _write_weights(job, state_dict, sha256s)
    settings = EvaluationSettings(
        preprocessing=job.preprocessing,
        figure=_figure(job),
        engine=choose_engine("auto", job.device),
        device=job.device,
        batch_size=min(job.recipe.micro_batch, 64),
        workers=job.workers,
    )
    with show(group.images(len(job.test.labels), settings.batch_size)) as progress:
        evaluation = evaluate(tuned, job.test, settings, group=group, progress=progress)
    if group.first:
        write_predictions(job.out / PREDICTIONS, evaluation.predictions)
        folder.write_json(EVALUATION, evaluation.as_data())
    return evaluation


def _figure(job: Job) -> PublishedFigure | None:
    """Return the upstream's published row with the recipe's preprocessing, or else its first row, if it has any."""
    name = job.weights.upstream.name if job.weights.upstream else None
    rows = [figure for figure in published_figures() if figure.upstream == name]
    same = [row for row in rows if replace(row.preprocessing, reason="") == replace(job.preprocessing, reason="")]
    return next(iter([*same, *rows]), None)


def _write_weights(job: Job, state_dict: StateDict, sha256s: dict[str, str]) -> None:
    """Write the final weights, read them back, then write their manifest, which tells `evaluate` their upstream."""
    path, described = job.out / FINAL, dict[str, Any]()

    def check(written: Path) -> None:
        if tensor_sha256s(files.read(written)) != sha256s:
            raise IntegrityProblem(f"{path}: what was read back is not what was written. Check the disk.")
        described.update(
            describe_output(path, written, file_sha256(written), sha256s, total_bytes(state_dict.values()))
        )

    write_with_manifest(
        path,
        lambda stream: files.write(path, stream, state_dict),
        check,
        lambda: dict(_manifest(job, described, sha256s)),
        force=True,
    )


def _manifest(job: Job, described: dict[str, Any], sha256s: dict[str, str]) -> Iterator[tuple[str, Any]]:
    upstream = job.weights.upstream
    yield "schema", MANIFEST_SCHEMA
    yield "variant", upstream and {"name": upstream.name, "timm_id": upstream.timm_id, "note": upstream.note}
    yield "config", asdict(job.weights.config)
    yield "layouts", {"target": "paddle"}
    yield "weights_key", None if job.weights.weights_key == TOP else job.weights.weights_key
    yield "notes", list(job.weights.notes)
    yield "source", {"kind": "fine-tuned", **job.weights.as_data()}
    yield "recipe", {**job.recipe.as_data(), "sources": job.recipe.sources}
    yield "steps", job.length[0]
    yield "data", asdict(job.train.origin)
    yield "preprocessing", asdict(job.preprocessing)
    yield "output", described
    yield "tensors", [{"target": key, "target_sha256": sha256} for key, sha256 in sha256s.items()]
    yield "environment", environment()
    yield "command_line", job.command_line
