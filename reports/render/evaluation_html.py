"""An evaluation as a single HTML page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterator

from reports.data.thumbnails import thumbnails
from reports.render.page import Shown, page
from reports.render.report import most_uncertain, uncertain_images
from reports.render.words import engine_said, float32_said, images_facts, weights_facts
from reports.score.evaluate import Evaluation
from reports.score.records import Circumstances

Facts = Iterator[tuple[str, str]]


def evaluation_html(evaluation: Evaluation, command_line: list[str]) -> bytes:
    """Return the page. Text of any origin is escaped, and only images may load.

    Args:
        evaluation: What was measured.
        command_line: As the command was called; its first two words stand at the top of the page.
    """
    facts = [("command line", " ".join(command_line)), *_environment_facts(evaluation.report.environment)]
    tool, identity = " ".join(command_line[:2]), list(_identity_facts(evaluation))
    return page("evaluation.html.j2", _shown(evaluation), tool=tool, identity=identity, facts=facts)


def _shown(evaluation: Evaluation) -> Shown:
    report, found = evaluation.report, evaluation.predictions
    pictures = thumbnails(evaluation.data.images, most_uncertain(found))
    return Shown(
        verdict=report.verdict,
        sentence=report.sentence,
        limits=report.limits,
        finding=report.finding,
        accuracy=report.accuracy,
        published=report.published,
        timm=evaluation.comparison if evaluation.against else None,
        uncertain=uncertain_images(found, pictures),
        weights=report.weights,
    )


def _identity_facts(evaluation: Evaluation) -> Facts:
    """Yield the facts that identify the weights and the images, and how they were run."""
    weights = evaluation.weights.identity
    yield from weights_facts("weights", weights)
    if evaluation.against is not None:
        yield from weights_facts("timm's weights", evaluation.against.identity)
    yield "upstream", f"{weights.upstream}, says {weights.known_from}" if weights.upstream else "unknown"
    yield from images_facts(evaluation.data.origin)
    yield "preprocessing", evaluation.settings.preprocessing.said
    yield "engine", engine_said(evaluation.engine)
    if float32 := evaluation.in_float32:
        yield "in float32", float32_said(float32, evaluation.accuracy.total)


def _environment_facts(machine: Circumstances) -> Facts:
    """Yield the facts about where the evaluation ran."""
    yield "versions", ", ".join(f"{name} {found}" for name, found in machine.versions.items() if found)
    yield from ((name, str(getattr(machine, name))) for name in ("platform", "processor", "cpus", "device"))
    if machine.knobs:
        yield "knobs", ", ".join(f"{name}={value}" for name, value in machine.knobs.items())
