"""An audit: the gates of both ports, the accuracy, the published row, and the bundle's files that record them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from align.core.case import Case
from align.core.case import Settings as GateSettings
from align.core.result import AlignmentResult
from align.core.weights import in_float32
from align.mixer.case import Subject as GateSubject
from align.mixer.case import case_of
from align.render.data import as_data
from align.run import align
from convert.arrays import StateDict, fingerprint, tensor_sha256s
from convert.engine import Conversion as Mapped
from convert.errors import BadInput, Unreadable, UsageProblem
from convert.evidence.manifest import Written, build_manifest
from convert.evidence.recorded import manifest_path
from convert.family import Port
from convert.mixer.mapping import convert_state_dict
from convert.mixer.rule_tables import Layout
from reports.audit.alignments import said_of
from reports.audit.bundle import ENVELOPE, NAME, Files, as_json, sha256
from reports.audit.derived import derived
from reports.audit.names import (
    ALIGNMENTS,
    CONVERSIONS,
    ENVIRONMENT,
    MANIFEST,
    PREDICTIONS,
    REPORT,
    names_of,
)
from reports.audit.provenance import environment_of
from reports.audit.records import NotOfItsForm, record_of
from reports.data.cifar10 import Cifar10
from reports.data.thumbnails import thumbnails
from reports.render.conversion import Manifest, StatedConversion
from reports.render.environment import Environment, Inputs
from reports.render.report import AuditReport, Facts, Subject, most_uncertain, report_of
from reports.score.evaluate import EvaluationSettings, Progress, evaluate
from reports.score.predictions import predictions_bytes
from reports.score.weights import SIZES, Weights

Data = dict[str, Any]
Aligning = Callable[[Case, GateSettings], AbstractContextManager[Callable[[str], None]]]
"""Opens a display of a case's progress, which yields a function to call with the gate that runs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audited:
    """What to audit, and how. source is in timm's layout, weights in Paddle's.

    attached: further files, by name. inputs: what a rerun needs. command_line: as the command was called.
    """

    source: Weights
    weights: Weights
    data: Cifar10
    settings: EvaluationSettings
    gates: GateSettings
    timm: bool = True
    accept_rounding: bool = False
    attached: Mapping[str, bytes]
    inputs: Inputs
    command_line: Sequence[str]


