"""An evaluation as a single HTML page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from convert.files.sets import TOP
from reports.data.thumbnails import thumbnails
from reports.render.page import page
from reports.render.report import most_uncertain
from reports.render.words import engine_said, preprocessing_said
from reports.score.evaluate import Evaluation

Facts = Iterator[tuple[str, str]]


def evaluation_html(evaluation: Evaluation, command_line: list[str]) -> bytes:
    """Return the page. Text of any origin is escaped, and only images may load.

    Args:
        evaluation: What was measured.
        command_line: As the command was called; its first two words stand above.
    """
    data = evaluation.as_data()
    report = {
        **data,
        "sentence": evaluation.finding.sentence,
        "timm": evaluation.comparison and asdict(evaluation.comparison),
        "uncertain": _uncertain(evaluation),
    }
    facts = [("command line", " ".join(command_line)), *_environment_facts(data["environment"])]
    tool = " ".join(command_line[:2])
    return page("evaluation.html.j2", report, tool=tool, identity=list(_identity_facts(data)), facts=facts)


def _uncertain(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the images of the smallest margins, each with its picture."""
    found = evaluation.predictions
    indices = most_uncertain(found)
    return [
        {
            "index": index,
            "label": int(found.labels[index]),
            "prediction": int(found.predictions[index]),
            "margin": float(found.margins[index]),
            "png": png,
        }
        for index, png in zip(indices, thumbnails(evaluation.data.images, indices), strict=True)
    ]


def _identity_facts(data: dict[str, Any]) -> Facts:
    """Yield which weights and which images these are."""
    for role, name in (("weights", "weights"), ("against", "timm's weights")):
        if (found := data[role]) is None:
            continue
        yield name, f"{found['name']} ({found['dtype']})"
        if found["weights_key"] is not None:
            yield f"{name}: set", "the outermost" if found["weights_key"] == TOP else found["weights_key"]
        yield from ((f"{name}: note", note) for note in found["notes"])
        yield f"{name}: fingerprint", found["fingerprint"]
        if found["sha256"] is not None:
            yield f"{name}: file SHA-256", found["sha256"]
    upstream = data["weights"]["upstream"]
    yield "upstream", f"{upstream}, says {data['weights']['known_from']}" if upstream else "unknown"
    origin = data["data"]
    canonical = "the canonical archive" if origin["canonical"] else "not the canonical archive"
    yield "images", f"{origin['name']}, {origin['split']} split, {origin['version']} version, {canonical}"
    yield "images: pixels' SHA-256", origin["images_sha256"]
    yield "preprocessing", preprocessing_said(data["preprocessing"])
    yield "engine", engine_said(data["engine"])


def _environment_facts(environment: dict[str, Any]) -> Facts:
    """Yield where it ran."""
    yield "versions", ", ".join(f"{name} {found}" for name, found in environment["versions"].items() if found)
    yield from ((name, str(environment[name])) for name in ("platform", "processor", "cpus", "device"))
    if knobs := environment["knobs"]:
        yield "knobs", ", ".join(f"{name}={value}" for name, value in knobs.items())
