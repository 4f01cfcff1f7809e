"""An audit: the gates of both ports, the accuracy, the published row, and the bundle's files that say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from align.core.case import Settings as GateSettings
from align.core.weights import in_float32
from align.mixer.case import Subject, case_of
from align.render.data import as_data
from align.run import align
from convert.arrays import StateDict, fingerprint, tensor_sha256s
from convert.engine import Conversion
from convert.errors import BadInput, UsageProblem
from convert.evidence.manifest import Written, build_manifest
from convert.family import Port
from convert.files import strict_json
from convert.mixer.mapping import convert_state_dict
from convert.mixer.rule_tables import Layout
from reports.audit.bundle import ENVELOPE, NAME, Files
from reports.audit.statement import statement_of
from reports.data.cifar10 import Cifar10
from reports.data.thumbnails import thumbnails
from reports.render.html import audit_html
from reports.render.markdown import audit_markdown
from reports.render.report import Facts, most_uncertain, report_of
from reports.score.evaluate import EvaluationSettings, Progress, evaluate
from reports.score.predictions import predictions_bytes
from reports.score.weights import SIZES, Weights

Data = dict[str, Any]
RENDERED = ("report.md", "report.html")
STATEMENT = "statement.intoto.json"
PREDICTIONS = "predictions.npz"
MANIFEST = "manifest-finetuned.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audited:
    """What is audited. source is read in timm's layout, weights in Paddle's; attached are further files, by name."""

    source: Weights
    weights: Weights
    data: Cifar10
    settings: EvaluationSettings
    gates: GateSettings
    timm: bool = True
    accept_rounding: bool = False
    attached: Mapping[str, bytes]


def audit(
    audited: Audited,
    environment: Data,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> tuple[Data, Files]:
    """Return the report and all files of the bundle.

    Args:
        audited: What is audited.
        environment: From `provenance.environment_of`.
        say: Is told what is about to run.
        progress: Is told after every batch of images.

    Raises:
        BadInput: The two files are not of one model.
        UsageProblem: The settings are not in float32, which the gates are about.
    """
    source, weights, settings = audited.source, audited.weights, audited.settings
    _refuse_other_precision(settings)
    check_pair(source, weights)
    in_timm = in_float32(_mapped(weights, "timm").state_dict)
    alignments = _alignments(audited, in_timm, say)
    say("accuracy")
    against = replace(weights, state_dict=in_timm) if audited.timm else None
    evaluation = evaluate(weights, audited.data, settings, against=against, progress=progress)
    facts = Facts(
        predictions=evaluation.predictions,
        weights=_loaded(weights.as_data()),
        source=_loaded(source.as_data()),
        manifest=weights.manifest,
        conversions=_conversions(source, weights),
        alignments=alignments,
        figure=settings.figure,
        preprocessing=settings.preprocessing,
        origin=audited.data.origin,
        engine=evaluation.engine,
        thumbnails=thumbnails(audited.data.images, most_uncertain(evaluation.predictions)),
        attached=sorted(audited.attached),
        accept_preprocessing=settings.accept_preprocessing,
        accept_rounding=audited.accept_rounding,
    )
    report = report_of(facts)
    return report, _files(report, facts, environment, audited.attached)


def _refuse_other_precision(settings: EvaluationSettings) -> None:
    if settings.precision != "float32":
        raise UsageProblem(f"An audit is in float32, not in {settings.precision}. Use evaluate.")


def _alignments(audited: Audited, in_timm: StateDict, say: Callable[[str], None]) -> dict[str, Data]:
    """Return the gates' plain data for the port of the upstream's checkpoint and for that of the fine-tuned weights."""
    source, weights = audited.source, audited.weights
    subjects = {
        "source": Subject(source=source.state_dict, config=source.config, name=source.name),
        "finetuned": Subject(source=in_timm, config=weights.config, name=weights.name, candidate=weights.state_dict),
    }
    alignments = {}
    for name, subject in subjects.items():
        say(f"alignment of {subject.name}")
        alignments[name] = _loaded(as_data(align(case_of(subject, audited.gates), audited.gates)))
    return alignments


def _conversions(source: Weights, weights: Weights) -> dict[str, Data]:
    """Return the manifests of both ports: the upstream's to Paddle, the fine-tuned one's back to timm."""
    return {
        "source": _conversion(source, read_as="timm", other="paddle"),
        "finetuned": _conversion(weights, read_as="paddle", other="timm"),
    }


def check_pair(source: Weights, weights: Weights) -> None:
    """Check that the fine-tuned file has the sizes of the upstream's, apart from the head.

    Raises:
        BadInput: It has not.
    """
    for name in SIZES:
        found, expected = getattr(weights.config, name), getattr(source.config, name)
        if found != expected:
            raise BadInput(
                f"{weights.name}: {name} is {found}, {source.name} has {expected}. Is it the checkpoint that was "
                "fine-tuned?"
            )


def attach(paths: Sequence[Path]) -> dict[str, bytes]:
    """Return further files for the bundle, a training log or a curve, by name.

    Raises:
        UsageProblem: A name that the bundle has already, or that it cannot have.
    """
    attached: dict[str, bytes] = {}
    for path in paths:
        if not NAME.fullmatch(path.name) or path.name in {*attached, *names_of(manifest=True), ENVELOPE}:
            raise UsageProblem(f"--attach {path}: a bundle cannot hold a file of this name. Rename it.")
        attached[path.name] = path.read_bytes()
    return attached


def names_of(*, manifest: bool) -> set[str]:
    """Return the names of the files that every bundle holds, without those that are attached."""
    parts = {f"{kind}-{subject}.json" for kind in ("alignment", "conversion") for subject in ("source", "finetuned")}
    own = {"report.json", "environment.json", PREDICTIONS, STATEMENT, *RENDERED, *parts}
    return {*own, MANIFEST} if manifest else own


def derived(report: Data, environment: Data, alignments: Mapping[str, Data], others: Files) -> Files:
    """Return the files that follow from the others: the rendered reports and the Statement.

    Args:
        report: report.json.
        environment: environment.json.
        alignments: An alignment's plain data per subject.
        others: All other files of the bundle, which the Statement names.
    """
    rendered = {
        "report.md": audit_markdown(report, environment, alignments),
        "report.html": audit_html(report, environment, alignments),
    }
    return {**rendered, STATEMENT: as_json(statement_of(report, alignments, {**others, **rendered}))}


def as_json(data: Any) -> bytes:
    """Return data as a file of JSON."""
    return json.dumps(data, indent=1, allow_nan=False).encode() + b"\n"


def _files(report: Data, facts: Facts, environment: Data, attached: Mapping[str, bytes]) -> Files:
    files = {
        **attached,
        "report.json": as_json(report),
        "environment.json": as_json(environment),
        PREDICTIONS: predictions_bytes(Path(PREDICTIONS), facts.predictions),
        **{f"alignment-{name}.json": as_json(data) for name, data in facts.alignments.items()},
        **{f"conversion-{name}.json": as_json(data) for name, data in facts.conversions.items()},
    }
    if facts.manifest is not None:
        files[MANIFEST] = as_json(facts.manifest)
    # What is rendered is rendered from what was written, as `verify` does it.
    return {**files, **derived(_loaded(report), _loaded(environment), facts.alignments, files)}


def _mapped(weights: Weights, dst: Layout) -> Conversion:
    port = _port(weights)
    return convert_state_dict(port.source.state_dict, weights.config, src=port.layout, dst=dst, name=weights.name)


def _conversion(weights: Weights, *, read_as: Layout, other: Layout) -> Data:
    """Return the manifest of a conversion in memory: from the file's layout to that it was read in, or to the other."""
    port = _port(weights)
    dst = other if port.layout == read_as else read_as
    conversion = _mapped(weights, dst)
    target = tensor_sha256s(conversion.state_dict)
    written = Written(
        source=port.source,
        described={"file": None, "fingerprint": fingerprint(target)},
        source_sha256s=tensor_sha256s({**port.source.state_dict, **port.source.dropped}),
        target_sha256s=target,
    )
    said = port.source.identity(weights.config, dst, weights.upstream, weights.weights_key)
    manifest = build_manifest(written, conversion, layout=port.layout, said=said, notes=port.notes, command_line=[])
    return _loaded(manifest)  # type: ignore[no-any-return]


def _port(weights: Weights) -> Port:
    if weights.port is None:
        raise ValueError(f"{weights.name}: these weights were not read by read_weights")
    return weights.port


def _loaded(data: Any) -> Any:
    """Return data as JSON gives it back."""
    return strict_json.parse(as_json(data))
