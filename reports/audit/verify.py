"""A bundle checked: every hash, then every statistic again from the per-image file, then all that follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import IntegrityProblem, Unreadable
from convert.files import strict_json
from convert.mixer.variants import get_variant
from reports.audit.assemble import MANIFEST, PREDICTIONS, RENDERED, STATEMENT, as_json, derived, names_of
from reports.audit.bundle import ENVELOPE, Files, read_bundle
from reports.audit.rejudge import contradiction
from reports.data.cifar10 import ARCHIVE_SHA256, CLASSES
from reports.data.thumbnails import pixels
from reports.render.report import SUBJECTS, Facts, conversion_fingerprints, facts_of, report_of
from reports.score.accuracy import Predictions
from reports.score.predictions import parse_predictions

Data = dict[str, Any]
RTOL = 1e-9
"""Of floating-point statistics that another NumPy or SciPy computes; counts have to be equal."""
ADVICE = "Get the bundle again, or audit again."


class Bundle:
    """A verified bundle: its report, environment, predictions and facts; `signature.check` is about its envelope."""

    def __init__(self, path: Path) -> None:
        """Read and verify a bundle.

        Raises:
            IOProblem: There is no such folder.
            BadInput: It holds what no bundle holds (`read_bundle`).
            IntegrityProblem: A file was changed, removed or added, or says what does not follow from the others.
        """
        self.path = path
        files = read_bundle(path)
        self.envelope = files.pop(ENVELOPE, None)
        try:
            self._check(files)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, OSError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise IntegrityProblem(f"{path}: its files are not of the form of a bundle ({detail}). {ADVICE}") from error
        self.statement = files[STATEMENT]

    def _check(self, files: Files) -> None:
        others = {
            name.removesuffix(".json"): strict_json.parse(content) for name, content in files.items() if _is_own(name)
        }
        self.report, self.environment = others["report"], others["environment"]
        self._check_names(files)
        for name in (name for name in files if _is_own(name)):
            if files[name] != as_json(others[name.removesuffix(".json")]):
                raise self._problem(name, "it is not written as we write it")
        self.predictions = self._read_predictions(files)
        self.facts = facts_of(self.report, self.predictions, others)
        self._check_identity(self.facts)
        self._check_alignments(self.facts.alignments)
        if (where := difference(report_of(self.facts), self.report)) is not None:
            raise self._problem("report.json", f"{where} is not what follows from the other files")
        for image in self.report["uncertain"]:
            pixels(image["png"])
        self._check_derived(files)

    def _check_names(self, files: Files) -> None:
        attached = self.report["attached"]
        expected = names_of(manifest=self.report["lineage"]["manifest"]) | set(attached)
        if missing := sorted(expected - files.keys()):
            raise self._problem(missing[0], "it is missing, and so is its checksum")
        if extra := sorted(files.keys() - expected):
            raise self._problem(extra[0], "it was added with a checksum; a bundle has no such file")

    def _read_predictions(self, files: Files) -> Predictions:
        try:
            found = parse_predictions(self.path / PREDICTIONS, files[PREDICTIONS])
        except Unreadable as error:
            raise IntegrityProblem(str(error)) from error
        answers = [found.labels, found.predictions]
        answers += [] if found.reference_predictions is None else [found.reference_predictions]
        if not len(found) or any(a.min() < 0 or a.max() >= len(CLASSES) for a in answers):
            raise self._problem(PREDICTIONS, "it has no images, or a class out of range")
        figures = [found.margins, found.losses, *([] if found.logit_diffs is None else [found.logit_diffs])]
        if not all(np.isfinite(figure).all() and (figure >= 0).all() for figure in figures):
            raise self._problem(PREDICTIONS, "a margin, loss or difference is negative or not finite")
        return found

    def _check_identity(self, facts: Facts) -> None:
        """Check that weights, conversions, manifest and archive name each other by the right hashes."""
        report, said = self.report, {"source": facts.source, "finetuned": facts.weights}
        for subject in SUBJECTS:
            conversion = facts.conversions[subject]
            stated = (conversion["source"]["fingerprint"], conversion["output"]["fingerprint"])
            if stated != conversion_fingerprints(conversion) or conversion["config"] != said[subject]["config"]:
                raise self._problem(f"conversion-{subject}.json", "its fingerprints are not those of its tensors")
            if conversion["source"]["sha256"] != said[subject]["sha256"]:
                raise self._problem("report.json", f"SHA-256 of {subject} is not that of its conversion")
            if facts.alignments[subject]["settings"]["config"] != conversion["config"]:
                raise self._problem(f"alignment-{subject}.json", "it is about another model")
        fingerprints = {name: conversion_fingerprints(facts.conversions[name]) for name in SUBJECTS}
        if facts.source["fingerprint"] not in fingerprints["source"]:
            raise self._problem("report.json", "fingerprint of source is not that of its conversion")
        if facts.weights["fingerprint"] not in fingerprints["finetuned"]:
            raise self._problem("report.json", "fingerprint of weights is not that of their conversion")
        origin = report["data"]
        if origin["sha256"] and origin["canonical"] != (origin["sha256"] == ARCHIVE_SHA256[origin["version"]]):
            raise self._problem("report.json", "data.canonical does not follow from the archive's hash")
        if facts.manifest is not None:
            self._check_manifest(facts.manifest, fingerprints["finetuned"][0])

    def _check_manifest(self, manifest: Data, fingerprint: str) -> None:
        if manifest["output"]["fingerprint"] != fingerprint:
            raise self._problem(MANIFEST, "it is about other weights")
        named = (manifest.get("variant") or {}).get("name")
        if (manifest.get("source") or {}).get("kind") == "random":
            expected = None
        else:
            expected = get_variant(named).name if named else self.report["weights"]["upstream"]
        if self.report["weights"]["upstream"] != expected:
            raise self._problem("report.json", f"weights.upstream is not what {MANIFEST} says")

    def _check_alignments(self, alignments: Mapping[str, Data]) -> None:
        for subject, data in alignments.items():
            if (wrong := contradiction(data)) is not None:
                raise self._problem(f"alignment-{subject}.json", wrong)

    def _check_derived(self, files: Files) -> None:
        facts = self.facts
        alignments = {name: facts.alignments[name] for name in SUBJECTS}
        others = {name: content for name, content in files.items() if name not in (*RENDERED, STATEMENT)}
        again = derived(self.report, self.environment, alignments, others)
        for name, content in again.items():
            if files[name] != content:
                made = self.environment["versions"]["mixer-convert"]
                raise self._problem(name, f"it does not follow from report.json (made by mixer-convert {made})")

    def _problem(self, name: str, what: str) -> IntegrityProblem:
        return IntegrityProblem(f"{self.path}: {name}: {what}. {ADVICE}")


def difference(expected: Any, found: Any, where: str = "") -> str | None:
    """Return the first place at which plain data is not as expected, or None; floats may differ in the last digits."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        if expected.keys() != found.keys():
            return where or "its list of entries"
        return _first(difference(expected[key], found[key], f"{where}.{key}".lstrip(".")) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return where
        return _first(difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(expected, found, strict=True)))
    if isinstance(expected, float) and type(found) in (float, int):
        return None if math.isclose(expected, found, rel_tol=RTOL, abs_tol=1e-300) else where
    return None if type(expected) is type(found) and expected == found else where


def _first(found: Iterable[str | None]) -> str | None:
    return next((where for where in found if where is not None), None)


def _is_own(name: str) -> bool:
    """Return whether a file is JSON that we wrote; an attached one may be anything."""
    return name.endswith(".json") and name in names_of(manifest=True) and name != STATEMENT
