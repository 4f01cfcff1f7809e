"""The audit's report in words, for the page and for Markdown alike. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from convert.files.sets import TOP
from reports.data.cifar10 import Origin
from reports.render.environment import Environment
from reports.render.report import AuditReport
from reports.score.accuracy import Accuracy, Comparison, Interval
from reports.score.evaluation_report import InFloat32
from reports.score.published import PublishedFigure
from reports.score.records import EngineUse, WeightsIdentity

Facts = Iterator[tuple[str, str]]

MEANINGS = {
    "consistent with": "The published figure lies in the interval of what was measured.",
    "above": "More was measured than published: the published figure lies below the interval.",
    "below": "Less was measured than published: the published figure lies above the interval.",
    "not comparable": "What was measured is not what the published figure is about.",
}
VERIFY = (
    "mixer-report verify recomputes every hash and every statistic from the per-image file. It shows that a bundle is "
    "whole and agrees with itself; that these predictions come from these weights and images, only a rerun shows "
    "(mixer-report verify --rerun)."
)


def statistics(accuracy: Accuracy, figure: PublishedFigure | None, timm: Comparison | None) -> Facts:
    """Yield the name and value of each statistic."""
    yield "correct", f"{accuracy.correct:,} of {accuracy.total:,} = {accuracy.percent:.2f} %"
    yield "95 % interval (Wilson)", _interval(accuracy.wilson)
    yield "95 % interval (Clopper-Pearson)", _interval(accuracy.clopper_pearson)
    yield "loss (mean cross-entropy)", f"{accuracy.loss:.4f}"
    if figure:
        yield "published", f"{figure.percent:.2f} % over {figure.counted:,} of {figure.of:,} images"
        yield "published where", f"{figure.source}, {figure.locator}"
        yield "its recipe", figure.recipe
        yield "its remark", figure.remark
    if timm:
        yield "timm on the same images", f"{timm.disagreements:,} disagreements"
        alone = f"{timm.only_here} right in Paddle alone, {timm.only_there} in timm alone"
        yield "McNemar, exact", f"p = {timm.mcnemar_p:.3g} ({alone})"
        yield "largest logit difference", f"{timm.max_logit_diff:.1e}"


def identity_facts(report: AuditReport) -> Facts:
    """Yield the facts that identify the weights and the images, and how they were run."""
    yield from weights_facts("fine-tuned weights", report.weights)
    yield from weights_facts("upstream's checkpoint", report.source)
    upstream = report.weights.upstream
    yield "upstream", f"{upstream}, says {report.weights.known_from}" if upstream else "unknown"
    yield "lineage", report.lineage.sentence
    yield from images_facts(report.data)
    yield "preprocessing", report.preprocessing.said
    if report.accept_preprocessing:
        yield "preprocessing accepted", "whatever the published row's is (--accept-preprocessing)"
    if report.accept_rounding:
        yield "rounding accepted", "the gates' verdict `rounding` counts as passed (--accept-rounding)"
    yield "engine", engine_said(report.engine)
    yield from (("attached", name) for name in report.attached)


def environment_facts(environment: Environment) -> Facts:
    """Yield the facts about where and how the audit ran."""
    git = environment.git
    if git:
        yield "our commit", git.commit + (", with uncommitted changes" if git.dirty else "")
    else:
        yield "our commit", "not run from a checkout"
    yield "command line", " ".join(environment.command_line)
    yield "versions", ", ".join(f"{name} {found}" for name, found in environment.versions.items() if found)
    shown = ("git", "command_line", "versions", "schema")
    yield from _flat({key: value for key, value in asdict(environment).items() if key not in shown})


def weights_facts(name: str, weights: WeightsIdentity) -> Facts:
    """Yield the facts that identify the weights."""
    yield name, f"{weights.name} ({weights.dtype})"
    if weights.weights_key is not None:
        yield f"{name}: set", "the outermost" if weights.weights_key == TOP else weights.weights_key
    yield from ((f"{name}: note", note) for note in weights.notes)
    yield f"{name}: fingerprint", weights.fingerprint
    if weights.sha256 is not None:
        yield f"{name}: file SHA-256", weights.sha256


def images_facts(data: Origin) -> Facts:
    """Yield the facts that identify the images."""
    whose = "the canonical archive" if data.canonical else "not the canonical archive"
    yield "images", f"{data.name}, {data.split} split, {data.version} version, {whose}"
    if data.sha256:
        yield "images: archive SHA-256", data.sha256
    yield "images: pixels' SHA-256", data.images_sha256


def comparison_said(comparison: Comparison) -> str:
    """Return how two models differ, in words."""
    return (
        f"{comparison.disagreements:,} disagreements, {comparison.only_here} right here alone, {comparison.only_there} "
        f"there alone, McNemar exact p = {comparison.mcnemar_p:.3g}, largest logit difference "
        f"{comparison.max_logit_diff:.1e}"
    )


def float32_said(found: InFloat32, total: int) -> str:
    """Return the accuracy of float32 on the same images, and how it differs, in words."""
    return f"{found.correct:,} of {total:,} = {found.percent:.2f} %: {comparison_said(found)}"


def engine_said(engine: EngineUse) -> str:
    """Return how the logits were computed, in words."""
    text = f"{engine.name}, {engine.threads} threads, batches of {engine.batch_size}"
    if check := engine.first_batch:
        text += f"; first batch within {check.max_abs_diff:.1e} of the eager model (bound {check.bound:.1e})"
    return text


def _interval(interval: Interval) -> str:
    low, high = interval
    return f"{low:.2f} to {high:.2f} %"


def _flat(values: Mapping[str, object], prefix: str = "") -> Facts:
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif value is not None:
            yield name, str(value)