def audit(
    audited: Audited,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda *_: None,
    aligning: Aligning = lambda *_: nullcontext(lambda _: None),
) -> tuple[AuditReport, Files]:
    """Run an audit; return its report and all files of the bundle.

    Args:
        audited: What to audit.
        say: Called with what is about to run.
        progress: Called after every batch of images.
        aligning: Shows the progress of the gates.

    Raises:
        BadInput: The two files are not of one model.
        UsageProblem: The settings are not in float32, the precision that the gates check.
    """
    source, weights, settings = audited.source, audited.weights, audited.settings
    _refuse_other_precision(settings)
    check_pair(source, weights)
    manifest = _manifest(weights)
    alignments = alignments_of(source, weights, audited.gates, say, aligning)
    say("accuracy")
    against = replace(weights, state_dict=_in_timm(weights)) if audited.timm else None
    evaluation = evaluate(weights, audited.data, settings, against=against, progress=progress)
    conversions = _conversions(source, weights)
    facts = Facts(
        predictions=evaluation.predictions,
        weights=weights.identity,
        source=source.identity,
        manifest=manifest,
        conversions={subject: record_of(StatedConversion, data) for subject, data in conversions.items()},
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
    return report, _files(audited, report, facts, conversions)


def _files(audited: Audited, report: AuditReport, facts: Facts, conversions: Mapping[Subject, Data]) -> Files:
    environment, manifest = _environment(audited), audited.weights.manifest
    files = {
        **audited.attached,
        REPORT: as_json(asdict(report)),
        ENVIRONMENT: as_json(asdict(environment)),
        PREDICTIONS: predictions_bytes(Path(PREDICTIONS), facts.predictions),
        **{name: as_json(as_data(facts.alignments[subject])) for subject, name in ALIGNMENTS.items()},
        **{name: as_json(conversions[subject]) for subject, name in CONVERSIONS.items()},
        **({} if manifest is None else {MANIFEST: as_json(manifest)}),
    }
    sha256s = {name: sha256(content) for name, content in files.items()}
    return {**files, **derived(report, environment, facts.alignments, sha256s)}


def _manifest(weights: Weights) -> Manifest | None:
    """Return the manifest beside the weights, if there is one; anybody may have written it.

    Raises:
        Unreadable: A field that says what the weights are is missing, or of another type.
    """
    if weights.manifest is None:
        return None
    try:
        return record_of(Manifest, weights.manifest)
    except NotOfItsForm as wrong:
        beside = manifest_path(Path(weights.name))
        raise Unreadable(beside, f"it is no manifest of these weights ({wrong})", "Move it away.") from wrong


def _environment(audited: Audited) -> Environment:
    """Return the environment; to be called once the frameworks are loaded, since they set knobs of their own."""
    return environment_of(
        device=audited.settings.device,
        input_seed=audited.gates.input_seed,
        command_line=audited.command_line,
        inputs=audited.inputs,
    )


def _refuse_other_precision(settings: EvaluationSettings) -> None:
    if settings.precision != "float32":
        raise UsageProblem(f"An audit is in float32, not in {settings.precision}. Use evaluate.")


def alignments_of(
    source: Weights, weights: Weights, gates: GateSettings, say: Callable[[str], None], aligning: Aligning
) -> dict[Subject, AlignmentResult]:
    """Return the gates' results for the port of the upstream's checkpoint and for that of the fine-tuned weights."""
    subjects: dict[Subject, GateSubject] = {
        "source": _subject(source, source.state_dict),
        "finetuned": replace(_subject(weights, _in_timm(weights)), candidate=weights.state_dict),
    }
    alignments = dict[Subject, AlignmentResult]()
    for name, subject in subjects.items():
        say(f"alignment of {subject.name}")
        case = case_of(subject, gates)
        with aligning(case, gates) as told:
            alignments[name] = align(case, gates, progress=told)
    return alignments


def _in_timm(weights: Weights) -> StateDict:
    return in_float32(_mapped(weights, "timm").state_dict)


def _subject(weights: Weights, in_timm: StateDict) -> GateSubject:
    said = said_of(weights.identity)
    return GateSubject(source=in_timm, config=weights.config, name=weights.name, provenance=said)


def _conversions(source: Weights, weights: Weights) -> dict[Subject, Data]:
    """Return the manifests of both ports: the upstream's to Paddle, the fine-tuned one's back to timm."""
    return {
        "source": _conversion(source, read_as="timm", other="paddle"),
        "finetuned": _conversion(weights, read_as="paddle", other="timm"),
    }


def check_pair(source: Weights, weights: Weights) -> None:
    """Check that the fine-tuned file has the sizes of the upstream's, apart from the head.

    Raises:
        BadInput: It does not.
    """
    for name in SIZES:
        found, expected = getattr(weights.config, name), getattr(source.config, name)
        if found != expected:
            raise BadInput(
                f"{weights.name}: {name} is {found}, {source.name} has {expected}. Is it the checkpoint that was "
                "fine-tuned?"
            )


def attach(paths: Sequence[Path]) -> dict[str, bytes]:
    """Return the contents of further files for the bundle, such as a training log or a curve, by name.

    Raises:
        UsageProblem: A file's name is taken in the bundle, or not allowed in one.
    """
    attached: dict[str, bytes] = {}
    for path in paths:
        if not NAME.fullmatch(path.name) or path.name in {*attached, *names_of(manifest=True), ENVELOPE}:
            raise UsageProblem(f"--attach {path}: a bundle cannot hold a file of this name. Rename it.")
        attached[path.name] = path.read_bytes()
    return attached


def _mapped(weights: Weights, dst: Layout) -> Mapped:
    port = _port(weights)
    return convert_state_dict(port.source.state_dict, weights.config, src=port.layout, dst=dst, name=weights.name)


def _conversion(weights: Weights, *, read_as: Layout, other: Layout) -> Data:
    """Return the manifest of an in-memory conversion from the file's layout to read_as or, if it is that, to other."""
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
    return build_manifest(written, conversion, layout=port.layout, said=said, notes=port.notes, command_line=[])


def _port(weights: Weights) -> Port:
    if weights.port is None:
        raise ValueError(f"{weights.name}: these weights were not read by read_weights")
    return weights.port
